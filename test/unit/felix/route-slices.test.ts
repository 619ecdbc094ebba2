import { expect, test } from 'vitest';
import { type Clock, systemClock } from '../../../src/base/clock.ts';
import { gatewayForm } from '../../../src/felix/calc/route.ts';
import { RouteTable } from '../../../src/felix/calc/routes.ts';
import { RouteManager } from '../../../src/felix/managers/routes.ts';
import { FakeNetlink } from '../../../src/kernel/fake.ts';
import { parseCidr, parseIp } from '../../../src/model/address.ts';

/** How many routes are written in each turn of the event loop, where each takes so long. */
async function turns(milliseconds: number): Promise<number[]> {
  let now = 0;
  const clock: Clock = { ...systemClock, monotonic: () => now };
  const netlink = new FakeNetlink();
  const write = netlink.writeRoutes.bind(netlink);
  const written = [0];
  const count = () => {
    written.push(0);
    counting = setImmediate(count);
  };
  let counting = setImmediate(count);
  netlink.writeRoutes = (what, routes) => {
    written.push((written.pop() ?? 0) + routes.count);
    now += milliseconds * routes.count;
    return write(what, routes);
  };
  const table = new RouteTable();
  const form = gatewayForm([{ gateway: parseIp('192.0.2.2') }]);
  for (let at = 0; at < 5000; at++) table.want('bgp', parseCidr(`10.${at >> 8}.${at & 255}.0/24`), form);
  const manager = new RouteManager(netlink, table, { families: [4], interfacePrefix: 'cali', clock });
  try {
    expect(await manager.apply(() => true)).toMatchObject({ changed: 5000, failures: [] });
  } finally {
    clearImmediate(counting);
  }
  expect(netlink.routes()).toHaveLength(5000);
  return written.filter((routes) => routes > 0);
}

test('routes are written for five milliseconds of a turn, fewer at a time where the kernel takes long', async () => {
  expect(await turns(0.001)).toEqual([5000]);
  // The first piece is a guess; from then on two of 128 make a turn.
  expect((await turns(0.02)).slice(0, -1)).toEqual(Array(19).fill(256));
  const slow = await turns(0.5);
  expect(Math.max(...slow.slice(1))).toBe(128);
  // It becomes quicker again as the kernel does.
  const quick = await turns(0.004);
  expect(Math.max(...quick) * 0.004).toBeLessThan(10);
  expect(quick.length).toBeLessThan(6);
});

test('a route with many next hops counts as many: the kernel takes as long for each', async () => {
  const netlink = new FakeNetlink();
  const write = netlink.writeRoutes.bind(netlink);
  const written: number[] = [];
  netlink.writeRoutes = (what, routes) => {
    written.push(routes.count);
    return write(what, routes);
  };
  const table = new RouteTable();
  const hops = Array.from({ length: 16 }, (_, at) => ({ gateway: parseIp(`2001:db8::${at + 2}`) }));
  const form = gatewayForm(hops);
  for (let at = 0; at < 200; at++) table.want('bgp', parseCidr(`fd00:${at.toString(16)}::/64`), form);
  // A kernel that takes no time: more each time.
  const clock: Clock = { ...systemClock, monotonic: () => 0 };
  const manager = new RouteManager(netlink, table, { families: [6], interfacePrefix: 'cali', clock });
  expect(await manager.apply(() => true)).toMatchObject({ changed: 200, failures: [] });
  // Pieces of 256, 512 and 1024 next hops.
  expect(written).toEqual([16, 32, 64, 64, 24]);
});
