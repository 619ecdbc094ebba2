import { describe, expect, test } from 'vitest';
import type { ExportContext } from '../../../src/bgp/exporting.ts';
import { AttributeInterner } from '../../../src/bgp/intern.ts';
import { Pace } from '../../../src/bgp/pacing.ts';
import { AdjRibIn } from '../../../src/bgp/rib.ts';
import type { Source } from '../../../src/bgp/sources.ts';
import { RouteTable } from '../../../src/bgp/table.ts';
import { type PrefixBlock, pathCidrsOf } from '../../../src/bgp/wire/nlri.ts';
import { readUpdate } from '../../../src/bgp/wire/update.ts';
import { parseCidr, parseIp } from '../../../src/model/address.ts';
import { ManualClock } from '../../support/manual-clock.ts';

/* The least time between advertisements: RFC 4271 §9.2.1.1. */

const context: ExportContext = {
  family: 4,
  asn: 64512,
  external: true,
  fourOctetAs: true,
  self: parseIp('10.0.0.1'),
  nextHopMode: 'self',
};
const local: Source = { name: 'local', kind: 'local', identifier: parseIp('0.0.0.0') };
const peer: Source = { name: 'tor', kind: 'ebgp', identifier: parseIp('10.0.0.2'), address: parseIp('10.0.0.2') };

/** A table with one peer, which is told of each change as `+prefix` or `-prefix`, and of an end-of-RIB as `end`. */
function paced(seconds: () => number, extra: Partial<ExportContext> = {}) {
  const clock = new ManualClock();
  const work: (() => void)[] = [];
  const turn = () => {
    for (let next = work.shift(); next; next = work.shift()) next();
  };
  const interner = new AttributeInterner();
  const nothing = () => undefined;
  const table = new RouteTable(
    4,
    {
      schedule: (next) => void work.push(next),
      interner,
      selected: nothing,
      settled: nothing,
      oversized: nothing,
    },
    false,
  );
  const told: string[] = [];
  const pace = new Pace(seconds, { clock, random: () => 1 }, () => table.resume());
  const form = {
    fourOctetAs: true,
    external: true,
    ...(extra.paths === undefined ? {} : { pathsReceived: [4] as const }),
  };
  const hear = (message: Uint8Array) => {
    const { announced, withdrawn, endOfRib } = readUpdate(message.subarray(19), form, new Set([4]));
    const names = (block: PrefixBlock) =>
      pathCidrsOf(block).map((item) => (typeof item === 'string' ? item : item.prefix));
    told.push(...announced.flatMap(({ block }) => names(block)).map((name) => `+${name}`));
    told.push(...withdrawn.flatMap(names).map((name) => `-${name}`));
    if (endOfRib) told.push('end');
  };
  const send = (chunks: readonly Uint8Array[]) => {
    for (const chunk of chunks)
      for (let at = 0; at < chunk.length; ) {
        const length = ((chunk[at + 16] ?? 0) << 8) | (chunk[at + 17] ?? 0);
        hear(chunk.subarray(at, at + length));
        at += length;
      }
  };
  table.join({ source: peer, send, writable: () => !pace.resting, pace }, { ...context, ...extra });
  const own = new AdjRibIn(local, table.rib);
  const attributes = { origin: 'igp', asPath: [], nextHop: parseIp('10.0.0.1') } as const;
  const { prefixes } = table.rib;
  return {
    announce: (prefix: string) => {
      own.announce(prefixes.internCidr(parseCidr(prefix)), interner.intern(attributes));
      turn();
    },
    withdraw: (prefix: string) => {
      own.withdraw(prefixes.findCidr(parseCidr(prefix)) ?? expect.fail('unknown'));
      turn();
    },
    wait: (milliseconds: number) => {
      clock.advance(milliseconds);
      turn();
    },
    heard: () => told.splice(0),
    turn,
    pace,
    clock,
  };
}

describe.each([
  { kind: 'one path of a prefix', extra: {} },
  { kind: 'several', extra: { paths: 'all' as const } },
])('a peer that is told $kind', ({ extra }) => {
  test('hears at once what it lacks, then only once in each interval, and no more than what came of it', () => {
    const table = paced(() => 5, extra);
    table.announce('10.0.1.0/24');
    expect(table.heard()).toEqual(['+10.0.1.0/24', 'end']);
    table.announce('10.0.2.0/24');
    table.announce('10.0.3.0/24');
    table.withdraw('10.0.3.0/24');
    table.withdraw('10.0.1.0/24');
    table.wait(4999);
    expect(table.heard()).toEqual([]);
    table.wait(1);
    expect(table.heard().sort()).toEqual(['+10.0.2.0/24', '-10.0.1.0/24']);
    table.wait(5000);
    table.announce('10.0.4.0/24');
    expect(table.heard()).toEqual(['+10.0.4.0/24']);
  });

  test('without an interval hears of each change', () => {
    const table = paced(() => 0, extra);
    table.turn();
    table.announce('10.0.1.0/24');
    table.withdraw('10.0.1.0/24');
    expect(table.heard()).toEqual(['end', '+10.0.1.0/24', '-10.0.1.0/24']);
    expect(table.clock.armed).toBe(0);
  });
});

test('the interval follows the configuration, and ends with the session', () => {
  let seconds = 0;
  const table = paced(() => seconds);
  table.announce('10.0.1.0/24');
  seconds = 5;
  table.announce('10.0.2.0/24');
  expect(table.heard()).toEqual(['+10.0.1.0/24', 'end', '+10.0.2.0/24']);
  expect(table.pace.resting).toBe(true);
  table.pace.stop();
  expect([table.pace.resting, table.clock.armed]).toEqual([false, 0]);
});

test('intervals have the jitter of three quarters to the whole', () => {
  const clock = new ManualClock();
  let over = 0;
  const pace = new Pace(
    () => 4,
    { clock, random: () => 0 },
    () => over++,
  );
  pace.rest();
  clock.advance(2999);
  expect(over).toBe(0);
  clock.advance(1);
  expect(over).toBe(1);
});
