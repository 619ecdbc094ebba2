import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { inNamespace } from '../../../src/kernel/namespace.ts';
import { RouteLookup } from '../../../src/kernel/rtnetlink/lookup.ts';
import { parseIp } from '../../../src/model/address.ts';
import { scopedHop } from '../../../src/model/feed.ts';
import { ownName } from '../../support/leftovers.ts';
import { until } from '../../support/wait.ts';

const run = promisify(execFile);
let name: string;
let lookup: RouteLookup;

const ip = (...command: readonly string[]) => run('ip', ['-netns', name, ...command]);
const route = (text: string) => inNamespace(`/run/netns/${name}`, () => lookup.route(parseIp(text)));
const metric = (text: string) => route(text)?.metric;

beforeEach(async () => {
  name = ownName('lk');
  await run('ip', ['netns', 'add', name]);
  await ip('link', 'add', 'a0', 'type', 'veth', 'peer', 'name', 'b0');
  for (const device of ['lo', 'a0', 'b0']) await ip('link', 'set', device, 'up');
  await ip('address', 'add', '192.0.2.1/24', 'dev', 'a0');
  await ip('address', 'add', '2001:db8::1/64', 'dev', 'a0', 'nodad');
  lookup = inNamespace(`/run/netns/${name}`, () => new RouteLookup());
});

afterEach(async () => {
  lookup.close();
  await run('ip', ['netns', 'delete', name]);
});

test('the metric of the route that an address has, as it is now', async () => {
  expect(metric('192.0.2.9')).toBe(0);
  expect(metric('2001:db8::9')).toBe(256);
  expect(metric('198.51.100.1')).toBeUndefined();
  expect(metric('2001:db8:1::1')).toBeUndefined();
  await ip('route', 'add', '198.51.100.0/24', 'via', '192.0.2.2', 'metric', '20');
  await ip('route', 'add', '198.51.100.0/25', 'via', '192.0.2.3', 'metric', '30');
  await ip('route', 'add', '2001:db8:1::/48', 'via', '2001:db8::2', 'metric', '40');
  expect([metric('198.51.100.1'), metric('198.51.100.200'), metric('2001:db8:1::1')]).toEqual([30, 20, 40]);
  await ip('route', 'del', '198.51.100.0/25');
  expect(metric('198.51.100.1')).toBe(20);
});

test('a route that drops packets is none, and a default route is one', async () => {
  await ip('route', 'add', 'default', 'via', '192.0.2.2', 'metric', '100');
  for (const [type, prefix] of [
    ['blackhole', '198.51.100.0/26'],
    ['unreachable', '198.51.100.64/26'],
    ['prohibit', '198.51.100.128/26'],
    ['blackhole', '2001:db8:1::/64'],
    ['unreachable', '2001:db8:2::/64'],
  ] as const)
    await ip('route', 'add', type, prefix);
  for (const text of ['198.51.100.1', '198.51.100.65', '198.51.100.129', '2001:db8:1::1', '2001:db8:2::1'])
    expect([text, metric(text)]).toEqual([text, undefined]);
  expect(metric('203.0.113.1')).toBe(100);
});

test('a link-local address is reached over its device, if that is there', async () => {
  const over = (device: string) =>
    inNamespace(`/run/netns/${name}`, () => lookup.route(scopedHop(parseIp('fe80::9'), device))?.metric);
  await until(() => over('a0') === 256, { within: 5000, what: 'the link-local route of the device' });
  expect(over('gone0')).toBeUndefined();
});

test('the device that a route leads through, by the name that it has now, and how long its prefix is', async () => {
  await ip('link', 'add', 'c0', 'type', 'veth', 'peer', 'name', 'd0');
  for (const device of ['c0', 'd0']) await ip('link', 'set', device, 'up');
  await ip('route', 'add', '198.51.100.7/32', 'dev', 'c0');
  await ip('route', 'add', '2001:db8:1::/48', 'via', '2001:db8::2');
  await ip('route', 'add', '203.0.113.0/24', 'nexthop', 'dev', 'a0', 'nexthop', 'dev', 'c0');
  expect(route('198.51.100.7')).toEqual({ metric: 0, device: 'c0', length: 32, local: false });
  expect(route('2001:db8:1::1')).toMatchObject({ device: 'a0', length: 48 });
  expect(route('203.0.113.1')).toMatchObject({ device: '', length: 24 });
  expect(route('192.0.2.1')).toMatchObject({ local: true, length: 32 });
  await ip('link', 'set', 'c0', 'name', 'cali0');
  expect(route('198.51.100.7')).toMatchObject({ device: 'cali0' });
});
