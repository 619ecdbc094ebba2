import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { IdIndex, mixed } from '../../../src/base/id-index.ts';
import { ChosenRoutes } from '../../../src/bgp/chosen.ts';
import { type ExportContext, exported, noAdvertise } from '../../../src/bgp/exporting.ts';
import { AttributeInterner } from '../../../src/bgp/intern.ts';
import { Pending } from '../../../src/bgp/pending.ts';
import { reflectedOctets } from '../../../src/bgp/reflecting.ts';
import { Rib, type Source } from '../../../src/bgp/rib.ts';
import type { Attributes } from '../../../src/bgp/wire/attributes.ts';
import { WireError } from '../../../src/bgp/wire/errors.ts';
import { readFrame } from '../../../src/bgp/wire/framing.ts';
import { readUpdate } from '../../../src/bgp/wire/update.ts';
import { writeAnnouncements } from '../../../src/bgp/wire/write-update.ts';
import { type Cidr, type Family, parseCidr, parseIp } from '../../../src/model/address.ts';
import { PrefixTable } from '../../../src/model/prefixes.ts';
import { attributes, cidr, ip4 } from './arbitraries.ts';

/* The packed structures against plain maps. */

test('an index finds what is in it and nothing else, whatever was removed and however hashes collide', () => {
  const step = fc.record({ id: fc.nat({ max: 80 }), add: fc.boolean() });
  fc.assert(
    fc.property(fc.array(step, { minLength: 200, maxLength: 400 }), fc.constantFrom(3, 17, 4096), (steps, buckets) => {
      const index = new IdIndex();
      const hashes = Int32Array.from({ length: 81 }, (_, id) => mixed(id) % buckets);
      const model = new Set<number>();
      for (const { id, add } of steps) {
        if (add === model.has(id)) continue;
        if (add) index.insert(id, hashes);
        else index.remove(id, hashes);
        if (add) model.add(id);
        else model.delete(id);
      }
      const found = (id: number) => {
        for (let at = (hashes[id] ?? 0) & index.mask; index.table[at] !== 0; at = (at + 1) & index.mask)
          if (index.table[at] === id + 1) return true;
        return false;
      };
      for (let id = 0; id <= 80; id++) expect(found(id)).toBe(model.has(id));
      expect(index.count).toBe(model.size);
    }),
    { numRuns: 60 },
  );
});

test.each([4, 6] as const)('IPv%i prefixes keep their identifiers while they are retained', (family) => {
  const step = fc.record({ prefix: cidr(family), keep: fc.boolean() });
  fc.assert(
    fc.property(fc.array(step, { maxLength: 300 }), (steps) => {
      const table = new PrefixTable(family);
      const model = new Map<Cidr, { readonly id: number; references: number }>();
      for (const { prefix, keep } of steps) {
        const known = model.get(prefix);
        expect(table.findCidr(prefix)).toBe(known?.id);
        if (keep) {
          const id = table.internCidr(prefix);
          table.retain(id);
          if (known) known.references++;
          else model.set(prefix, { id, references: 1 });
        } else if (known) {
          table.release(known.id);
          if (--known.references === 0) model.delete(prefix);
        }
      }
      expect(table.count).toBe(model.size);
      expect(new Set([...model.values()].map(({ id }) => id)).size).toBe(model.size);
      for (const [prefix, { id }] of model) expect(table.cidr(id)).toBe(prefix);
    }),
    { numRuns: 100 },
  );
});

describe('attributes', () => {
  const any = fc.constantFrom<Family>(4, 6).chain(attributes);

  test('come back as they were interned, equal ones as one, through any number of sweeps', () => {
    const step = fc.record({ value: fc.nat({ max: 19 }), keep: fc.boolean(), sweep: fc.boolean() });
    fc.assert(
      fc.property(
        fc.array(any, { minLength: 20, maxLength: 20 }),
        fc.array(step, { maxLength: 200 }),
        (values, steps) => {
          const interner = new AttributeInterner();
          const model = new Map<string, { readonly id: number; readonly value: Attributes; references: number }>();
          for (const { value: i, keep, sweep } of steps) {
            const value = values[i] ?? expect.fail('no such value');
            const key = JSON.stringify(sorted(value));
            const known = model.get(key);
            if (keep) {
              const id = interner.intern(value);
              interner.retain(id);
              if (known) expect(id).toBe(known.id);
              if (known) known.references++;
              else model.set(key, { id, value, references: 1 });
            } else if (known) {
              interner.release(known.id);
              if (--known.references === 0) model.delete(key);
            }
            if (sweep) interner.sweep();
          }
          interner.sweep();
          expect(interner.count).toBe(model.size);
          for (const { id, value } of model.values()) expect(interner.get(id)).toEqual(value);
        },
      ),
      { numRuns: 60 },
    );
  });

  test('thousands come and go in the same room', () => {
    const interner = new AttributeInterner();
    const plain = (med: number): Attributes => ({ origin: 'igp', asPath: [], nextHop: parseIp('192.0.2.1'), med });
    let before: number[] = [];
    for (let round = 0; round < 20; round++) {
      const ids = Array.from({ length: 2000 }, (_, i) => interner.intern(plain(round * 2000 + i)));
      for (const id of ids) interner.retain(id);
      for (const id of before) interner.release(id);
      interner.sweep();
      expect(interner.count).toBe(2000);
      expect(Math.max(...ids)).toBeLessThanOrEqual(4000);
      expect(ids.map((id) => interner.get(id).med)).toEqual(ids.map((_, i) => round * 2000 + i));
      before = ids;
    }
  });

  test('of an UPDATE are the same whether they are read or recognised', () => {
    const session = fc.record({ fourOctetAs: fc.boolean(), external: fc.boolean() });
    fc.assert(
      fc.property(attributes(4), session, session, (value, sender, codec) => {
        const families = new Set<Family>([4, 6]);
        const prefixes = [parseCidr('192.0.2.0/24')];
        const writer = {
          size: () => 4,
          write: (w: { bytes(b: Uint8Array): void }) => w.bytes(Uint8Array.of(24, 192, 0, 2)),
        };
        const [message] = writeAnnouncements(4, value, sender, prefixes, writer) ?? [];
        if (!message) return;
        const { body } = readFrame(message) ?? expect.fail('incomplete');
        const known = new AttributeInterner();
        // Whatever another session has made known, this one reads it in its own way.
        const read = () => readUpdate(body, codec, families);
        if (!isReadable(read)) return;
        readUpdate(body, { fourOctetAs: true, external: !codec.external }, families, known);
        const [first, again] = [readUpdate(body, codec, families, known), readUpdate(body, codec, families, known)];
        const plain = read();
        for (const update of [first, again]) {
          expect(update.withdrawn).toEqual(plain.withdrawn);
          expect(update.announced.map(({ attributes: found }) => found)).toEqual(
            plain.announced.map(({ attributes: found }) => found),
          );
          expect(update.faults).toHaveLength(plain.faults.length);
        }
      }),
      { numRuns: 300 },
    );
  });

  test('reflected as octets are what they are when reflected as values', () => {
    const sourceOf = (client: boolean): Source => ({
      name: 'peer',
      kind: 'ibgp',
      address: parseIp('10.0.0.2'),
      client,
      identifier: parseIp('10.9.9.9'),
    });
    const marked = attributes(4).chain((value) =>
      fc
        .constantFrom([], [noAdvertise], [0xffff0006], [0xffffff01])
        .map((more) =>
          more.length === 0 ? value : { ...value, communities: [...(value.communities ?? []), ...more] },
        ),
    );
    fc.assert(
      fc.property(
        marked,
        fc.boolean(),
        fc.boolean(),
        fc.boolean(),
        ip4,
        (value, fromClient, toClient, longLived, clusterId) => {
          const interner = new AttributeInterner();
          const source = sourceOf(fromClient);
          const context: ExportContext = {
            family: 4,
            asn: 64512,
            external: false,
            fourOctetAs: true,
            self: parseIp('10.0.0.1'),
            nextHopMode: 'auto',
            longLived,
            reflection: { clusterId, client: toClient },
          };
          const octets = reflectedOctets(interner.octets(interner.intern(value)), source, context);
          if (!octets) return;
          const expected = exported({ source, attributes: value, stale: false }, context);
          expect(interner.get(interner.internOctets(octets))).toEqual(expected);
        },
      ),
      { numRuns: 500 },
    );
  });
});

test('chosen routes and what is pending of them hold to a map, and let go of everything', () => {
  const step = fc.record({
    prefix: fc.nat({ max: 9 }),
    med: fc.nat({ max: 3 }),
    source: fc.nat({ max: 2 }),
    remove: fc.boolean(),
    told: fc.boolean(),
    take: fc.boolean(),
  });
  fc.assert(
    fc.property(fc.array(step, { maxLength: 120 }), (steps) => {
      const interner = new AttributeInterner();
      const rib = new Rib(4, interner, () => undefined);
      const chosen = new ChosenRoutes(rib);
      const pending = new Pending(rib.prefixes);
      const routes = new Map<number, readonly [number, number]>();
      const owed = new Map<number, boolean>();
      const sources = [1, 2, 3].map(
        (i): Source => ({ name: `${i}`, kind: 'ibgp', identifier: parseIp(`10.0.0.${i}`) }),
      );
      for (const { prefix, med, source, remove, told, take } of steps) {
        const id = rib.prefixes.internCidr(parseCidr(`10.0.${prefix}.0/24`));
        rib.prefixes.retain(id);
        const who = sources[source] ?? expect.fail('no such source');
        if (remove) {
          chosen.set(id, 0, 0);
          routes.delete(id);
        } else {
          const attributeId = interner.intern({ origin: 'igp', asPath: [], med });
          const sourceId = rib.sources.intern(who);
          chosen.set(id, attributeId, sourceId);
          routes.set(id, [attributeId, sourceId]);
        }
        pending.add(id, told);
        if (!owed.has(id)) owed.set(id, told);
        if (take) {
          const next = pending.take();
          const [first] = owed;
          expect([next, pending.told]).toEqual(first);
          owed.delete(next);
          rib.prefixes.release(next);
        }
        rib.prefixes.release(id);
        interner.sweep();
      }
      expect([...chosen.ids()].sort()).toEqual([...routes.keys()].sort());
      for (const [id, [attributeId, sourceId]] of routes)
        expect([chosen.attributes(id), chosen.source(id)]).toEqual([attributeId, sourceId]);
      const grouped = [...chosen.byAttributes()];
      expect([...grouped].sort()).toEqual([...routes.keys()].sort());
      const order = grouped.map((id) => chosen.attributes(id));
      expect(order).toEqual(order.toSorted((a, b) => a - b));
      for (const who of sources) {
        const sourceId = rib.sources.find(who);
        const count = [...routes.values()].filter(([, other]) => sourceId !== 0 && other === sourceId).length;
        expect(sourceId === 0 ? 0 : chosen.countOf(sourceId)).toBe(count);
        const others = grouped.filter((id) => chosen.source(id) !== sourceId);
        expect([...chosen.byAttributes(sourceId)]).toEqual(others);
        // As a whole into an empty one, or behind what is there.
        for (const before of [[], grouped.slice(0, 2)]) {
          const whole = new Pending(rib.prefixes);
          for (const id of before) whole.add(id, false);
          whole.addAll(chosen.byAttributes(sourceId), true);
          const taken: [number, boolean][] = [];
          whole.drain((id, told) => taken.push([id, told]));
          const rest = others.filter((id) => !before.includes(id));
          expect(taken).toEqual([...before.map((id) => [id, false]), ...rest.map((id) => [id, true])]);
        }
      }
      expect(pending.size).toBe(owed.size);
      pending.clear();
      for (const id of [...chosen.ids()]) chosen.set(id, 0, 0);
      interner.sweep();
      expect([interner.count, rib.prefixes.count, chosen.count]).toEqual([0, 0, 0]);
    }),
    { numRuns: 200 },
  );
});

/** Some octets end the session in a codec that they were not written for. */
function isReadable(read: () => unknown): boolean {
  try {
    read();
    return true;
  } catch (thrown) {
    if (thrown instanceof WireError) return false;
    throw thrown;
  }
}

function sorted(value: Attributes): object {
  return Object.fromEntries(Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1)));
}
