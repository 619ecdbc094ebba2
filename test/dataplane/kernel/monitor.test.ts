import { expect, onTestFinished, test } from 'vitest';
import { inNamespace } from '../../../src/kernel/namespace.ts';
import { startMonitor } from '../../../src/kernel/rtnetlink/monitor.ts';
import { NetlinkSocket } from '../../../src/kernel/rtnetlink/socket.ts';
import type { KernelEvent, Route } from '../../../src/kernel/types.ts';
import { parseCidr } from '../../../src/model/address.ts';
import { until } from '../../support/wait.ts';
import { root, runBundled } from './bundle.ts';
import { TestNamespace } from './namespaces.ts';

function setUp() {
  const space = new TestNamespace();
  const stop = new AbortController();
  onTestFinished(() => {
    stop.abort();
    space[Symbol.dispose]();
  });
  return { space, netlink: space.open(), signal: stop.signal, stop };
}

function route(at: number): Route {
  return {
    destination: parseCidr(`10.${at >> 16}.${(at >> 8) & 255}.${at & 255}/32`),
    type: 'unicast',
    nextHops: [{ device: 'lo' }],
    protocol: 80,
    scope: 'link',
    metric: 0,
    table: 254,
  };
}

const routes = (count: number) => Array.from({ length: count }, (_, at) => route(at));
const soon = (what: string) => ({ within: 10_000, what });

test('what happens after the call is told: links, addresses and routes, coming and going', async () => {
  const { space, netlink, signal } = setUp();
  const peer = new TestNamespace();
  onTestFinished(() => peer[Symbol.dispose]());
  const events: KernelEvent[] = [];
  await netlink.monitor((event) => events.push(event), signal).ready;
  netlink.addVeth({
    hostName: 'cali1',
    podName: 'eth0',
    netns: peer.path,
    mtu: 1500,
    hostMac: 'ee:ee:ee:ee:ee:ee',
  });
  const index = netlink.link('cali1')?.index;
  netlink.setLink('cali1', { up: true });
  netlink.addAddress('cali1', '192.0.2.1/32');
  const onCali = { ...route(1), nextHops: [{ device: 'cali1' }] };
  netlink.applyRoutes([onCali], []);
  netlink.applyRoutes([], [onCali]);
  space.run('ip', 'link', 'del', 'cali1');
  await until(
    () => events.some((event) => event.what === 'link' && event.gone && event.link.name === 'cali1'),
    soon('the deletion of cali1'),
  );
  const ofRoute = events.filter((event) => event.what === 'route' && event.route.protocol === 80);
  expect(ofRoute).toEqual([
    { what: 'route', route: onCali, gone: false },
    { what: 'route', route: onCali, gone: true },
  ]);
  expect(events).toContainEqual({ what: 'address', index, gone: false });
  expect(events).toContainEqual({ what: 'address', index, gone: true });
  expect(events.some((event) => event.what === 'link' && event.link.up && event.link.name === 'cali1')).toBe(true);
  expect(events.some((event) => event.what === 'overrun')).toBe(false);
});

test('a burst of ten thousand is told whole while this thread is busy', async () => {
  const { netlink, signal } = setUp();
  const seen = new Set<string>();
  let lost = 0;
  await netlink.monitor((event) => {
    if (event.what === 'route') seen.add(event.route.destination);
    if (event.what === 'overrun') lost++;
  }, signal).ready;
  expect(netlink.applyRoutes(routes(10_000), [])).toEqual([]);
  await until(() => seen.size === 10_000, soon('all events'));
  expect(lost).toBe(0);
});

test.each([
  ["the kernel's queue overflows", { bufferBytes: 1, queueLimit: 65_536 }],
  ['this thread falls behind', { bufferBytes: 8 << 20, queueLimit: 100 }],
])('overrun is told when %s, and events go on afterwards', async (_, limits) => {
  const { space, netlink, signal } = setUp();
  const socket = inNamespace(space.path, () => new NetlinkSocket());
  onTestFinished(() => socket.close());
  const events: KernelEvent[] = [];
  const { ready } = startMonitor(socket.fd, netlink, (event) => events.push(event), signal, limits);
  // The first burst comes before the thread can read at all; later ones keep this thread busy while it posts.
  const burst = () => {
    netlink.applyRoutes(routes(3000), []);
    netlink.applyRoutes([], routes(3000));
  };
  burst();
  await ready;
  const overrun = () => {
    if (events.some((event) => event.what === 'overrun')) return true;
    burst();
    return false;
  };
  await until(overrun, { ...soon('overrun'), every: 50 });
  const told = (at: number) => () => {
    netlink.applyRoutes([], [route(at)]);
    netlink.applyRoutes([route(at)], []);
    return events.some((event) => event.what === 'route' && event.route.destination === route(at).destination);
  };
  await until(told(6000), { ...soon('an event after the overrun'), every: 100 });
});

test('it stops on abort, also before it began, and can be followed by another', async () => {
  const { netlink } = setUp();
  await netlink.monitor(() => expect.fail('nothing is told after an abort'), AbortSignal.abort()).ready;
  for (let again = 0; again < 3; again++) {
    const stop = new AbortController();
    const events: KernelEvent[] = [];
    await netlink.monitor((event) => events.push(event), stop.signal).ready;
    netlink.applyRoutes([route(again)], []);
    await until(() => events.length > 0, soon('an event'));
    stop.abort();
  }
});

test('it works from one bundled file', async () => {
  const { space } = setUp();
  const said = await runBundled(
    `import { openNetlinkIn } from '${root}/src/kernel/namespace.ts';
     const netlink = openNetlinkIn(process.argv[2] ?? '');
     const stop = new AbortController();
     await netlink.monitor((event) => {
       if (event.what !== 'address') return;
       console.log('told');
       stop.abort();
       netlink.close();
     }, stop.signal).ready;
     netlink.addAddress('lo', '192.0.2.1/32');`,
    space.path,
  );
  expect(said).toBe('told\n');
});

test('with othersRoutes, routes of its own are not told, and those of others are', async () => {
  const { space, netlink, signal } = setUp();
  const told: string[] = [];
  await netlink.monitor(
    (event) => event.what === 'route' && told.push(`${event.gone ? '-' : '+'}${event.route.destination}`),
    signal,
    { othersRoutes: true },
  ).ready;
  netlink.applyRoutes(routes(3), []);
  netlink.applyRoutes([], [route(1)]);
  space.run('ip', 'route', 'del', route(0).destination);
  space.run('ip', 'route', 'add', '10.9.0.0/24', 'dev', 'lo');
  await until(() => told.includes('+10.9.0.0/24'), soon('the route of somebody else'));
  expect(told.filter((one) => one.includes('10.'))).toEqual([`-${route(0).destination}`, '+10.9.0.0/24']);
});
