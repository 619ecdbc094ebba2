import fc from 'fast-check';
import { expect, test } from 'vitest';
import { AttributeInterner } from '../../../src/bgp/intern.ts';
import { AdjRibIn, Rib, type Source } from '../../../src/bgp/rib.ts';
import { hostCidr, ipFromNumber, parseIp } from '../../../src/model/address.ts';

/* A table that is larger than a slice: what is given up leaves little by little, whatever the peer says meanwhile. */

const size = 3000;
const prefixes = Array.from({ length: size }, (_, i) => hostCidr(ipFromNumber(0x0a000000n + BigInt(i), 4)));
const source: Source = { name: 'peer', kind: 'ibgp', identifier: parseIp('192.0.2.1') };
const other: Source = { ...source, name: 'other' };

const range = fc.record({ from: fc.nat({ max: size - 1 }), count: fc.nat({ max: size }), pref: fc.nat({ max: 2 }) });
const command = fc.oneof(
  { weight: 2, arbitrary: fc.record({ do: fc.constant('announce' as const), range }) },
  fc.record({ do: fc.constant('withdraw' as const), range }),
  fc.record({ do: fc.constantFrom('stale' as const, 'sweep' as const, 'clear' as const, 'rewrite' as const) }),
  { weight: 2, arbitrary: fc.record({ do: fc.constant('slice' as const) }) },
);

function attributesOf(pref: number) {
  return { origin: 'igp' as const, asPath: [], nextHop: parseIp('192.0.2.1'), localPref: 100 + pref };
}

test('what a peer told is kept, stale or given up as a plain map would have it, and leaves the table in slices', () => {
  let slices = 0;
  fc.assert(
    fc.property(fc.array(command, { minLength: 6, maxLength: 12 }), (commands) => {
      const interner = new AttributeInterner();
      const waiting: (() => void)[] = [];
      const background = (slice: (over: () => boolean) => boolean): void => {
        slices++;
        if (slice(() => true)) waiting.push(() => background(slice));
      };
      const rib = new Rib(4, interner, () => undefined, background);
      const adj = new AdjRibIn(source, rib);
      const ids = prefixes.map((prefix) => rib.prefixes.internCidr(prefix));
      for (const id of ids) rib.prefixes.retain(id);
      const numberOf = new Map(ids.map((id, i) => [id, i]));
      const bystander = new AdjRibIn(other, rib);
      for (const id of ids.slice(0, 10)) bystander.announce(id, interner.intern(attributesOf(0)));
      const model = new Map<number, { pref: number; stale: boolean }>();
      /** What a monitoring station knows, who hears of each route that is told, and of each that is swept as it leaves. */
      const monitored = new Set<number>();
      let left = 0;
      const leavers = {
        leaves: (id: number) => {
          left++;
          monitored.delete(numberOf.get(id) ?? expect.fail('no such prefix'));
        },
        over: () => {
          expect(left, 'routes of a slice').toBeLessThanOrEqual(1024);
          left = 0;
        },
      };
      const drained = () => {
        for (let next = waiting.shift(); next; next = waiting.shift()) next();
      };
      for (const item of commands) {
        if (item.do === 'announce' || item.do === 'withdraw') {
          const { from, count, pref } = item.range;
          for (let i = from; i < Math.min(size, from + count); i++) {
            const id = ids[i] ?? expect.fail('no such prefix');
            if (item.do === 'announce') {
              adj.announce(id, interner.intern(attributesOf(pref)));
              model.set(i, { pref, stale: false });
              monitored.add(i);
              continue;
            }
            adj.withdraw(id);
            monitored.delete(i);
            model.delete(i);
          }
        } else if (item.do === 'slice') waiting.shift()?.();
        else if (item.do === 'rewrite') {
          const last = interner.intern(attributesOf(9));
          // Those of a preference are unwilling.
          const unwilling = interner.intern(attributesOf(1));
          adj.rewriteStale(
            () => (id) => (id === unwilling ? undefined : last),
            () => undefined,
          );
          drained();
          for (const [i, route] of model) {
            if (route.stale && route.pref === 1) {
              model.delete(i);
              monitored.delete(i);
            } else if (route.stale) route.pref = 9;
          }
        } else {
          if (item.do === 'stale') adj.markStale();
          else if (item.do === 'sweep') adj.sweep(leavers);
          else adj.clear();
          // The end of a session says it all.
          if (item.do === 'clear') monitored.clear();
          else if (item.do === 'stale') for (const [i, { stale }] of model) if (stale) monitored.delete(i);
          for (const [i, route] of model) if (item.do === 'clear' || route.stale) model.delete(i);
          if (item.do === 'stale') for (const route of model.values()) route.stale = true;
        }
        const stale = [...model.values()].filter((route) => route.stale).length;
        expect([adj.count, adj.staleCount]).toEqual([model.size, stale]);
      }
      const kept = () =>
        [...adj.entries()].map(
          ([id, { attributes, stale }]) => `${numberOf.get(id)} ${(attributes.localPref ?? 0) - 100} ${stale}`,
        );
      const wanted = [...model].map(([i, { pref, stale }]) => `${i} ${pref} ${stale}`).sort();
      expect(kept().sort()).toEqual(wanted);
      drained();
      expect(kept().sort()).toEqual(wanted);
      expect([...monitored].sort()).toEqual([...model.keys()].sort());
      expect([...rib.ids()].reduce((sum, id) => sum + rib.candidates(id).length, 0)).toBe(model.size + bystander.count);
    }),
    { numRuns: 40 },
  );
  expect(slices).toBeGreaterThan(0);
});

test('generations come around: a peer that flaps hundreds of times faster than its routes leave loses none', () => {
  const interner = new AttributeInterner();
  const waiting: (() => void)[] = [];
  const background = (slice: (over: () => boolean) => boolean): void => {
    if (slice(() => true)) waiting.push(() => background(slice));
  };
  const rib = new Rib(4, interner, () => undefined, background);
  const adj = new AdjRibIn(source, rib);
  const ids = prefixes.map((prefix) => rib.prefixes.internCidr(prefix));
  const attributes = interner.intern(attributesOf(0));
  for (const id of ids) adj.announce(id, attributes);
  for (let flap = 0; flap < 600; flap++) {
    if (flap % 3 === 0) adj.clear();
    else adj.markStale();
    const id = ids[flap] ?? expect.fail('no such prefix');
    adj.announce(id, attributes);
  }
  adj.sweep();
  for (let next = waiting.shift(); next; next = waiting.shift()) next();
  expect(adj.count).toBe(1);
  expect([...rib.ids()]).toEqual([ids[599]]);
});
