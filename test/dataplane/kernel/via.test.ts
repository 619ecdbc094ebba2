import { beforeEach, expect, onTestFinished, test } from 'vitest';
import { sameRoute } from '../../../src/kernel/route.ts';
import type { Netlink, NextHop, Route } from '../../../src/kernel/types.ts';
import { parseCidr, parseIp } from '../../../src/model/address.ts';
import { TestNamespace } from './namespaces.ts';

/* IPv4 routes through IPv6 gateways (RTA_VIA), as RFC 8950 makes them. */

const one = parseIp('fe80::1');
const global = parseIp('2001:db8::2');
let host: TestNamespace;
let netlink: Netlink;

beforeEach(() => {
  onTestFinished(() => host[Symbol.dispose]());
  host = new TestNamespace();
  for (const device of ['one', 'two']) {
    host.run('ip', 'link', 'add', device, 'type', 'veth', 'peer', 'name', `${device}-far`);
    for (const end of [device, `${device}-far`]) host.run('ip', 'link', 'set', end, 'up');
  }
  host.run('ip', 'addr', 'add', '2001:db8::1/64', 'dev', 'one', 'nodad');
  netlink = host.open();
});

function route(nextHops: readonly NextHop[], destination = '10.65.1.0/26'): Route {
  const cidr = parseCidr(destination);
  return { destination: cidr, type: 'unicast', nextHops, protocol: 80, scope: 'universe', metric: 0, table: 254 };
}

test.each([
  ['link-local', [{ gateway: one, device: 'one' }], 'via inet6 fe80::1 dev one'],
  ['global, its device found by the kernel', [{ gateway: global }], 'via inet6 2001:db8::2 dev one'],
])('%s', (_, hops, text) => {
  expect(netlink.applyRoutes([route(hops)], [])).toEqual([]);
  expect(host.run('ip', 'route', 'show', '10.65.1.0/26')).toContain(text);
  const [found] = netlink.routes(4).filter(({ protocol }) => protocol === 80);
  const device = { device: 'one' };
  expect(found && sameRoute(found, route(hops.map((hop) => ({ ...hop, ...device }))))).toBe(true);
  expect(netlink.applyRoutes([], [route(hops)])).toEqual([]);
  expect(netlink.routes(4).filter(({ protocol }) => protocol === 80)).toEqual([]);
});

test('the same link-local gateway on two links, and an IPv4 one beside them, share a destination', () => {
  host.run('ip', 'addr', 'add', '192.0.2.1/24', 'dev', 'two');
  const hops = [
    { gateway: parseIp('192.0.2.9'), device: 'two' },
    { gateway: one, device: 'one' },
    { gateway: one, device: 'two' },
  ];
  expect(netlink.applyRoutes([route(hops)], [])).toEqual([]);
  expect(host.run('ip', 'route', 'show', '10.65.1.0/26').match(/via inet6 fe80::1/g)).toHaveLength(2);
  const [found] = netlink.routes(4).filter(({ protocol }) => protocol === 80);
  expect(found && sameRoute(found, route(hops))).toBe(true);
  expect(netlink.applyRoutes([route([{ gateway: one, device: 'two' }])], [])).toEqual([]);
  expect(host.run('ip', 'route', 'show', '10.65.1.0/26')).toMatch(/via inet6 fe80::1 dev two/);
});

test('a link-local gateway without its device is refused in the words of the kernel', () => {
  const [failure] = netlink.applyRoutes([route([{ gateway: one }])], []);
  expect(failure?.route.destination).toBe('10.65.1.0/26');
});
