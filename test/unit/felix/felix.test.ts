import { afterEach, beforeEach, expect, test } from 'vitest';
import { EnvironmentError } from '../../../src/base/errors.ts';
import { FakeIptables } from '../../../src/kernel/fake-firewall.ts';
import { IptablesError, KernelError } from '../../../src/kernel/types.ts';
import { parseCidr } from '../../../src/model/address.ts';
import { chainOf, rulesOf } from '../../support/chains.ts';
import { until } from '../../support/wait.ts';
import { endpoint, looksAt, within } from './looks.ts';
import { block, configured, gated, Harness, node, pod, podKey, pool, profile } from './support.ts';

let h: Harness;
const { destinations, firstPass, programmed, routes } = looksAt(() => h);
const cidr = parseCidr;

beforeEach(() => {
  h = new Harness();
});
afterEach(() => h.dispose());

test('a pod is programmed: chains, settings, link and both routes', async () => {
  h.link('caliweb');
  h.start();
  const revision = await h.put(podKey('web'), pod('web', { addresses: ['10.65.0.2', 'fd00::2'] }));
  expect(await programmed('web', revision)).toBe('programmed');
  expect(destinations()).toEqual(['10.65.0.2/32', 'fd00::2/128']);
  expect(chainOf(rulesOf(h.iptables[4].tables.get('filter')), 'caliweb', 'ingress')).toBeDefined();
  expect(h.iptables[6].tables.get('raw')?.chains.has('cali-PREROUTING')).toBe(true);
  expect(h.netlink.link('caliweb')?.up).toBe(true);
  expect(Object.fromEntries(h.sysctls)).toMatchObject({
    'net/ipv4/ip_forward': '1',
    'net/ipv6/conf/all/forwarding': '1',
    'net/ipv4/conf/caliweb/proxy_arp': '1',
    'net/ipv4/conf/caliweb/route_localnet': '1',
    'net/ipv4/neigh/caliweb/proxy_delay': '0',
    'net/ipv6/conf/caliweb/proxy_ndp': '1',
    'net/ipv6/conf/caliweb/accept_ra': '0',
  });
  expect(h.felix.status().endpoints).toEqual([
    {
      key: endpoint('web'),
      name: 'shop/web',
      interface: 'caliweb',
      addresses: ['10.65.0.2', 'fd00::2'],
      state: 'programmed',
    },
  ]);
});

test('an announced pod has its chains before it is stored, and everything before the datastore tells of it', async () => {
  const value = pod('web', { addresses: ['10.65.0.2'] });
  h.link('caliweb');
  h.start();
  await firstPass();
  const telling = h.felix.announce(podKey('web'), value, [4]);
  const chain = () => chainOf(rulesOf(h.iptables[4].tables.get('filter')), 'caliweb', 'ingress');
  await until(() => chain() !== undefined, { within, what: 'the chains' });
  expect(routes()).toEqual([]);
  const later = '1000000';
  telling?.confirm(value, later);
  expect(await programmed('web', later)).toBe('programmed');
  expect(destinations()).toEqual(['10.65.0.2/32']);
});

test('an announcement that is withdrawn leaves no chain', async () => {
  h.link('caliweb');
  h.start();
  await firstPass();
  const telling = h.felix.announce(podKey('web'), pod('web', { addresses: ['10.65.0.2'] }), [4]);
  const chain = () => chainOf(rulesOf(h.iptables[4].tables.get('filter')), 'caliweb', 'ingress');
  await until(() => chain() !== undefined, { within, what: 'the chains' });
  telling?.withdraw();
  expect(await h.felix.whenRemoved(endpoint('web'), within, h.signal)).toBe('removed');
  expect(chain()).toBeUndefined();
});

test('an older revision in the kernel is not the one asked for', async () => {
  h.link('caliweb');
  h.start();
  const revision = await h.put(podKey('web'), pod('web', { addresses: ['10.65.0.2'] }));
  await programmed('web', revision);
  const later = String(BigInt(revision) + 1n);
  expect(await h.felix.whenProgrammed(endpoint('web'), later, 20, h.signal)).toBe('timeout');
});

test('a pod of another node is none of ours', async () => {
  h.start();
  await h.put(podKey('far'), pod('far', { addresses: ['10.65.1.2'], on: 'n2' }));
  await firstPass();
  expect(h.felix.status().endpoints).toEqual([]);
  expect(routes()).toEqual([]);
});

test('an endpoint waits for its device, and is programmed when that appears', async () => {
  h.start();
  await h.put(podKey('web'), pod('web', { addresses: ['10.65.0.2'] }));
  await until(() => h.felix.status().endpoints[0]?.state === 'waitingForInterface', { within, what: 'waiting' });
  expect(h.felix.status().failures).toEqual([]);
  h.link('caliweb');
  expect(await programmed('web')).toBe('programmed');
});

test('a removed pod leaves no route, chain or connection; then whenRemoved resolves', async () => {
  h.link('caliweb');
  h.start();
  await h.put(podKey('web'), pod('web', { addresses: ['10.65.0.2'] }));
  await programmed('web');
  const gone = h.felix.whenRemoved(endpoint('web'), within, h.signal);
  await h.store.delete(podKey('web'));
  expect(await gone).toBe('removed');
  expect(routes()).toEqual([]);
  expect(h.cut).toContain('10.65.0.2');
  expect(chainOf(rulesOf(h.iptables[4].tables.get('filter')), 'caliweb', 'ingress')).toBeUndefined();
});

test('connections are cut also when the device went first', async () => {
  h.link('caliweb');
  h.start();
  await h.put(podKey('web'), pod('web', { addresses: ['10.65.0.2'] }));
  await programmed('web');
  h.netlink.deleteLink('caliweb');
  await h.store.delete(podKey('web'));
  expect(await h.felix.whenRemoved(endpoint('web'), within, h.signal)).toBe('removed');
  expect(h.cut).toEqual(['10.65.0.2']);
});

test('no route opens a pod whose chains do not stand, and what failed is retried', async () => {
  h.link('caliweb');
  h.iptables[4].fail = new IptablesError('line 3 failed', '-A cali-x');
  h.start();
  await h.put(podKey('web'), pod('web', { addresses: ['10.65.0.2'] }));
  await until(() => h.felix.status().failures.some(({ kind }) => kind === 'iptables'), { within, what: 'failure' });
  expect(routes()).toEqual([]);
  expect(h.felix.status().endpoints[0]?.state).toBe('waitingForPolicy');
  expect(h.felix.ready()).toBe(false);
  h.iptables[4].fail = undefined;
  expect(await programmed('web')).toBe('programmed');
  await until(() => h.felix.status().failures.length === 0, { within, what: 'failure gone' });
});

test('rules wait for their sets', async () => {
  h.ipsets.fail = new Error('set is full');
  h.start();
  await h.put({ type: 'IPPool', name: 'p' }, pool('p', '10.65.0.0/16', true));
  await until(() => h.felix.status().failures.some(({ kind }) => kind === 'ipset'), { within, what: 'failure' });
  expect(h.iptables[4].applies).toBe(0);
  h.ipsets.fail = undefined;
  await until(() => h.iptables[4].tables.get('nat')?.chains.has('cali-nat-outgoing'), { within, what: 'nat chain' });
});

test('one route that fails does not stop the others, and is retried', async () => {
  h.netlink.failures.set('10.65.1.0/26', 'EINVAL');
  h.start();
  for (const text of ['10.65.0.0/26', '10.65.1.0/26', '10.65.2.0/26']) {
    await h.put({ type: 'Block', cidr: cidr(text) }, block(text, node));
  }
  await until(() => destinations().length === 2, { within, what: 'two routes' });
  const failed = await until(() => h.felix.status().failures[0], { within, what: 'failure' });
  expect(failed).toMatchObject({ kind: 'route', item: '10.65.1.0/26' });
  h.netlink.failures.clear();
  await until(() => destinations().length === 3, { within, what: 'three routes' });
});

test('nothing is written before the datastore is in sync', async () => {
  const late = gated(h.store);
  const waiting = new Harness({ store: late.store });
  try {
    waiting.start();
    await until(() => waiting.felix.status().feed.reason !== 'not connected yet', { within, what: 'start' });
    expect(waiting.netlink.calls).toEqual([]);
    expect(waiting.iptables[4].applies).toBe(0);
    expect(waiting.sysctls.size).toBe(0);
    late.open();
    await until(() => waiting.iptables[4].applies > 0, { within, what: 'first write' });
  } finally {
    await waiting.dispose();
  }
});

test('a second felix in the same folder refuses', async () => {
  h.start();
  await firstPass();
  const second = new Harness({ runDir: h.runDir });
  await expect(second.felix.run(second.signal)).rejects.toThrow(EnvironmentError);
  await second.dispose();
});

test('a failing setting of one pod leaves the others alone', async () => {
  const sysctls = new Map<string, string>();
  const picky = new Harness({
    writeSysctl: (name, value) => {
      if (name.includes('calibad')) throw new KernelError(`write sysctl ${name}`, 'EROFS');
      sysctls.set(name, value);
    },
  });
  try {
    picky.link('calibad');
    picky.link('caligood');
    picky.start();
    await picky.put(podKey('bad'), pod('bad', { addresses: ['10.65.0.3'] }));
    await picky.put(podKey('good'), pod('good', { addresses: ['10.65.0.4'] }));
    expect(await picky.felix.whenProgrammed(endpoint('good'), undefined, within, picky.signal)).toBe('programmed');
    const bad = await until(() => picky.felix.status().endpoints.find(({ problem }) => problem), {
      within,
      what: 'problem',
    });
    expect(bad).toMatchObject({ name: 'shop/bad', state: 'waitingForRoutes' });
  } finally {
    await picky.dispose();
  }
});

test('IP sets that nothing refers to are destroyed after the rules are gone', async () => {
  h.start();
  await h.put({ type: 'IPPool', name: 'p' }, pool('p', '10.65.0.0/16', true));
  await h.put({ type: 'Profile', name: 'kns.shop' }, profile('kns.shop'));
  await until(() => h.ipsets.sets.has('cali40masq-ipam-pools'), { within, what: 'set' });
  await h.put({ type: 'IPPool', name: 'p' }, pool('p', '10.65.0.0/16', false));
  await until(() => !h.ipsets.sets.has('cali40masq-ipam-pools'), { within, what: 'set gone' });
  expect(h.iptables[4].tables.get('nat')?.chains.size).toBe(0);
});

test('a hundred addresses that come at once are read once', async () => {
  h.link('eth0', true);
  h.start();
  await until(() => h.felix.status().lastApply, { within, what: 'the first pass' });
  let readings = 0;
  const { netlink } = h;
  const addresses = netlink.addresses.bind(netlink);
  netlink.addresses = (family) => {
    readings++;
    return addresses(family);
  };
  for (let at = 0; at < 100; at++) netlink.addAddress('eth0', `198.51.100.${at}/32`);
  const before = h.felix.status().lastApply?.at;
  await until(() => h.felix.status().lastApply?.at !== before, { within, what: 'a pass' });
  expect(readings).toBe(1);
});

test('a machine that is busy otherwise does not put off the looks at rules: their own work counts, not the clock', async () => {
  let looks = 0;
  class Slow extends FakeIptables {
    override async apply(...tables: Parameters<FakeIptables['apply']>) {
      looks++;
      await new Promise((resolve) => setTimeout(resolve, 100));
      return super.apply(...tables);
    }
  }
  const slow = new Harness({
    iptables: { 4: new Slow() },
    config: configured({ checkSeconds: 0.01 }),
    cpuMilliseconds: () => 0,
  });
  try {
    slow.start();
    // By the clock a look would cost 100 ms, and two seconds would lie between two.
    await until(() => looks >= 8, { within, what: 'eight looks' });
  } finally {
    await slow.dispose();
  }
});

test('forwarding is left as it is where the settings say so', async () => {
  const config = configured({ ipForwarding: false });
  const other = new Harness({ config });
  try {
    other.link('caliweb');
    other.start();
    await other.put(podKey('web'), pod('web', { addresses: ['10.65.0.2'] }));
    const standing = other.felix.whenProgrammed(endpoint('web'), undefined, 5000, other.signal);
    expect(await standing).toBe('programmed');
    expect(other.sysctls.get('net/ipv4/conf/caliweb/forwarding')).toBe('1');
    for (const name of ['net/ipv4/ip_forward', 'net/ipv6/conf/all/forwarding'])
      expect(other.sysctls.has(name)).toBe(false);
  } finally {
    await other.dispose();
  }
});
