import { afterEach, beforeEach, expect, test } from 'vitest';
import { type Clock, systemClock } from '../../../src/base/clock.ts';
import { type Cidr, parseCidr, parseIp } from '../../../src/model/address.ts';
import { until } from '../../support/wait.ts';
import { looksAt, within } from './looks.ts';
import { block, configured, FeedServer, gated, Harness, node, nodeResource, pod, podKey } from './support.ts';

let h: Harness;
const { destinations, firstPass, programmed, routes } = looksAt(() => h);
const cidr = parseCidr;

beforeEach(() => {
  h = new Harness();
});
afterEach(() => h.dispose());

const gateway = (destination: Cidr, ...via: string[]) => ({
  destination,
  type: 'unicast' as const,
  nextHops: via.map((hop) => ({ gateway: parseIp(hop), device: 'eth0' })),
  protocol: 80,
  scope: 'universe' as const,
  metric: 0,
  table: 254,
});
const said = (prefix: string, ...nextHops: string[]) => ({
  type: 'route' as const,
  prefix: cidr(prefix),
  nextHops: nextHops.map((hop) => parseIp(hop)),
  source: 'ibgp' as const,
});
const hello = { type: 'hello' as const, version: 1 };
const endOfSnapshot = { type: 'endOfSnapshot' as const };

test('adopted routes go after the stale time also when the datastore came later than that', async () => {
  const late = gated(h.store);
  let expired = false;
  const clock: Clock = {
    ...systemClock,
    after: (milliseconds, action) =>
      systemClock.after(milliseconds, () => {
        expired ||= milliseconds === 50;
        action();
      }),
  };
  const waiting = new Harness({ store: late.store, config: configured({ staleRouteSeconds: 0.05 }), clock });
  try {
    waiting.link('eth0', true);
    waiting.netlink.routeByKey.set('254 10.66.0.0/26 0', gateway(cidr('10.66.0.0/26'), '192.0.2.2'));
    waiting.start();
    await until(() => expired, { within, what: 'end of the stale time' });
    expect(waiting.netlink.routes().length).toBe(1);
    late.open();
    await until(() => waiting.netlink.routes().length === 0, { within, what: 'removal' });
  } finally {
    await waiting.dispose();
  }
});

test('a restart changes nothing in the kernel', async () => {
  h.link('caliweb');
  h.link('eth0', true);
  h.netlink.routeByKey.set('bgp', gateway(cidr('10.65.9.0/26'), '192.0.2.9'));
  h.start();
  await h.put(podKey('web'), pod('web', { addresses: ['10.65.0.2', 'fd00::2'] }));
  await h.put({ type: 'Block', cidr: cidr('10.65.0.0/26') }, block('10.65.0.0/26', node));
  await programmed('web');
  h.netlink.calls.length = 0;
  await h.restart();
  await programmed('web');
  expect(h.netlink.calls).toEqual([]);
  expect(destinations()).toContain('10.65.9.0/26');
});

test('stale routes of ours go; those of others stay', async () => {
  h.link('calix', true);
  h.link('eth0', true);
  const foreign = { ...gateway(cidr('10.9.0.0/16'), '192.0.2.1'), protocol: 4 };
  const boot = {
    ...gateway(cidr('10.65.0.9/32')),
    nextHops: [{ device: 'calix' }],
    protocol: 3,
    scope: 'link' as const,
  };
  h.netlink.routeByKey.set('254 10.9.0.0/16 0', foreign);
  h.netlink.routeByKey.set('254 10.65.0.9/32 0', boot);
  h.netlink.routeByKey.set('254 10.65.0.8/32 0', { ...boot, destination: cidr('10.65.0.8/32'), protocol: 80 });
  h.start();
  await firstPass();
  expect(h.netlink.routes()).toEqual([foreign]);
  await until(() => h.cut.length === 2, { within, what: 'connections cut' });
});

test('a route that stands in the way of ours is left alone and named', async () => {
  const foreign = { ...gateway(cidr('10.65.0.0/26'), '192.0.2.1'), protocol: 4 };
  h.netlink.routeByKey.set('254 10.65.0.0/26 0', foreign);
  h.start();
  await h.put({ type: 'Block', cidr: cidr('10.65.0.0/26') }, block('10.65.0.0/26', node));
  const failed = await until(() => h.felix.status().failures[0], { within, what: 'failure' });
  expect(failed.message).toMatch(/protocol 4/);
  expect(h.netlink.routes()).toEqual([foreign]);
});

test('a route that somebody deletes comes back', async () => {
  h.link('caliweb');
  h.start();
  await h.put(podKey('web'), pod('web', { addresses: ['10.65.0.2'] }));
  await programmed('web');
  const [route] = routes();
  if (!route) throw new Error('no route');
  h.netlink.loseRoute(route);
  await until(() => destinations().includes('10.65.0.2/32' as Cidr), { within, what: 'route back' });
});

test('a device that goes down is set up again with its route', async () => {
  h.link('caliweb');
  h.start();
  await h.put(podKey('web'), pod('web', { addresses: ['10.65.0.2'] }));
  await programmed('web');
  const link = h.netlink.link('caliweb');
  if (!link) throw new Error('no link');
  h.netlink.routeByKey.clear();
  h.netlink.addLink({ ...link, up: false });
  await until(() => h.netlink.link('caliweb')?.up && destinations().length === 1, { within, what: 'repair' });
});

test('after lost events everything is read again', async () => {
  h.start();
  await h.put({ type: 'Block', cidr: cidr('10.65.0.0/26') }, block('10.65.0.0/26', node));
  await until(() => destinations().length === 1, { within, what: 'blackhole' });
  h.netlink.routeByKey.clear();
  h.netlink.emit({ what: 'overrun' });
  await until(() => destinations().length === 1, { within, what: 'blackhole back' });
});

test('the route feed: ECMP, changes, local wins, own next hops left out', async () => {
  const feed = await FeedServer.listen(h.runDir);
  try {
    h.link('eth0', true);
    h.link('caliweb');
    h.start();
    await h.put({ type: 'Node', name: node }, nodeResource(node, '192.0.2.1/24'));
    await h.put(podKey('web'), pod('web', { addresses: ['10.65.0.2'] }));
    await until(() => feed.connections === 1, { within, what: 'feed connection' });
    feed.say(hello, said('10.66.0.0/26', '192.0.2.3', '192.0.2.2'), said('10.65.0.2/32', '192.0.2.2'));
    feed.say(said('10.67.0.0/26', '192.0.2.1'), endOfSnapshot);
    await programmed('web');
    const remote = await until(() => routes().find((one) => one.destination === '10.66.0.0/26'), {
      within,
      what: 'route',
    });
    expect(remote.nextHops).toEqual([{ gateway: '192.0.2.2' }, { gateway: '192.0.2.3' }]);
    expect(routes().find((one) => one.destination === '10.65.0.2/32')?.nextHops).toEqual([{ device: 'caliweb' }]);
    expect(destinations()).not.toContain('10.67.0.0/26');
    feed.say({ type: 'withdraw', prefix: cidr('10.66.0.0/26') });
    await until(() => !destinations().includes('10.66.0.0/26' as Cidr), { within, what: 'withdrawal' });
  } finally {
    await feed.close();
  }
});

test('the feed dies: its routes stay, and go when the next table lacks them', async () => {
  h.link('eth0', true);
  h.start();
  const first = await FeedServer.listen(h.runDir);
  await until(() => first.connections === 1, { within, what: 'feed connection' });
  first.say(hello, said('10.66.0.0/26', '192.0.2.2'), said('10.67.0.0/26', '192.0.2.2'), endOfSnapshot);
  await until(() => destinations().length === 2, { within, what: 'routes' });
  await first.close();
  await until(() => !h.felix.status().feed.connected, { within, what: 'disconnection' });
  expect(h.felix.status().feed).toMatchObject({ routes: 2, stale: 2, complete: false });
  expect(destinations().length).toBe(2);
  const second = await FeedServer.listen(h.runDir);
  await until(() => second.connections === 1, { within, what: 'second connection' });
  second.say(hello, said('10.66.0.0/26', '192.0.2.2'));
  await until(() => h.felix.status().feed.stale === 1, { within, what: 'repetition' });
  expect(destinations().length).toBe(2);
  second.say(endOfSnapshot);
  await until(() => destinations().length === 1, { within, what: 'sweep of the stale' });
  await second.close();
});

test('a feed that says nonsense is left and tried again', async () => {
  h.start();
  const feed = await FeedServer.listen(h.runDir);
  try {
    for (const nonsense of ['{', '{"type":"hello","version":9}', '"x"', JSON.stringify(endOfSnapshot)]) {
      await until(() => feed.connections === 1, { within, what: 'connection' });
      feed.say(nonsense);
      await until(() => feed.connections === 0, { within, what: `disconnection after ${nonsense}` });
    }
  } finally {
    await feed.close();
  }
});
