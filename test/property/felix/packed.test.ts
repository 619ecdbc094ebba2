import fc from 'fast-check';
import { expect, test } from 'vitest';
import { FeedTable } from '../../../src/felix/calc/feed.ts';
import { gatewayRoute } from '../../../src/felix/calc/route.ts';
import { type Candidate, RouteTable, routeClasses } from '../../../src/felix/calc/routes.ts';
import type { Route } from '../../../src/kernel/types.ts';
import { type Cidr, type Ip, parseCidr, parseIp } from '../../../src/model/address.ts';
import type { FeedMessage } from '../../../src/model/feed.ts';

/* The packed tables are held to plain maps: whatever is said, both say the same. */

const prefixes = ['10.0.0.0/26', '10.0.0.0/27', '10.0.0.64/26', '0.0.0.0/0', 'fd00::/122', 'fd00::/64', '::/0'].map(
  (text) => parseCidr(text),
);
const destination = fc.constantFrom(...prefixes);
const gateway = fc.constantFrom(...['192.0.2.1', '192.0.2.2', 'fe80::1'].map((text) => parseIp(text)));

const wish: fc.Arbitrary<Candidate> = fc
  .record({
    class: fc.constantFrom(...routeClasses),
    // Its own name, as nearly all have, or another's.
    owner: fc.constantFrom(undefined, 'a', 'b'),
    preference: fc.constantFrom('', '2026-01-01'),
    to: destination,
    gateway,
  })
  .map(({ to, owner, preference, gateway: via, class: routeClass }) => ({
    class: routeClass,
    owner: owner ?? to,
    preference: owner === undefined ? '' : preference,
    route: gatewayRoute(to, [{ gateway: via }]),
  }));

const steps = fc.array(fc.record({ act: fc.constantFrom('add', 'add', 'remove', 'look'), wish }), { maxLength: 60 });

/** The first by class, then the greater preference, then the smaller owner. */
function best(wishes: readonly Candidate[]): Candidate | undefined {
  const rank = (one: Candidate) => routeClasses.indexOf(one.class);
  return wishes.toSorted(
    (a, b) =>
      rank(a) - rank(b) ||
      (a.preference === b.preference ? 0 : a.preference > b.preference ? -1 : 1) ||
      (a.owner < b.owner ? -1 : 1),
  )[0];
}

test('winners, counts and what changed are as of plain lists of wishes', () => {
  fc.assert(
    fc.property(steps, (list) => {
      const table = new RouteTable();
      const wishes = new Map<string, Candidate>();
      const winnerOf = (to: Cidr) => best([...wishes.values()].filter(({ route }) => route.destination === to));
      const seen = new Map<Cidr, Route>();
      for (const { act, wish: one } of list) {
        const key = `${one.class} ${one.owner} ${one.route.destination}`;
        if (act === 'add') {
          wishes.set(key, one);
          table.add(one);
        } else if (act === 'remove') {
          wishes.delete(key);
          table.remove(one.route.destination, one);
        } else {
          const dirty = new Set(table.takeDirty());
          for (const to of prefixes) {
            const id = table.destinations.find(to);
            const [before, now] = [seen.get(to), winnerOf(to)?.route];
            if (now && JSON.stringify(now) !== JSON.stringify(before)) expect(dirty.has(id ?? -1)).toBe(true);
            if (now) seen.set(to, now);
            else seen.delete(to);
          }
        }
        const wanted = prefixes.flatMap((to) => winnerOf(to) ?? []);
        expect(new Map(table.winners)).toEqual(new Map(wanted.map((winner) => [winner.route.destination, winner])));
        for (const each of routeClasses)
          expect(table.count(each)).toBe(wanted.filter((winner) => winner.class === each).length);
        expect([table.count(), table.winners.size]).toEqual([wanted.length, wanted.length]);
      }
    }),
    { numRuns: 300 },
  );
});

const message: fc.Arbitrary<FeedMessage | 'lost' | 'drop'> = fc.oneof(
  {
    weight: 6,
    arbitrary: fc.tuple(destination, fc.uniqueArray(gateway, { minLength: 1 })).map(([prefix, nextHops]) => ({
      type: 'route' as const,
      prefix,
      nextHops,
      source: 'ibgp' as const,
    })),
  },
  { weight: 2, arbitrary: destination.map((prefix) => ({ type: 'withdraw' as const, prefix })) },
  fc.constant({ type: 'hello' as const, version: 1 }),
  fc.constant({ type: 'endOfSnapshot' as const }),
  fc.constantFrom('lost' as const, 'drop' as const),
);

test('what the feed said, and of it what is stale, is as of a plain map', () => {
  fc.assert(
    fc.property(fc.array(message, { maxLength: 60 }), (list) => {
      const table = new FeedTable();
      const said = new Map<Cidr, { hops: readonly Ip[]; stale: boolean }>();
      const grow = () => {
        for (const [prefix, { hops }] of said) said.set(prefix, { hops, stale: true });
      };
      const drop = () => {
        const gone = [...said].flatMap(([prefix, { stale }]) => (stale ? [prefix] : []));
        for (const prefix of gone) said.delete(prefix);
        return gone;
      };
      for (const one of list) {
        const changed = typeof one === 'object' ? table.apply(one) : one === 'drop' ? table.dropStale() : lose(table);
        let wanted: Cidr[] = [];
        if (one === 'lost') grow();
        else if (one === 'drop') wanted = drop();
        else if (one.type === 'hello') grow();
        else if (one.type === 'endOfSnapshot') wanted = drop();
        else if (one.type === 'withdraw') wanted = said.delete(one.prefix) ? [one.prefix] : [];
        else {
          const hops = [...one.nextHops].sort() as Ip[];
          if (said.get(one.prefix)?.hops.join() !== hops.join()) wanted = [one.prefix];
          said.set(one.prefix, { hops, stale: false });
        }
        expect([...changed].sort()).toEqual(wanted.sort());
        const found = [...table.prefixes()].map((prefix) => [
          prefix,
          { hops: [...(table.nextHops(prefix) ?? [])].sort(), stale: table.isStale(prefix) },
        ]);
        expect(new Map(found as [Cidr, { hops: readonly Ip[]; stale: boolean }][])).toEqual(said);
        const stale = [...said.values()].filter((each) => each.stale).length;
        expect([table.count, table.staleCount]).toEqual([said.size, stale]);
      }
    }),
    { numRuns: 300 },
  );
});

function lose(table: FeedTable): Cidr[] {
  table.disconnected();
  return [];
}
