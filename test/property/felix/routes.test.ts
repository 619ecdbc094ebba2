import fc from 'fast-check';
import { expect, test } from 'vitest';
import { type Clock, systemClock } from '../../../src/base/clock.ts';
import { gatewayRoute, sameRoute } from '../../../src/felix/calc/route.ts';
import { RouteTable } from '../../../src/felix/calc/routes.ts';
import { RouteManager } from '../../../src/felix/managers/routes.ts';
import { nextTurn } from '../../../src/felix/slices.ts';
import { FakeNetlink } from '../../../src/kernel/fake.ts';
import type { Route } from '../../../src/kernel/types.ts';
import { type Cidr, parseCidr, parseIp } from '../../../src/model/address.ts';

/* Whatever happens to the kernel behind our back, what we own converges to what is wanted and the rest is untouched. */

const destinations = ['10.0.0.0/26', '10.0.1.0/26', '10.0.2.0/26', 'fd00::/122'].map((text) => parseCidr(text));
const destination = fc.constantFrom(...destinations);
const hop = (to: Cidr) => (to.includes(':') ? ['fe80::1', 'fe80::2'] : ['192.0.2.1', '192.0.2.2']);
const via = (to: Cidr, which: 0 | 1, protocol = 80): Route => ({
  ...gatewayRoute(to, [{ gateway: parseIp(hop(to)[which] ?? '') }]),
  protocol,
});

/** Every piece of work takes the whole of its slice. */
function hasty(): Clock {
  let now = 0;
  return { ...systemClock, monotonic: () => (now += 1000) };
}

type Act = { readonly to: Cidr; readonly which: 0 | 1 } & (
  | { readonly act: 'want' | 'drop' | 'kernelSets' | 'kernelDeletes' | 'fails' | 'heals' }
  | { readonly act: 'apply' | 'read' }
);

const acts: fc.Arbitrary<Act[]> = fc.array(
  fc.record({
    act: fc.constantFrom('want', 'drop', 'kernelSets', 'kernelDeletes', 'fails', 'heals', 'apply', 'read'),
    to: destination,
    which: fc.constantFrom(0 as const, 1 as const),
  }),
  { maxLength: 40 },
);

test('ours converge, those of others stay', async () => {
  await fc.assert(
    fc.asyncProperty(acts, fc.uniqueArray(destination), async (list, foreign) => {
      const netlink = new FakeNetlink();
      const table = new RouteTable();
      const manager = new RouteManager(netlink, table, { families: [4, 6], interfacePrefix: 'cali', clock: hasty() });
      const others = foreign.map((to) => via(to, 0, 4));
      netlink.applyRoutes(others, []);
      const stop = new AbortController();
      netlink.monitor((event) => event.what === 'route' && manager.onRoute(event.route, event.gone), stop.signal);
      await manager.read();
      // Things happen while the kernel is being read, but felix writes after it.
      let reading = Promise.resolve();
      for (const { act, to, which } of list) {
        if (act === 'read') {
          await reading;
          reading = manager.read();
        } else if (which === 1) await nextTurn();
        if (act === 'want') table.add({ class: 'bgp', owner: to, preference: '', route: via(to, which) });
        else if (act === 'drop') table.remove(to, { class: 'bgp', owner: to });
        else if (act === 'kernelSets' && !foreign.includes(to)) netlink.applyRoutes([via(to, which)], []);
        else if (act === 'kernelDeletes') netlink.applyRoutes([], [via(to, which)]);
        else if (act === 'fails') netlink.failures.set(to, 'EINVAL');
        else if (act === 'heals') netlink.failures.delete(to);
        else if (act === 'apply') {
          await reading;
          await manager.apply(() => true);
        }
      }
      await reading;
      netlink.failures.clear();
      manager.retry();
      await manager.apply(() => true);
      stop.abort();
      const found = netlink.routes();
      expect(
        found
          .filter(({ protocol }) => protocol === 4)
          .map((one) => one.destination)
          .sort(),
      ).toEqual([...foreign].sort());
      const ours = found.filter(({ protocol }) => protocol === 80);
      const wanted = [...table.winners.values()].filter(({ route }) => !foreign.includes(route.destination));
      expect(ours.length).toBe(wanted.length);
      for (const { route } of wanted) expect(ours.some((one) => sameRoute(route, one))).toBe(true);
    }),
    { numRuns: 400 },
  );
});

test('a route of ours with another metric goes once the one with the usual stands', async () => {
  const netlink = new FakeNetlink();
  const table = new RouteTable();
  const manager = new RouteManager(netlink, table, { families: [4], interfacePrefix: 'cali' });
  const to = parseCidr('10.0.0.0/26');
  const calls: string[] = [];
  netlink.applyRoutes(
    [
      { ...via(to, 1), metric: 1024 },
      { ...via(to, 1, 4), metric: 512 },
    ],
    [],
  );
  const write = netlink.writeRoutes.bind(netlink);
  netlink.writeRoutes = (what, routes) => {
    calls.push(what);
    return write(what, routes);
  };
  await manager.read();
  table.add({ class: 'bgp', owner: to, preference: '', route: via(to, 0) });
  await manager.apply(() => true);
  expect(calls).toEqual(['set', 'delete']);
  expect(netlink.routes().map(({ protocol, metric }) => [protocol, metric])).toEqual(
    expect.arrayContaining([
      [80, 0],
      [4, 512],
    ]),
  );
  expect(netlink.routes()).toHaveLength(2);
});
