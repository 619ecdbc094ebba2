import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { keyText } from '../../../src/datastore/store.ts';
import { openNetlinkIn } from '../../../src/kernel/namespace.ts';
import type { KernelEvent } from '../../../src/kernel/types.ts';
import { parseCidr, parseIp } from '../../../src/model/address.ts';
import { chainOf } from '../../support/chains.ts';
import { until } from '../../support/wait.ts';
import { block, FeedServer, node, pod, podKey, pool, profile } from '../../unit/felix/support.ts';
import { RealNode } from './support.ts';

const within = 15_000;
const device = 'caliweb';
const address = '10.65.0.2';
const six = 'fd00:65::2';
const endpoint = keyText(podKey('web'));
const hello = { type: 'hello' as const, version: 1 };
const endOfSnapshot = { type: 'endOfSnapshot' as const };
const said = (prefix: string, ...nextHops: string[]) => ({
  type: 'route' as const,
  prefix: parseCidr(prefix),
  nextHops: nextHops.map((hop) => parseIp(hop)),
  source: 'ibgp' as const,
});

let n: RealNode;
afterEach(() => n.dispose());

/** A pod in an open namespace, its block, and a pool with outgoing NAT. */
async function populate(): Promise<void> {
  await n.put({ type: 'Profile', name: 'kns.shop' }, profile('kns.shop'));
  await n.put({ type: 'IPPool', name: 'p' }, pool('p', '10.65.0.0/16', true));
  await n.put({ type: 'Block', cidr: parseCidr('10.65.0.0/26') }, block('10.65.0.0/26', node));
  await n.put({ type: 'Block', cidr: parseCidr('fd00:65::/122') }, block('fd00:65::/122', node));
  await n.put(podKey('web'), pod('web', { addresses: [address, six], device }));
}

async function programmed(): Promise<void> {
  const felix = n.felix ?? n.start();
  expect(await felix.whenProgrammed(endpoint, undefined, within, n.signal)).toBe('programmed');
}

/** All rules of both families, the packet counter of each, and all sets. */
async function counted() {
  const lines = `${await n.saved('iptables', '-c')}${await n.saved('ip6tables', '-c')}`.split('\n');
  return {
    rules: lines.map((line) => line.replace(/\[\d+:\d+\]/, '')),
    counters: lines.map((line) => Number(/^\[(\d+):/.exec(line)?.[1] ?? 0)),
    sets: await n.namespace.exec('ipset', 'save'),
  };
}

const localRoute = `${address} dev ${device} scope link`;

/** Of a pod's device on the node. */
const settings = {
  'ipv4.conf.DEVICE.proxy_arp': 1,
  'ipv4.conf.DEVICE.forwarding': 1,
  'ipv4.conf.DEVICE.route_localnet': 1,
  'ipv4.neigh.DEVICE.proxy_delay': 0,
  'ipv6.conf.DEVICE.disable_ipv6': 0,
  'ipv6.conf.DEVICE.accept_ra': 0,
  'ipv6.conf.DEVICE.proxy_ndp': 1,
  'ipv6.conf.DEVICE.forwarding': 1,
};

describe.each(['legacy', 'nft'] as const)('a node with iptables-%s', (backend) => {
  beforeEach(async () => {
    n = await RealNode.make(backend, { ipsetsRefreshSeconds: 1, iptablesRefreshSeconds: 1 });
  });

  test('a pod gets its routes, settings and rules, and real packets pass', async () => {
    const web = await n.addPod(device, address);
    await populate();
    n.start();
    await programmed();
    expect(await n.routes()).toEqual(expect.arrayContaining([localRoute, 'blackhole 10.65.0.0/26']));
    expect((await n.routes('-6')).join('\n')).toMatch(
      /^fd00:65::2 dev caliweb metric 1024.*\nblackhole fd00:65::\/122/m,
    );
    const names = Object.keys(settings).map((name) => `net.${name.replace('DEVICE', device)}`);
    expect(await n.namespace.exec('sysctl', '-n', ...names)).toBe(`${Object.values(settings).join('\n')}\n`);
    expect(await n.namespace.succeeds('ping', '-c1', '-W2', address)).toBe(true);
    // The router knows no way back to the pod: only with the node's address does an answer come.
    expect(await web.succeeds('ping', '-c1', '-W2', '192.0.2.2')).toBe(true);
  });

  test('a pod cannot send from an address that is not its own', async () => {
    const web = await n.addPod(device, address);
    await populate();
    n.start();
    await programmed();
    await n.router.exec('ip', 'route', 'add', '10.65.0.0/16', 'via', '192.0.2.1');
    await web.exec('ip', 'address', 'add', '10.65.0.77/32', 'dev', 'eth0');
    expect(await web.succeeds('ping', '-c1', '-W1', '-I', '10.65.0.77', '192.0.2.2')).toBe(false);
    const rule = (await n.saved('iptables', '-c', '-t', 'raw')).split('\n').find((line) => line.includes('rpfilter'));
    expect(rule).toMatch(/^\[[1-9]/);
  });

  test('a restart changes nothing in the kernel', async () => {
    await n.addPod(device, address);
    await n.namespace.exec('ip', 'route', 'add', '10.66.0.0/26', 'via', '192.0.2.2', 'proto', '80');
    await n.namespace.exec(
      'ip',
      'route',
      'add',
      '10.67.0.0/26',
      'proto',
      '80',
      'nexthop',
      'via',
      '192.0.2.2',
      'nexthop',
      'via',
      '192.0.2.3',
    );
    await n.namespace.exec('ip', '-6', 'route', 'add', 'fd00:66::/122', 'via', '2001:db8::2', 'proto', '80');
    await populate();
    n.start();
    await programmed();
    await n.stop();
    await n.namespace.exec('ping', '-c1', '-W2', address);
    // Duplicate address detection ends with an event of its own.
    const tentative = () => n.namespace.exec('ip', '-6', 'address', 'show', 'tentative');
    await until(async () => (await tentative()) === '', { within, what: 'the end of duplicate address detection' });
    const before = await counted();
    const watcher = openNetlinkIn(n.namespace.path);
    const events: KernelEvent[] = [];
    const stop = new AbortController();
    try {
      await watcher.monitor((event) => events.push(event), stop.signal).ready;
      const felix = n.start();
      expect(await felix.whenProgrammed(endpoint, undefined, within, n.signal)).toBe('programmed');
      // Whatever was done in the kernel comes before this route's event.
      await n.namespace.exec('ip', 'route', 'add', '10.99.0.0/16', 'via', '192.0.2.2', 'proto', '4');
      await until(() => events.some((one) => one.what === 'route' && one.route.destination === '10.99.0.0/16'), {
        within,
        what: 'marker',
      });
      expect(events).toEqual([expect.objectContaining({ what: 'route' })]);
      const after = await counted();
      expect(after.rules).toEqual(before.rules);
      expect(after.sets).toBe(before.sets);
      // Packets go on, so counters may grow; a rule that was written again would begin at zero.
      expect(after.counters.every((count, at) => count >= (before.counters[at] ?? 0))).toBe(true);
      expect(before.counters.some((count) => count > 0)).toBe(true);
      expect(await n.routes()).toEqual(expect.arrayContaining(['10.66.0.0/26 via 192.0.2.2 dev up0']));
      expect((await n.routes()).join('\n')).toContain('nexthop via 192.0.2.3 dev up0 weight 1');
      expect((await n.routes('-6')).join('\n')).toContain('fd00:66::/122 via 2001:db8::2 dev up0');
    } finally {
      stop.abort();
      watcher.close();
    }
  });

  test('what is deleted by hand comes back', async () => {
    await n.addPod(device, address);
    await populate();
    n.start();
    await programmed();
    const back = (what: string, condition: () => Promise<boolean>) => until(condition, { within, what });
    const has = async (line: string) => (await n.routes()).includes(line);
    await n.namespace.exec('ip', 'route', 'del', `${address}/32`);
    await back('local route', () => has(localRoute));
    await n.namespace.exec('ip', 'route', 'del', 'blackhole', '10.65.0.0/26');
    await back('blackhole', () => has('blackhole 10.65.0.0/26'));
    await n.namespace.exec('ip', 'route', 'replace', `${address}/32`, 'dev', 'up0', 'proto', '80');
    await back('route that was bent', () => has(localRoute));
    await n.namespace.exec('ip', 'link', 'set', device, 'down');
    await back('link and route', () => has(localRoute));
    const rules = await n.saved('iptables');
    await n.iptables('-F', chainOf(rules.split('\n'), device, 'ingress') ?? '');
    await n.iptables('-D', 'FORWARD', '1');
    await n.iptables('-t', 'raw', '-F', 'cali-PREROUTING');
    await back('rules', async () => (await n.saved('iptables')) === rules);
    await n.namespace.exec('ipset', 'flush', 'cali40masq-ipam-pools');
    await back('set member', async () =>
      (await n.namespace.exec('ipset', 'list', 'cali40masq-ipam-pools')).includes('10.65.0.0/16'),
    );
  });

  test('routes and rules of others stay as they are, our stale ones go', async () => {
    const foreignRoutes = ['10.9.0.0/16 via 192.0.2.2 dev up0 proto bird', '10.10.0.0/16 via 192.0.2.3 dev up0'];
    for (const route of foreignRoutes) await n.namespace.exec('ip', 'route', 'add', ...route.split(' '));
    await n.namespace.exec('ip', 'route', 'add', 'blackhole', '10.77.0.0/26', 'proto', '80');
    await n.iptables('-N', 'THEIRS');
    await n.iptables('-A', 'FORWARD', '-s', '10.9.0.0/16', '-j', 'THEIRS');
    await n.iptables('-t', 'nat', '-A', 'POSTROUTING', '-o', 'up0', '-s', '10.9.0.0/16', '-j', 'MASQUERADE');
    const theirs = (text: string) => text.split('\n').filter((line) => /THEIRS|10\.9\./.test(line));
    const before = theirs(await n.saved('iptables'));
    await n.iptables('-N', 'cali-stale');
    await n.namespace.exec('ipset', 'create', 'cali40stale', 'hash:net');
    await n.namespace.exec('ipset', 'create', 'theirs', 'hash:net');
    await n.addPod(device, address);
    await populate();
    n.start();
    await programmed();
    await until(async () => !(await n.namespace.exec('ipset', 'list', '-n')).includes('cali40stale'), {
      within,
      what: 'stale set gone',
    });
    expect(await n.saved('iptables')).not.toContain('cali-stale');
    expect(await n.routes()).not.toContain('blackhole 10.77.0.0/26');
    await n.store.delete(podKey('web'));
    expect(await n.felix?.whenRemoved(endpoint, within, n.signal)).toBe('removed');
    expect(theirs(await n.saved('iptables'))).toEqual(before);
    expect(await n.namespace.exec('ipset', 'list', '-n')).toContain('theirs');
    const routes = (await n.namespace.exec('ip', 'route')).split('\n').map((line) => line.trim());
    expect(routes).toEqual(expect.arrayContaining(foreignRoutes));
    expect(routes.join('\n')).not.toContain(address);
  });
});

describe('the periodic reading', () => {
  beforeEach(async () => {
    n = await RealNode.make('legacy', { routeRefreshSeconds: 1 });
  });

  test('mends a setting, of whose change no event tells', async () => {
    await n.addPod(device, address);
    await populate();
    n.start();
    await programmed();
    const name = `net.ipv4.conf.${device}.proxy_arp`;
    await n.namespace.exec('sysctl', '-qw', `${name}=0`);
    const read = () => n.namespace.exec('sysctl', '-n', name);
    await until(async () => (await read()) === '1\n', { within, what: 'sysctl' });
  });
});

describe('the route feed', () => {
  beforeEach(async () => {
    n = await RealNode.make('legacy', { staleRouteSeconds: 1 });
  });

  test('becomes routes, one for all equal paths; a dead feed keeps them until its time is over', async () => {
    const feed = await FeedServer.listen(n.runDir);
    n.start();
    await until(() => feed.connections === 1, { within, what: 'connection' });
    feed.say(hello, said('10.66.0.0/26', '192.0.2.2'), said('10.67.0.0/26', '192.0.2.2', '192.0.2.3'));
    feed.say(said('fd00:66::/122', '2001:db8::2'), endOfSnapshot);
    const text = async () => `${(await n.routes()).join('\n')}\n${(await n.routes('-6')).join('\n')}`;
    await until(async () => (await text()).includes('fd00:66::/122 via 2001:db8::2 dev up0'), {
      within,
      what: 'routes',
    });
    expect(await text()).toMatch(
      /10\.67\.0\.0\/26\s*\nnexthop via 192\.0\.2\.2 dev up0 weight 1\s*\nnexthop via 192\.0\.2\.3/,
    );
    feed.say({ type: 'withdraw', prefix: parseCidr('10.67.0.0/26') });
    await until(async () => !(await text()).includes('10.67.0.0/26'), { within, what: 'withdrawal' });
    await feed.close();
    await until(() => n.felix?.status().feed.connected === false, { within, what: 'disconnection' });
    expect(await text()).toContain('10.66.0.0/26 via 192.0.2.2');
    await until(async () => !(await text()).includes('10.66.0.0/26'), { within, what: 'end of the stale time' });
  });

  test('routes over an uplink that went down and up come back', async () => {
    const feed = await FeedServer.listen(n.runDir);
    try {
      n.start();
      await until(() => feed.connections === 1, { within, what: 'connection' });
      feed.say(hello, said('10.66.0.0/26', '192.0.2.2'), endOfSnapshot);
      const there = async () => (await n.routes()).includes('10.66.0.0/26 via 192.0.2.2 dev up0');
      await until(there, { within, what: 'route' });
      await n.namespace.exec('ip', 'link', 'set', 'up0', 'down');
      await until(async () => !(await there()), { within, what: 'route gone' });
      await n.namespace.exec('ip', 'link', 'set', 'up0', 'up');
      await until(there, { within, what: 'route back' });
    } finally {
      await feed.close();
    }
  });
});
