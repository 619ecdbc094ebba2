import { expect, test } from 'vitest';
import { RemoteBlocks, type TunnelSettings } from '../../../src/felix/calc/remote.ts';
import { RouteTable } from '../../../src/felix/calc/routes.ts';
import { derivedMac, type PoolMode, placeOf, rangeOf } from '../../../src/felix/calc/tunnels.ts';
import { parseCidr, parseIp } from '../../../src/model/address.ts';
import type { Block } from '../../../src/model/ipam.ts';
import { block, entry, node, nodeResource, tunnels } from './support.ts';

const mode = (cidr: string, vxlanMode: PoolMode['vxlanMode'], ipipMode: PoolMode['ipipMode'] = 'Never'): PoolMode => ({
  range: rangeOf(parseCidr(cidr)),
  vxlanMode,
  ipipMode,
  fallbacks: [],
});

function made(options: { plain?: boolean; settings?: TunnelSettings } = {}) {
  const routes = new RouteTable();
  const { plain = false, settings = tunnels } = options;
  const remote = new RemoteBlocks({ node, families: [4], plain }, routes, settings);
  const said = (name: string, address: string, tunnel?: string) =>
    remote.node({ op: 'set', entry: entry({ type: 'Node', name }, nodeResource(name, address, tunnel)) });
  const own = (text: string, host: string | null, change: Partial<Block> = {}) =>
    remote.block(parseCidr(text), { ...block(text, host), ...change });
  const ways = () => {
    remote.settle(() => false);
    return Object.fromEntries(
      [...routes.winners].map(([destination, { class: by, route }]) => [
        destination,
        `${by} ${route.nextHops.map(({ gateway, device = '' }) => `${gateway} ${device}`.trim()).join()}`,
      ]),
    );
  };
  return { remote, said, own, ways };
}

test('a MAC that the Node does not name is the one that Calico derives', () => {
  expect(derivedMac('n1', 4)).toMatch(/^66(:[0-9a-f]{2}){5}$/);
  expect(derivedMac('n1', 6)).not.toBe(derivedMac('n1', 4));
  const { spec, metadata } = nodeResource('n2', '192.0.2.2/24');
  expect(placeOf('n2', { spec: { ...spec, vxlanTunnelMACAddr: '66:AA:00:00:00:01' }, metadata }, 4)?.mac).toBe(
    '66:aa:00:00:00:01',
  );
});

test('an address that another node borrowed goes there and the rest of the block to its owner', () => {
  const { remote, said, own, ways } = made();
  remote.pool('p', mode('10.65.0.0/16', 'Always'));
  said(node, '192.0.2.1/24', '10.65.9.1');
  said('n2', '192.0.2.2/24', '10.65.0.0');
  said('n3', '192.0.2.3/24', '10.65.9.3');
  const attributes = [
    { handle_id: 'a', secondary: { node: 'n3' } },
    { handle_id: 'b', secondary: { node: 'n2' } },
    { handle_id: 'c', secondary: { node } },
  ];
  own('10.65.0.0/30', 'n2', { allocations: [1, 0, 2, null], unallocated: [3], attributes });
  const tunnelled = {
    '10.65.0.0/30': 'vxlan 10.65.0.0 vxlan.calico',
    '10.65.0.1/32': 'vxlan 10.65.9.3 vxlan.calico',
  };
  expect(ways()).toEqual(tunnelled);
  own('10.65.0.0/30', null, { allocations: [1, 0, 2, null], unallocated: [3], attributes });
  expect(ways()).toEqual({ '10.65.0.0/32': 'vxlan 10.65.0.0 vxlan.calico', '10.65.0.1/32': tunnelled['10.65.0.1/32'] });
  remote.node({ op: 'delete', key: { type: 'Node', name: 'n3' } });
  expect(ways()).toEqual({ '10.65.0.0/32': 'vxlan 10.65.0.0 vxlan.calico' });
  remote.block(parseCidr('10.65.0.0/30'), undefined);
  expect(ways()).toEqual({});
});

test('without BGP, pools without encapsulation are routed to nodes of the same subnet', () => {
  const bare = made({ plain: true });
  for (const { remote, said, own } of [bare, made()]) {
    remote.pool('p', mode('10.65.0.0/16', 'Never'));
    remote.pool('q', mode('10.66.0.0/16', 'Never', 'Always'));
    said(node, '192.0.2.1/24');
    said('n2', '192.0.2.2/24');
    said('n3', '198.51.100.3/24');
    own('10.65.0.0/26', 'n2');
    own('10.65.1.0/26', 'n3');
    own('10.65.2.0/26', node);
    own('10.66.0.0/26', 'n2');
    own('10.67.0.0/26', 'n2');
    expect(remote.tunnel(4)).toBeUndefined();
  }
  expect(bare.ways()).toEqual({ '10.65.0.0/26': 'noEncap 192.0.2.2', '10.66.0.0/26': 'ipip 192.0.2.2 tunl0' });
});

test('with BGP, they are left to it; a node whose address has no mask is on no subnet of ours', () => {
  const { remote, said, own, ways } = made();
  remote.pool('p', mode('10.65.0.0/16', 'CrossSubnet'));
  remote.pool('q', mode('10.66.0.0/16', 'Never'));
  said(node, '192.0.2.1', '10.65.9.1');
  said('n2', '192.0.2.2', '10.65.0.0');
  own('10.65.0.0/26', 'n2');
  own('10.66.0.0/26', 'n2');
  expect(ways()).toEqual({ '10.65.0.0/26': 'vxlan 10.65.0.0 vxlan.calico' });
  said(node, '192.0.2.1/24', '10.65.9.1');
  expect(ways()).toEqual({ '10.65.0.0/26': 'noEncap 192.0.2.2' });
});

test('rules and sets name the nodes that have a tunnel, and only while there is one', () => {
  const { remote, said } = made();
  said(node, '192.0.2.1/24', '10.65.9.1');
  said('n2', '192.0.2.2/24', '10.65.0.0');
  said('n3', '192.0.2.3/24');
  expect([remote.sets(4), remote.rules(4).get('cali-INPUT'), remote.natRules(4)]).toEqual([[], [], []]);
  remote.pool('p', mode('10.65.0.0/16', 'Always'));
  expect(remote.tunnel(4)).toBe(remote.tunnel(4));
  expect(remote.tunnel(4)?.peers.map(({ tunnel }) => tunnel)).toEqual([parseIp('10.65.0.0')]);
  expect(remote.sets(4)).toMatchObject([{ name: 'cali40all-vxlan-net', members: new Set(['192.0.2.2/32']) }]);
  expect(remote.rules(4).get('cali-INPUT')).toHaveLength(2);
  const externalNodes = [parseCidr('198.51.100.0/24'), parseCidr('fd09::/64')];
  remote.configure({ ...tunnels, externalNodes });
  expect(remote.sets(4)[0]?.members).toEqual(new Set(['192.0.2.2/32', '198.51.100.0/24']));
  remote.configure({ ...tunnels, vxlan: { ...tunnels.vxlan, port: 8472, id: 1 } });
  expect(remote.rules(4).get('cali-INPUT')?.[0]).toContain('--dport 8472 -m u32 --u32 "0>>22&0x3C@12>>8=0x1"');
  remote.configure({ ...tunnels, vxlan: { ...tunnels.vxlan, enabled: false } });
  expect([remote.tunnel(4), remote.rules(4).get('cali-INPUT')]).toEqual([undefined, []]);
});

test('blocks are worked out in slices, those that change in between once more', () => {
  const { remote, said, own, ways } = made();
  remote.pool('p', mode('10.65.0.0/16', 'Always'));
  said(node, '192.0.2.1/24', '10.65.9.1');
  said('n2', '192.0.2.2/24', '10.65.0.0');
  const blocks = Array.from({ length: 100 }, (_, at) => `10.65.${at}.0/26`);
  for (const cidr of blocks) own(cidr, 'n2');
  let slices = 0;
  const few = () => {
    let left = 30;
    return () => --left === 0;
  };
  for (let more = true; more; slices++) {
    if (slices === 1) own('10.65.0.0/26', null);
    more = remote.settle(few());
  }
  expect(slices).toBe(4);
  expect(Object.keys(ways())).toEqual(blocks.slice(1));
  expect(remote.settle(() => true)).toBe(false);
});

test('a BIRD’s routes into the pools are Calico’s where a speaker of ours has taken its place', () => {
  const [inside, outside] = [parseCidr('10.65.1.0/26'), parseCidr('10.77.0.0/26')];
  for (const plain of [false, true]) {
    const { remote } = made({ plain });
    remote.pool('p', mode('10.65.0.0/16', 'Never'));
    expect([inside, outside].map((cidr) => remote.inherits(cidr))).toEqual([!plain, false]);
    remote.pool('p', undefined);
    expect(remote.inherits(inside)).toBe(false);
  }
});
