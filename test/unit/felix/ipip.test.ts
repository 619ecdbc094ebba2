import { expect, test } from 'vitest';
import { RemoteBlocks } from '../../../src/felix/calc/remote.ts';
import { RouteTable } from '../../../src/felix/calc/routes.ts';
import { poolMode } from '../../../src/felix/calc/tunnels.ts';
import { TunnelSupport } from '../../../src/felix/tunnel-support.ts';
import { parseCidr } from '../../../src/model/address.ts';
import { block, entry, fallback, node, nodeResource, pool, silent, tunnels, withoutIpip } from './support.ts';

type NodeOptions = Parameters<typeof nodeResource>[3];
type PoolOptions = NonNullable<Parameters<typeof pool>[4]>;

/** Two other nodes: n2 in our subnet, n3 beyond a router; each owns a block. */
function made(options: PoolOptions, settings = tunnels as ConstructorParameters<typeof RemoteBlocks>[2]) {
  const routes = new RouteTable();
  const remote = new RemoteBlocks({ node, families: [4, 6], plain: false }, routes, settings);
  const said = (name: string, address: string, tunnel?: string, more?: NodeOptions) =>
    remote.node({ op: 'set', entry: entry({ type: 'Node', name }, nodeResource(name, address, tunnel, more)) });
  const pooled = (more: PoolOptions) =>
    remote.pool('IPPool/p', poolMode('IPPool/p', pool('p', '10.65.0.0/16', false, 'Never', more)));
  pooled(options);
  said(node, '192.0.2.1/24', '10.65.9.1', { ipip: '10.65.9.9' });
  said('n2', '192.0.2.2/24', '10.65.0.2');
  said('n3', '198.51.100.3/24', '10.65.0.67');
  remote.block(parseCidr('10.65.0.0/26'), block('10.65.0.0/26', 'n2'));
  remote.block(parseCidr('10.65.0.64/26'), block('10.65.0.64/26', 'n3'));
  const ways = () => {
    remote.settle(() => false);
    return [...routes.winners].sort().map(([, { class: by, route }]) => {
      const [hop] = route.nextHops;
      return `${by} ${hop?.gateway} ${hop?.device ?? ''}${hop?.onlink ? ' onlink' : ''}`.trim();
    });
  };
  return { remote, said, pooled, ways };
}

test('Always: every other node behind tunl0; CrossSubnet: only one beyond the subnet', () => {
  const { remote, pooled, ways } = made({ ipipMode: 'Always' });
  expect(ways()).toEqual(['ipip 192.0.2.2 tunl0 onlink', 'ipip 198.51.100.3 tunl0 onlink']);
  expect(remote.ipip()).toBe(remote.ipip());
  expect(remote.ipip()).toMatchObject({ own: { ipipTunnel: '10.65.9.9' }, peers: [{ node: 'n2' }, { node: 'n3' }] });
  expect(remote.tunnel(4)).toBeUndefined();
  pooled({ ipipMode: 'CrossSubnet' });
  expect(ways()).toEqual(['noEncap 192.0.2.2', 'ipip 198.51.100.3 tunl0 onlink']);
  pooled({});
  expect([ways(), remote.ipip()]).toEqual([[], undefined]);
});

test('protocol 4 is taken from nodes and from nobody else, also while an unwanted device still stands', () => {
  const { remote, pooled } = made({ ipipMode: 'Always' });
  const known = { name: 'cali40all-hosts-net', members: new Set(['192.0.2.2/32', '198.51.100.3/32']) };
  const rules = [
    '-p 4 -m set --match-set cali40all-hosts-net src -m addrtype --dst-type LOCAL -j ACCEPT',
    '-p 4 -j DROP',
  ];
  expect([remote.sets(4), remote.sets(6)]).toMatchObject([[known], []]);
  expect([remote.rules(4).get('cali-INPUT'), remote.rules(6).get('cali-INPUT')]).toEqual([rules, []]);
  expect(remote.natRules(4)).toEqual([expect.stringMatching(/^-o tunl0 .* -j MASQUERADE$/)]);
  pooled({});
  const standing = new Set(['tunl0', 'vxlan.calico']);
  expect(remote.sets(4, standing).map(({ name }) => name)).toEqual(['cali40all-vxlan-net', 'cali40all-hosts-net']);
  expect(remote.rules(4, standing).get('cali-INPUT')).toHaveLength(4);
  expect(remote.rules(4, standing).get('cali-INPUT')).toEqual(expect.arrayContaining(rules));
  expect([remote.sets(4), remote.rules(4).get('cali-INPUT'), remote.natRules(4)]).toEqual([[], [], []]);
});

test('ipipEnabled beats the pools, either way', () => {
  const off = made({ ipipMode: 'Always' }, { ...tunnels, ipip: { enabled: false } });
  expect([off.ways(), off.remote.ipip(), off.remote.rules(4).get('cali-INPUT')]).toEqual([[], undefined, []]);
  const on = made({}, { ...tunnels, ipip: { enabled: true } });
  expect([on.ways(), on.remote.ipip()]).toMatchObject([[], { own: { node } }]);
  on.remote.configure(tunnels);
  expect(on.remote.ipip()).toBeUndefined();
});

test('a node without IPIP is reached by VXLAN where the pool says so, the others as before', () => {
  const { remote, said, pooled, ways } = made({ ipipMode: 'Always', ...fallback });
  expect(remote.tunnel(4)).toBeUndefined();
  said('n3', '198.51.100.3/24', '10.65.0.67', withoutIpip);
  expect(ways()).toEqual(['ipip 192.0.2.2 tunl0 onlink', 'vxlan 10.65.0.67 vxlan.calico onlink']);
  expect(remote.tunnel(4)?.peers).toMatchObject([{ node: 'n2' }, { node: 'n3' }]);
  expect(remote.poolsWithout('ipip')).toEqual([]);
  // Without the annotation it is lost, and said.
  pooled({ ipipMode: 'Always' });
  expect(ways()).toEqual(['ipip 192.0.2.2 tunl0 onlink', 'ipip 198.51.100.3 tunl0 onlink']);
  expect([remote.tunnel(4), remote.poolsWithout('ipip')]).toEqual([undefined, ['IPPool/p']]);
  pooled({ ipipMode: 'Always', ...fallback });
  // Our own kernel counts for every way.
  said('n3', '198.51.100.3/24', '10.65.0.67');
  said(node, '192.0.2.1/24', '10.65.9.1', withoutIpip);
  expect(ways()).toEqual(['vxlan 10.65.0.2 vxlan.calico onlink', 'vxlan 10.65.0.67 vxlan.calico onlink']);
  said(node, '192.0.2.1/24', '10.65.9.1');
  expect(remote.tunnel(4)).toBeUndefined();
});

test('a fallback that there is not is refused by name', () => {
  const { metadata, spec } = pool('p', '10.65.0.0/16', false);
  const wrong = { spec, metadata: { ...metadata, annotations: { 'margay.io/tunnelFallback': 'GRE' } } };
  expect(() => poolMode('IPPool/p', wrong)).toThrow(
    'IPPool/p.metadata.annotations.margay.io/tunnelFallback: "GRE": expected VXLAN, UDP or "VXLAN,UDP"',
  );
});

test('what the kernel lacks is told once, and when it is there after all', () => {
  const support = new TunnelSupport(silent);
  const exposed = () => [];
  const told: string[][] = [];
  support.onChange((lacking) => told.push([...lacking]));
  const lacking = { kind: 'ipip', device: 'tunl0', state: 'unsupported', mtu: 1480 } as const;
  support.update([lacking], exposed);
  support.update([lacking], exposed);
  support.update([{ ...lacking, state: 'up' }], exposed);
  support.update([], exposed);
  expect(told).toEqual([['ipip'], []]);
});
