import { describe, expect, test } from 'vitest';
import { systemClock } from '../../../src/base/clock.ts';
import { createLog } from '../../../src/base/log.ts';
import { autodetect, type Interfaces, parseMethod } from '../../../src/cli/autodetect.ts';
import { poolsFrom, startup, withMask } from '../../../src/cli/startup.ts';
import { createMemoryStore, type MemoryStore } from '../../../src/datastore/memory.ts';
import { ManualClock } from '../../support/manual-clock.ts';
import { until } from '../../support/wait.ts';

const log = createLog('test', 'silent');
const address = (cidr: string) => ({
  address: cidr.replace(/\/.*/, ''),
  cidr,
  family: cidr.includes(':') ? ('IPv6' as const) : ('IPv4' as const),
  internal: cidr.startsWith('127.'),
  mac: '00:00:00:00:00:00',
  netmask: '',
  scopeid: 0,
});
const interfaces = {
  lo: [address('127.0.0.1/8')],
  docker0: [address('172.17.0.1/16')],
  eth0: [address('192.0.2.7/24'), address('fe80::1/64'), address('2001:db8::7/64')],
  eth1: [address('198.51.100.7/24')],
} as unknown as Interfaces;

const deps = (env: Record<string, string>) => ({
  env: { NODENAME: 'n1', ...env },
  clock: systemClock,
  log,
  interfaces,
});

describe('start-up', () => {
  test('writes the node, the default pool and the cluster’s settings', async () => {
    const store = createMemoryStore();
    await startup({ store, ...deps({ IP: '192.0.2.7', AS: '64513' }) });
    const node = await store.get({ type: 'Node', name: 'n1' });
    expect(node?.value.spec.bgp).toEqual({ asNumber: 64513, ipv4Address: '192.0.2.7/24' });
    expect(node?.value.spec.addresses).toEqual([{ address: '192.0.2.7/24', type: 'CalicoNodeIP' }]);
    const pools = await store.list('IPPool');
    expect(pools.entries.map(({ value }) => [value.metadata.name, value.spec.cidr, value.spec.natOutgoing])).toEqual([
      ['default-ipv4-ippool', '192.168.0.0/16', true],
    ]);
    const cluster = await store.get({ type: 'ClusterInformation', name: 'default' });
    expect(cluster?.value.spec).toMatchObject({
      datastoreReady: true,
      clusterGUID: expect.stringMatching(/^[0-9a-f]{32}$/),
    });
  });

  test('an address that no device has is written, with a warning', async () => {
    const lines: string[] = [];
    const warning = createLog('test', 'warn', { write: (line) => void lines.push(line) });
    const store = createMemoryStore();
    await startup({ store, ...deps({ IP: '192.0.2.7' }), log: warning });
    expect(lines).toEqual([]);
    await startup({ store, ...deps({ IP: '203.0.113.9/24' }), log: warning });
    expect((await store.get({ type: 'Node', name: 'n1' }))?.value.spec.bgp?.ipv4Address).toBe('203.0.113.9/24');
    expect(lines).toEqual([
      expect.stringContaining('"IP":"203.0.113.9/24","msg":"no device of this host has this address'),
    ]);
  });

  test('a node says what it is called in Kubernetes, beside what others call it', async () => {
    const store = createMemoryStore();
    const key = { type: 'Node', name: 'n1' } as const;
    const other = { nodeName: 'vm-1', orchestrator: 'openstack' };
    await startup({ store, ...deps({ IP: '192.0.2.7' }) });
    expect((await store.get(key))?.value.spec.orchRefs).toBeUndefined();
    const found = await store.get(key);
    if (found)
      await store.update(key, { ...found.value, spec: { ...found.value.spec, orchRefs: [other] } }, found.revision);
    await startup({ store, ...deps({ IP: '192.0.2.7', CALICO_K8S_NODE_REF: 'ip-192-0-2-7' }) });
    expect((await store.get(key))?.value.spec.orchRefs).toEqual([
      { nodeName: 'ip-192-0-2-7', orchestrator: 'k8s' },
      other,
    ]);
  });

  test('twenty nodes that start at once agree on one pool and one cluster', async () => {
    const store = createMemoryStore();
    const names = Array.from({ length: 20 }, (_, i) => `n${i}`);
    await Promise.all(names.map((NODENAME) => startup({ store, ...deps({ NODENAME, IP: 'autodetect' }) })));
    expect((await store.list('Node')).entries).toHaveLength(20);
    expect((await store.list('IPPool')).entries).toHaveLength(1);
  });

  test('a second start keeps what others wrote in the Node and writes nothing', async () => {
    const store = createMemoryStore();
    await startup({ store, ...deps({ IP: '192.0.2.7/24' }) });
    const before = await store.get({ type: 'Node', name: 'n1' });
    if (!before) return expect.fail('no node');
    const spec = { ...before.value.spec, bgp: { ...before.value.spec.bgp, routeReflectorClusterID: '1.0.0.1' } };
    await store.update(before.key, { ...before.value, spec }, before.revision);
    const edited = await store.get({ type: 'Node', name: 'n1' });
    await startup({ store, ...deps({}) });
    expect(await store.get({ type: 'Node', name: 'n1' })).toEqual(edited);
  });

  test('while the datastore is locked a node writes nothing, and waits if it has to', async () => {
    const store = createMemoryStore();
    await startup({ store, ...deps({ IP: '192.0.2.7/24' }) });
    await setReady(store, false);
    const before = store.dump();
    const clock = new ManualClock();
    await startup({ store, ...deps({ IP: '192.0.2.7/24' }), clock });
    expect(clock.armed).toBe(0);
    const starts = [
      startup({ store, ...deps({ IP: '198.51.100.7/24' }), clock }),
      startup({ store, ...deps({ NODENAME: 'n2', IP: '192.0.2.8/24' }), clock }),
    ];
    const leaving = new AbortController();
    const left = startup({ store, ...deps({ NODENAME: 'n3', IP: '192.0.2.9/24' }), clock, signal: leaving.signal });
    for (let looks = 0; looks < 3; looks++) {
      await until(() => clock.armed === 3, { within: 5000, what: 'three that wait' });
      expect(store.dump()).toEqual(before);
      clock.advance(15_000);
    }
    leaving.abort();
    await expect(left).rejects.toThrow();
    await setReady(store, true);
    await until(() => clock.armed === 2, { within: 5000, what: 'two that wait' });
    clock.advance(15_000);
    await Promise.all(starts);
    const nodes = (await store.list('Node')).entries.map(({ key, value }) => [key.name, value.spec.bgp?.ipv4Address]);
    expect(nodes).toEqual([
      ['n1', '198.51.100.7/24'],
      ['n2', '192.0.2.8/24'],
    ]);
  });

  test.each([
    [{ IP: 'ten' }, 'IP: "ten"'],
    [{ IP: '2001:db8::1' }, 'expected an IPv4 address'],
    [{ IP: 'none' }, 'this node has no address'],
    [{ AS: '0' }, 'AS: "0"'],
    [{ NODENAME: 'UPPER' }, 'NODENAME: "UPPER"'],
    [{ CALICO_IPV4POOL_CIDR: 'x' }, 'CALICO_IPV4POOL_CIDR: "x"'],
    [{ CALICO_IPV4POOL_IPIP: 'Perhaps' }, 'CALICO_IPV4POOL_IPIP: "Perhaps"'],
    [{ CALICO_IPV4POOL_BLOCK_SIZE: '19' }, 'CALICO_IPV4POOL_BLOCK_SIZE: "19"'],
    [{ CALICO_IPV4POOL_NAT_OUTGOING: 'perhaps' }, 'CALICO_IPV4POOL_NAT_OUTGOING: "perhaps"'],
    [{ IP_AUTODETECTION_METHOD: 'magic' }, 'IP_AUTODETECTION_METHOD: "magic"'],
  ])('%o is refused by name', async (env, message) => {
    await expect(startup({ store: createMemoryStore(), ...deps(env) })).rejects.toThrow(message);
  });
});

async function setReady(store: MemoryStore, datastoreReady: boolean): Promise<void> {
  const found = await store.get({ type: 'ClusterInformation', name: 'default' });
  if (!found) throw new Error('no ClusterInformation');
  const value = { ...found.value, spec: { ...found.value.spec, datastoreReady } };
  await store.update(found.key, value, found.revision);
}

describe('autodetection', () => {
  test.each([
    ['first-found', 4, '192.0.2.7/24'],
    ['first-found', 6, '2001:db8::7/64'],
    ['interface=eth1', 4, '198.51.100.7/24'],
    ['interface=eth.*', 4, '192.0.2.7/24'],
    ['skip-interface=eth0', 4, '198.51.100.7/24'],
    ['cidr=198.51.100.0/24,10.0.0.0/8', 4, '198.51.100.7/24'],
  ] as const)('%s over IPv%d', async (text, family, wanted) => {
    expect(await autodetect(parseMethod(text, 'METHOD'), family, interfaces)).toBe(wanted);
  });

  test('no fitting address: the message lists what was seen', async () => {
    const method = parseMethod('interface=wan', 'METHOD');
    await expect(autodetect(method, 4, interfaces)).rejects.toThrow(/192\.0\.2\.7\/24 on eth0.*set IP to/);
  });

  test('an address without a mask takes that of its device, else it stands alone', () => {
    expect(withMask('198.51.100.7', 4, 'IP', interfaces)).toBe('198.51.100.7/24');
    expect(withMask('203.0.113.9', 4, 'IP', interfaces)).toBe('203.0.113.9/32');
    expect(withMask('2001:DB8::0:7', 6, 'IP6', interfaces)).toBe('2001:db8::7/64');
  });
});

test('pools: none when told so, IPv6 only when given', () => {
  expect(poolsFrom({ NO_DEFAULT_POOLS: 'true' })).toEqual([]);
  const pools = poolsFrom({ CALICO_IPV4POOL_CIDR: '10.65.0.0/16', CALICO_IPV6POOL_CIDR: 'fd65::/64' });
  expect(pools.map(({ spec }) => [spec.cidr, spec.blockSize, spec.natOutgoing])).toEqual([
    ['10.65.0.0/16', 26, true],
    ['fd65::/64', 122, false],
  ]);
});

test('the encapsulation of the default pools', () => {
  const modeOf = (env: Record<string, string>) => poolsFrom(env)[0]?.spec.vxlanMode;
  expect(modeOf({})).toBe('Never');
  expect(modeOf({ CALICO_IPV4POOL_VXLAN: 'always' })).toBe('Always');
  expect(modeOf({ CALICO_IPV4POOL_VXLAN: 'CrossSubnet', CALICO_IPV4POOL_IPIP: 'Off' })).toBe('CrossSubnet');
  expect(() => poolsFrom({ CALICO_IPV4POOL_VXLAN: 'Perhaps' })).toThrow('CALICO_IPV4POOL_VXLAN: "Perhaps": expected');
  expect(poolsFrom({ CALICO_IPV4POOL_IPIP: 'crosssubnet' })[0]?.spec.ipipMode).toBe('CrossSubnet');
  const both = { CALICO_IPV4POOL_IPIP: 'Always', CALICO_IPV4POOL_VXLAN: 'Always' };
  expect(() => poolsFrom(both)).toThrow('CALICO_IPV4POOL_IPIP: "Always": expected Never where');
  const six = { CALICO_IPV6POOL_CIDR: 'fd00::/48', CALICO_IPV6POOL_IPIP: 'Always' };
  expect(() => poolsFrom(six)).toThrow('CALICO_IPV6POOL_IPIP: "Always": expected Never');
});
