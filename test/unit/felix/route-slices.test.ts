import { expect, test } from 'vitest';
import { type Clock, systemClock } from '../../../src/base/clock.ts';
import { gatewayForm } from '../../../src/felix/calc/route.ts';
import { RouteTable } from '../../../src/felix/calc/routes.ts';
import { RouteManager } from '../../../src/felix/managers/routes.ts';
import { FakeNetlink } from '../../../src/kernel/fake.ts';
import { parseCidr, parseIp } from '../../../src/model/address.ts';

/** How many routes are written in each turn of the event loop, where each write takes so long. */
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
    now += milliseconds;
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

test('routes are written for ten milliseconds of a turn, at least a batch', async () => {
  expect(await turns(1)).toEqual([5000]);
  expect(await turns(5)).toEqual([2048, 2048, 904]);
  expect(await turns(50)).toEqual([1024, 1024, 1024, 1024, 904]);
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
  const manager = new RouteManager(netlink, table, { families: [6], interfacePrefix: 'cali' });
  expect(await manager.apply(() => true)).toMatchObject({ changed: 200, failures: [] });
  expect(written).toEqual([64, 64, 64, 8]);
});
