import { expect, test } from 'vitest';
import type { PeerStatus } from '../../../src/bgp/peer-status.ts';
import type { ClusterFacts, CniFacts, Facts, Known, NetworkFacts } from '../../../src/cli/doctor/facts.ts';
import { listeners } from '../../../src/cli/doctor/processes.ts';
import { checks, diagnose, page } from '../../../src/cli/doctor.ts';
import type { FelixStatus } from '../../../src/felix/status.ts';
import { parseCidr, parseIp } from '../../../src/model/address.ts';
import { parseResource } from '../../../src/model/kinds.ts';
import { apiVersion } from '../../../src/model/resource.ts';

/* Each fault is put into the facts of a node in good order; the doctor has to name it, and nothing else. */

const now = new Date('2026-11-21T12:00:00Z');

function known<T>(value: T): Known<T> {
  return { known: true, value };
}

function nodeOf(name: string, ipv4Address: string) {
  return parseResource('Node', { kind: 'Node', apiVersion, metadata: { name }, spec: { bgp: { ipv4Address } } });
}

const felix: FelixStatus = {
  node: 'n1',
  pid: 7,
  bgp: true,
  inSync: true,
  datastore: { connected: true },
  feed: { connected: true, complete: true, routes: 3, stale: 0 },
  podMtu: 1450,
  endpoints: [{ key: 'k', name: 'shop/web', interface: 'cali1', addresses: ['10.65.0.1'], state: 'programmed' }],
  routes: { counts: {} as FelixStatus['routes']['counts'] },
  tunnels: [{ kind: 'vxlan', device: 'vxlan.calico', state: 'up', mtu: 1450 }],
  failures: [],
  invalid: [],
};

const peer = {
  name: 'tor',
  address: '10.0.0.254',
  port: 179,
  asn: 64999,
  state: 'Established',
  since: '2026-11-21T11:00:00Z',
  faults: {},
} as PeerStatus;

const cluster: ClusterFacts = {
  milliseconds: 3,
  locked: false,
  nodes: [nodeOf('n1', '10.0.0.1/24'), nodeOf('n2', '10.0.0.2/24')],
  pools: [
    {
      ...{ pool: 'default', cidr: parseCidr('10.65.0.0/16'), disabled: false, total: '65536', free: '65535' },
      ...{ used: 1, borrowed: 0, cooling: 0, reserved: '0', blocks: 1 },
    },
  ],
  audit: { addresses: 1, unjudged: 0, findings: [] },
};

const network: NetworkFacts = {
  links: [{ index: 2, name: 'eth0', mtu: 1500, up: true }],
  addresses: [
    {
      ...{ device: 'eth0', index: 2, cidr: '10.0.0.1/24', prefixLength: 24, scope: 0 },
      address: parseIp('10.0.0.1'),
    },
  ],
};

const cni: CniFacts = {
  ...{ confDir: '/etc/cni/net.d', binDir: '/opt/cni/bin', plugin: true, waiting: 0, served: true },
  configurations: [{ file: '10-margay.conflist', types: ['margay', 'portmap'] }],
  socket: '/run/margay/cni.sock',
  expectedSocket: '/run/margay/cni.sock',
};

const sysctls = new Map([
  ['net/ipv4/ip_forward', '1'],
  ['net/netfilter/nf_conntrack_count', '10'],
  ['net/netfilter/nf_conntrack_max', '1000'],
]);

const healthy: Facts = {
  node: 'n1',
  now,
  felix: { running: true, status: felix },
  bgp: { running: true, status: { asn: 64512, identifier: '10.0.0.1', converged: true, awaited: [] } },
  peers: [peer],
  cluster: known(cluster),
  network: known(network),
  sysctls: known(sysctls),
  firewall: known({ nft: { ours: 20, kube: 9 }, legacy: { ours: 0, kube: 0 } }),
  processes: known({ bgpListeners: ['node'], others: [] }),
  cni: known(cni),
  disks: known([{ directory: '/run/margay', free: 0.5, writable: true }]),
};

const withFelix = (change: Partial<FelixStatus>): Partial<Facts> => ({
  felix: { running: true, status: { ...felix, ...change } },
});
const withCluster = (change: Partial<ClusterFacts>): Partial<Facts> => ({ cluster: known({ ...cluster, ...change }) });
const withCni = (change: Partial<CniFacts>): Partial<Facts> => ({ cni: known({ ...cni, ...change }) });
const withPeer = (reason: string, by: 'us' | 'peer' | 'tcp' = 'peer'): Partial<Facts> => ({
  peers: [{ ...peer, state: 'Active', lastError: { by, reason, at: '2026-11-21T11:59:00Z' } }],
});
const withSysctl = (path: string, value: string): Partial<Facts> => ({
  sysctls: known(new Map([...sysctls, [path, value]])),
});
const [pool] = cluster.pools;
if (!pool) throw new Error('no pool');

type Fault = readonly [check: string, level: 'failure' | 'warning', change: Partial<Facts>, words: RegExp];

const faults: readonly Fault[] = [
  [
    'ipam',
    'warning',
    withCluster({
      audit: {
        ...cluster.audit,
        findings: [
          { problem: 'leak', subject: '10.65.0.9', detail: 'no endpoint has it', repair: 'release it' } as never,
        ],
      },
    }),
    /1 contradictions, for example leak: 10\.65\.0\.9.*margayctl ipam check/s,
  ],
  [
    'uplink-mtu',
    'failure',
    {
      ...withFelix({ tunnels: [] }),
      network: known({ ...network, links: [{ index: 2, name: 'eth0', mtu: 1200, up: true }] }),
    },
    /eth0 carries 1200 octets/,
  ],
  [
    'felix',
    'failure',
    { felix: { running: false, reason: 'does not answer on felix.sock' } },
    /does not answer.*start the agent/s,
  ],
  [
    'felix-datastore',
    'failure',
    withFelix({ datastore: { connected: false, reason: 'refused' } }),
    /lost the datastore: refused/,
  ],
  ['felix-datastore', 'failure', withFelix({ inSync: false }), /not read the whole datastore/],
  [
    'felix-failures',
    'failure',
    withFelix({ failures: [{ kind: 'route', item: '10.1.0.0/26', message: 'ENETUNREACH', since: 'noon' }] }),
    /route 10\.1\.0\.0\/26.*ENETUNREACH/,
  ],
  [
    'invalid-objects',
    'failure',
    withFelix({ invalid: [{ key: 'IPPool(a)', message: 'spec.cidr: "x"' }] }),
    /IPPool\(a\).*spec\.cidr/,
  ],
  [
    'endpoints',
    'failure',
    withFelix({ endpoints: [{ ...(felix.endpoints[0] as never as object), state: 'waitingForInterface' } as never] }),
    /shop\/web is waitingForInterface.*restart the pod/s,
  ],
  [
    'pod-mtu',
    'warning',
    withFelix({ endpoints: [{ ...(felix.endpoints[0] as never as object), mtu: 1500 } as never] }),
    /1450 that pods get now, for example shop\/web 1500/,
  ],
  [
    'tunnels',
    'failure',
    withFelix({
      tunnels: [
        { kind: 'ipip', device: 'tunl0', state: 'unsupported', mtu: 1480, reason: 'EOPNOTSUPP', pools: ['default'] },
      ],
    }),
    /no ipip.*default.*modprobe/s,
  ],
  [
    'tunnel-mtu',
    'failure',
    withFelix({ tunnels: [{ kind: 'vxlan', device: 'vxlan.calico', state: 'up', mtu: 1500 }] }),
    /1500 octets, and eth0 carries 1450/,
  ],
  [
    'route-feed',
    'failure',
    withFelix({ feed: { ...felix.feed, connected: false, reason: 'ENOENT' } }),
    /no routes from bgp: ENOENT/,
  ],
  ['route-feed', 'warning', withFelix({ feed: { ...felix.feed, stale: 2 } }), /2 routes were not told again/],
  ['bgp', 'failure', { bgp: { running: false, reason: 'no bgp.sock' } }, /no bgp\.sock/],
  ['bgp-sessions', 'failure', withPeer('open/badPeerAs (2/2)'), /another AS.*expects 64999/s],
  [
    'bgp-sessions',
    'failure',
    withPeer('connect ECONNREFUSED 10.0.0.254:179', 'tcp'),
    /nothing listens there on TCP port 179/,
  ],
  ['bgp-sessions', 'failure', withPeer('hold/0 (4/0)', 'us'), /packets get lost/],
  ['bgp-sessions', 'failure', withPeer('connect ETIMEDOUT', 'tcp'), /TCP MD5 passwords differ/],
  ['bgp-sessions', 'failure', withPeer('something new'), /margayctl bgp peer tor/],
  ['bgp-faults', 'warning', { peers: [{ ...peer, faults: { 'treat-as-withdraw': 3 } }] }, /3 treat-as-withdraw/],
  ['datastore', 'failure', { cluster: { known: false, reason: 'no etcd' } }, /no etcd.*ETCD_ENDPOINTS/s],
  ['datastore', 'warning', withCluster({ milliseconds: 2500 }), /2500 ms/],
  ['datastore-lock', 'failure', withCluster({ locked: true }), /locked.*unlock/s],
  ['pools', 'failure', withCluster({ pools: [] }), /no enabled IPPool/],
  ['pools', 'failure', withCluster({ pools: [{ ...pool, free: '0' }] }), /0 of 65536 addresses of default are free/],
  ['pools', 'warning', withCluster({ pools: [{ ...pool, free: '100' }] }), /100 of 65536/],
  [
    'pool-overlap',
    'failure',
    withCluster({ pools: [pool, { ...pool, pool: 'second', cidr: parseCidr('10.65.128.0/17') }] }),
    /default \(10\.65\.0\.0\/16\) and second \(10\.65\.128\.0\/17\) overlap/,
  ],
  [
    'node-address',
    'failure',
    withCluster({ nodes: [nodeOf('n1', '10.0.0.9/24')] }),
    /10\.0\.0\.9 is on none of its devices.*IP_AUTODETECTION_METHOD/s,
  ],
  ['node-address', 'failure', withCluster({ nodes: [nodeOf('n2', '10.0.0.2/24')] }), /no Node n1/],
  [
    'same-address',
    'failure',
    withCluster({ nodes: [...cluster.nodes, nodeOf('n3', '10.0.0.2/24')] }),
    /n2 and n3 have the same address/,
  ],
  ['forwarding', 'failure', withSysctl('net/ipv4/ip_forward', '0'), /net\.ipv4\.ip_forward is off/],
  ['conntrack', 'failure', withSysctl('net/netfilter/nf_conntrack_count', '1000'), /1000 of 1000 connections/],
  ['conntrack', 'warning', withSysctl('net/netfilter/nf_conntrack_count', '850'), /850 of 1000/],
  [
    'iptables-backend',
    'failure',
    { firewall: known({ nft: { ours: 2, kube: 0 }, legacy: { ours: 2, kube: 0 } }) },
    /both backends/,
  ],
  [
    'iptables-backend',
    'failure',
    { firewall: known({ nft: { ours: 2, kube: 0 }, legacy: { ours: 0, kube: 5 } }) },
    /in nft, and those of Kubernetes in legacy.*Legacy/s,
  ],
  ['port-179', 'failure', { processes: known({ bgpListeners: ['bird'], others: [] }) }, /bird listens on TCP port 179/],
  ['other-networks', 'warning', { processes: known({ bgpListeners: ['node'], others: ['flanneld'] }) }, /flanneld/],
  [
    'disk',
    'failure',
    { disks: known([{ directory: '/run/margay', free: 0.5, writable: false }]) },
    /\/run\/margay cannot be written/,
  ],
  ['disk', 'warning', { disks: known([{ directory: '/run/margay', free: 0.01, writable: true }]) }, /1 % of/],
  [
    'cni-configuration',
    'failure',
    withCni({ configurations: [{ file: '05-cilium.conflist', types: ['cilium-cni'] }, ...cni.configurations] }),
    /take 05-cilium\.conflist \(cilium-cni\)/,
  ],
  ['cni-configuration', 'failure', withCni({ configurations: [] }), /no configuration of ours.*margay cni install/s],
  ['cni-configuration', 'failure', withCni({ plugin: false }), /no margay plugin/],
  ['cni-socket', 'failure', withCni({ served: false }), /pods cannot start/],
  ['cni-socket', 'failure', withCni({ socket: '/elsewhere/cni.sock' }), /seeks the agent at \/elsewhere\/cni\.sock/],
  ['cni-queue', 'warning', withCni({ waiting: 4 }), /4 removals/],
  [
    'cni-token',
    'failure',
    withCni({ token: { file: 'kubeconfig', expires: new Date('2026-11-21T11:00:00Z') } }),
    /ended at/,
  ],
  [
    'cni-token',
    'warning',
    withCni({ token: { file: 'kubeconfig', expires: new Date('2026-11-21T12:10:00Z') } }),
    /ends at/,
  ],
];

test('a node in good order', () => {
  const found = diagnose(healthy);
  expect(found.filter(({ level }) => level !== 'ok')).toEqual([]);
  expect(page(found, false)).toBe(`${found.length} in order, 0 failures, 0 warnings, 0 not seen\n`);
});

test.each(faults)('%s: %s', (check, level, change, words) => {
  const wrong = diagnose({ ...healthy, ...change }).filter((one) => one.level !== 'ok');
  expect(wrong.map((one) => [one.check, one.level])).toEqual([[check, level]]);
  expect(page(wrong, false)).toMatch(words);
});

test('what cannot be seen is said, and the rest is judged', () => {
  const reason = 'iptables-nft-save: not found';
  const found = diagnose({ ...healthy, firewall: { known: false, reason } });
  expect(page(found, false)).toBe(
    `? iptables-backend: cannot be seen: ${reason}\n${found.length - 1} in order, 0 failures, 0 warnings, 1 not seen\n`,
  );
});

test('every check has a fault that it finds', () => {
  const tested = new Set(faults.map(([check]) => check));
  expect(Object.keys(checks).filter((check) => !tested.has(check))).toEqual([]);
});

test('an agent without BGP needs no speaker', () => {
  const found = diagnose({
    ...healthy,
    ...withFelix({ bgp: false }),
    bgp: { running: false, reason: 'no' },
    peers: [],
  });
  expect(found.filter(({ level }) => level !== 'ok')).toEqual([]);
});

test('listeners on port 179 are told from connections to it', () => {
  const table = [
    '  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode',
    '   0: 00000000:00B3 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4711 1',
    '   1: 0100007F:00B3 0100007F:9C40 01 00000000:00000000 00:00000000 00000000     0        0 4712 1',
    '   2: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4713 1',
  ].join('\n');
  expect(listeners(table)).toEqual(['4711']);
});
