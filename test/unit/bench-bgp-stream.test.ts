import fc from 'fast-check';
import { expect, test } from 'vitest';
import {
  addressOf,
  announcements,
  countOf,
  digestOf,
  everyTenth,
  hostRoutes,
  lengthOf,
  type RouteGroup,
  tableRoutes,
  withdrawals,
} from '../../bench/bgp/stream.ts';
import type { Attributes } from '../../src/bgp/wire/attributes.ts';
import { readFrame } from '../../src/bgp/wire/framing.ts';
import { readUpdate, type Update } from '../../src/bgp/wire/update.ts';

const nextHop = 0x0a630101;

/** What our own codec reads in a stream. */
function updatesIn(stream: Uint8Array): Update[] {
  const updates: Update[] = [];
  for (let at = 0; at < stream.length; ) {
    const frame = readFrame(stream, at);
    if (!frame) throw new Error(`the stream ends within a message at ${at}`);
    const update = readUpdate(frame.body, { fourOctetAs: true, external: false }, new Set([4]));
    expect(update.faults).toEqual([]);
    updates.push(update);
    at += frame.length;
  }
  return updates;
}

/** Prefixes of a run of NLRI, as hexadecimal text. */
function prefixesIn(octets: Uint8Array): string[] {
  const found: string[] = [];
  for (let at = 0; at < octets.length; ) {
    const end = at + 1 + Math.ceil((octets[at] ?? 0) / 8);
    found.push(Buffer.from(octets.subarray(at, end)).toString('hex'));
    at = end;
  }
  return found;
}

function announcedIn(updates: readonly Update[]): { prefix: string; attributes: Attributes }[] {
  return updates.flatMap(({ announced }) =>
    announced.flatMap(({ block, attributes }) => prefixesIn(block.octets).map((prefix) => ({ prefix, attributes }))),
  );
}

function withdrawnIn(updates: readonly Update[]): string[] {
  return updates.flatMap(({ withdrawn }) => withdrawn.flatMap((block) => prefixesIn(block.octets)));
}

test('host routes are consecutive /32s with one attribute set, in as few UPDATEs as hold them', () => {
  const stream = announcements(hostRoutes(1000, nextHop));
  const updates = updatesIn(stream);
  expect(updates).toHaveLength(2);
  const routes = announcedIn(updates);
  expect(routes.map(({ prefix }) => prefix)).toEqual(
    Array.from({ length: 1000 }, (_, i) => `20${(0x0a800000 + i).toString(16).padStart(8, '0')}`),
  );
  expect(routes[999]?.attributes).toMatchObject({ origin: 'igp', asPath: [], nextHop: '10.99.1.1', localPref: 100 });
});

test('a table has as many distinct prefixes as asked, without host bits, one attribute set for five of them', () => {
  const groups = tableRoutes(10_000, nextHop);
  const updates = updatesIn(announcements(groups));
  const routes = announcedIn(updates);
  expect(new Set(routes.map(({ prefix }) => prefix)).size).toBe(10_000);
  const sets = new Set(groups.map(({ attributes }) => Buffer.from(attributes).toString('hex')));
  expect(sets.size).toBe(groups.length);
  expect(groups.length).toBeGreaterThan(1_850);
  expect(groups.length).toBeLessThan(2_150);
  const lengths = new Set(groups.flatMap(({ prefixes }) => prefixes.map(lengthOf)));
  expect([...lengths].toSorted((a, b) => a - b)).toEqual([16, 17, 18, 19, 20, 21, 22, 23, 24, 32]);
  for (const prefix of groups.flatMap(({ prefixes }) => prefixes)) {
    const hostBits = 2 ** (32 - lengthOf(prefix));
    if (addressOf(prefix) % hostBits !== 0) expect.fail(`${prefix} has host bits`);
  }
});

test('no two prefixes of a table overlap, nor lie in reserved space', () => {
  const ranges = tableRoutes(5000, nextHop)
    .flatMap(({ prefixes }) => prefixes)
    .map((prefix) => ({ from: addressOf(prefix), to: addressOf(prefix) + 2 ** (32 - lengthOf(prefix)) }))
    .toSorted((a, b) => a.from - b.from);
  const overlapping = ranges.filter(({ to }, i) => to > (ranges[i + 1]?.from ?? 224 * 2 ** 24));
  expect(overlapping).toEqual([]);
  const firstOctets = new Set(ranges.map(({ from }) => Math.floor(from / 2 ** 24)));
  for (const reserved of [0, 10, 100, 127, 169, 172, 192, 198, 203]) expect(firstOctets).not.toContain(reserved);
});

test('a seed gives the same stream each time, another seed another one', () => {
  const streams = [1, 1, 2].map((seed) => Buffer.from(announcements(tableRoutes(500, nextHop, seed))).toString('hex'));
  expect(streams[0]).toBe(streams[1]);
  expect(streams[0]).not.toBe(streams[2]);
});

const arbitraryTable = fc
  .record({ count: fc.integer({ min: 1, max: 1000 }), seed: fc.integer({ min: 1, max: 2 ** 31 }) })
  .map(({ count, seed }) => tableRoutes(count, nextHop, seed));

test('what is announced is read back route by route, and withdrawals name the same prefixes', () => {
  fc.assert(
    fc.property(arbitraryTable, (groups: readonly RouteGroup[]) => {
      const announced = announcedIn(updatesIn(announcements(groups)));
      expect(announced).toHaveLength(countOf(groups));
      const withdrawn = withdrawnIn(updatesIn(withdrawals(groups)));
      expect(withdrawn).toEqual(announced.map(({ prefix }) => prefix));
    }),
    { numRuns: 20 },
  );
});

test('every tenth route is a tenth of the routes, with the attributes it had', () => {
  fc.assert(
    fc.property(arbitraryTable, (groups: readonly RouteGroup[]) => {
      const all = announcedIn(updatesIn(announcements(groups)));
      const tenth = announcedIn(updatesIn(announcements(everyTenth(groups))));
      expect(tenth).toEqual(all.filter((_, i) => i % 10 === 0));
    }),
    { numRuns: 20 },
  );
});

test('the digest depends on the prefixes and not on their order', () => {
  const [group] = hostRoutes(100, nextHop);
  const prefixes = group?.prefixes ?? [];
  const digest = (some: readonly number[]) => digestOf([{ attributes: new Uint8Array(), prefixes: some }]);
  expect(digest(prefixes.toReversed())).toBe(digest(prefixes));
  expect(digest(prefixes.slice(1))).not.toBe(digest(prefixes));
});
