import { expect, test } from 'vitest';
import { Graph } from '../../../src/felix/calc/graph.ts';
import { isLimited, limitChains } from '../../../src/felix/calc/limits.ts';
import { type NatOptions, natSets, natTable, usualNat } from '../../../src/felix/calc/nat.ts';
import { rawTable } from '../../../src/felix/calc/raw.ts';
import { blackhole, deviceRoute, gatewayRoute, sameRoute } from '../../../src/felix/calc/route.ts';
import { preceded } from '../../../src/felix/calc/table.ts';
import { RenderedPolicy } from '../../../src/felix/policy.ts';
import type { DesiredTable } from '../../../src/kernel/types.ts';
import { parseCidr, parseIp } from '../../../src/model/address.ts';
import { parseHop } from '../../../src/model/feed.ts';
import { chainOf, rulesOf } from '../../support/chains.ts';
import { block, configured, entry, node, nodeResource, pod, podKey, pool, silent, tunnels } from './support.ts';

const four = { cidr: parseCidr('10.65.0.0/16'), natOutgoing: true };
const plain = { cidr: parseCidr('10.66.0.0/16'), natOutgoing: false };
const six = { cidr: parseCidr('fd00::/48'), natOutgoing: false };

function graph(): Graph {
  const policy = new RenderedPolicy(node, configured(), silent);
  return new Graph({ node, families: [4, 6], interfacePrefix: 'cali', policy, tunnels, plain: false });
}

test('packets of a pool with natOutgoing are masqueraded when they leave all pools', () => {
  expect(natTable([four, plain, six], 4)).toEqual({
    chains: new Map([
      ['cali-POSTROUTING', ['-j cali-nat-outgoing']],
      [
        'cali-nat-outgoing',
        ['-m set --match-set cali40masq-ipam-pools src -m set ! --match-set cali40all-ipam-pools dst -j MASQUERADE'],
      ],
    ]),
    insertions: new Map([['POSTROUTING', ['-j cali-POSTROUTING']]]),
  });
  expect(natSets([four, plain, six], 4).map(({ name, members }) => [name, [...members]])).toEqual([
    ['cali40masq-ipam-pools', ['10.65.0.0/16']],
    ['cali40all-ipam-pools', ['10.65.0.0/16', '10.66.0.0/16']],
  ]);
});

test('where nodes are excluded as well, the set of them is there with the rule that names it, and no longer', () => {
  const calc = graph();
  const set = (type: 'IPPool' | 'Node', name: string, value: Parameters<typeof entry>[1]) =>
    calc.apply({ op: 'set', entry: entry({ type, name }, value) });
  set('Node', 'n2', nodeResource('n2', '192.0.2.2/24'));
  set('IPPool', 'p', pool('p', '10.65.0.0/16', true));
  const rule = () => calc.firewall().tables.get(4)?.get('nat')?.chains.get('cali-nat-outgoing')?.[0];
  const hosts = () => calc.firewall().sets.get('cali40all-hosts-net')?.members;
  expect([rule()?.includes('all-hosts-net'), hosts()]).toEqual([false, undefined]);
  calc.configureNat({ ...usualNat, exclusions: 'poolsAndHosts' });
  expect(rule()).toBe(
    '-m set --match-set cali40masq-ipam-pools src -m set ! --match-set cali40all-ipam-pools dst ' +
      '-m set ! --match-set cali40all-hosts-net dst -j MASQUERADE',
  );
  expect(hosts()).toEqual(new Set(['192.0.2.2/32']));
  set('Node', 'n3', nodeResource('n3', '192.0.2.3/24'));
  expect(hosts()).toEqual(new Set(['192.0.2.2/32', '192.0.2.3/32']));
  set('IPPool', 'p', pool('p', '10.65.0.0/16', false));
  expect([rule(), hosts()]).toEqual([undefined, undefined]);
});

test('a family without natOutgoing has neither rules nor sets for it', () => {
  expect(natTable([four, six], 6).chains.size).toBe(0);
  expect(natSets([four, six], 6)).toEqual([]);
});

test('sources are checked first, in both families', () => {
  for (const family of [4, 6] as const) {
    const table = rawTable(family, 'cali');
    expect(table.insertions.get('PREROUTING')).toEqual(['-j cali-PREROUTING']);
    expect(table.chains.get('cali-from-wl-raw')?.[0]).toBe('-m rpfilter --invert -j DROP');
  }
  expect(rawTable(6, 'cali').chains.get('cali-from-wl-raw')).toContain('-p ipv6-icmp --icmpv6-type 134 -j DROP');
});

test('what the kernel fills in is no difference; everything else is', () => {
  const to = parseCidr('10.65.1.0/26');
  const wanted = gatewayRoute(to, [{ gateway: parseIp('192.0.2.2') }, { gateway: parseIp('192.0.2.3') }]);
  const found = {
    ...wanted,
    nextHops: [
      { gateway: parseIp('192.0.2.3'), device: 'eth0', weight: 1 },
      { gateway: parseIp('192.0.2.2'), device: 'eth0', onlink: false },
    ],
  };
  expect(sameRoute(wanted, found)).toBe(true);
  expect(sameRoute(wanted, { ...found, nextHops: found.nextHops.slice(1) })).toBe(false);
  expect(sameRoute(wanted, { ...found, protocol: 4 })).toBe(false);
  expect(sameRoute(wanted, { ...found, source: parseIp('192.0.2.1') })).toBe(false);
  expect(sameRoute(blackhole(to), { ...blackhole(to), nextHops: [{ device: 'lo' }] })).toBe(true);
  expect(sameRoute(blackhole(to), deviceRoute(to, 'cali1'))).toBe(false);
});

test('of two pods with one address the younger has it, in either order', () => {
  const older = entry(podKey('a'), pod('a', { addresses: ['10.65.0.2'], created: '2026-01-01T00:00:00Z' }));
  const younger = entry(podKey('b'), pod('b', { addresses: ['10.65.0.2'], created: '2026-01-02T00:00:00Z' }));
  for (const order of [
    [older, younger],
    [younger, older],
  ]) {
    const calc = graph();
    for (const one of order) calc.apply({ op: 'set', entry: one });
    expect(calc.routes.winners.get(parseCidr('10.65.0.2/32'))?.route.nextHops).toEqual([{ device: 'calib' }]);
  }
});

test('a link-local next hop of the feed is a gateway on its device, for IPv4 prefixes too', () => {
  const calc = graph();
  const prefix = parseCidr('10.66.0.0/26');
  const nextHops = ['fe80::2%eth0', 'fe80::2%eth1'].map((hop) => parseHop(hop, 'nextHops'));
  calc.applyFeed({ type: 'hello', version: 1 });
  calc.applyFeed({ type: 'route', prefix, nextHops, source: 'ebgp' });
  expect(calc.routes.winners.get(prefix)?.route).toMatchObject({
    destination: prefix,
    nextHops: [
      { gateway: 'fe80::2', device: 'eth0' },
      { gateway: 'fe80::2', device: 'eth1' },
    ],
  });
});

test('a block as small as an address loses against the pod, and comes back after it', () => {
  const calc = graph();
  const cidr = parseCidr('10.65.0.2/32');
  calc.apply({ op: 'set', entry: entry({ type: 'Block', cidr }, block('10.65.0.2/32', node)) });
  calc.apply({ op: 'set', entry: entry(podKey('a'), pod('a', { addresses: ['10.65.0.2'] })) });
  expect(calc.routes.winners.get(cidr)?.class).toBe('localWorkload');
  calc.apply({ op: 'delete', key: podKey('a') });
  expect(calc.routes.winners.get(cidr)?.class).toBe('blackhole');
});

test("an endpoint on a device that is no pod's is refused and named", () => {
  const calc = graph();
  calc.apply({ op: 'set', entry: entry(podKey('a'), pod('a', { addresses: ['10.65.0.2'], device: 'eth0' })) });
  expect(calc.endpoints.size).toBe(0);
  expect(calc.problems()[0]?.error.message).toContain('spec.interfaceName: "eth0": expected');
});

test('an endpoint that no longer parses keeps its last good form', () => {
  const calc = graph();
  calc.apply({ op: 'set', entry: entry(podKey('a'), pod('a', { addresses: ['10.65.0.2'] })) });
  calc.apply({ op: 'invalid', entry: { key: podKey('a'), error: new Error('spec: missing') } });
  expect(calc.endpoints.size).toBe(1);
  expect(chainOf(rulesOf(calc.firewall().tables.get(4)?.get('filter')), 'calia', 'ingress')).toBeDefined();
  expect(calc.problems().map(({ error }) => error.message)).toEqual(['spec: missing']);
});

test('a pod without IPv6 leaves the IPv6 tables as they are', () => {
  const calc = graph();
  const before = calc.firewall().tables;
  calc.apply({ op: 'set', entry: entry(podKey('a'), pod('a', { addresses: ['10.65.0.2'] })) });
  const after = calc.firewall().tables;
  expect(after.get(6)).toBe(before.get(6));
  expect(after.get(4)).not.toBe(before.get(4));
});

test('sources that a pod may use are let by after the refusals; what it sends beyond its bandwidth is dropped', () => {
  const wishes = {
    egress: { rate: 10_000_000 },
    sourcePrefixes: [parseCidr('198.51.100.0/24'), parseCidr('fd09::/64')],
  };
  const four = rawTable(4, 'cali', [{ interfaceName: 'calia', wishes }]).chains;
  expect(four.get('cali-from-wl-raw')).toEqual([
    '-d 127.0.0.0/8 -j DROP',
    '-p udp --sport 67 --dport 68 -j DROP',
    '-i calia -s 198.51.100.0/24 -j RETURN',
    '-m rpfilter --invert -j DROP',
  ]);
  expect(four.get('cali-PREROUTING')?.[0]).toBe('-i cali+ -j cali-wl-limits');
  expect(four.get('cali-wl-limits')).toEqual([
    '-i calia -m hashlimit --hashlimit-above 1250000b/s --hashlimit-burst 2500000b --hashlimit-name calia-1250000-2500000 -j DROP',
  ]);
  const six = rawTable(6, 'cali', [{ interfaceName: 'calia', wishes }]).chains;
  expect(six.get('cali-from-wl-raw')).toContain('-i calia -s fd09::/64 -j RETURN');
  const fast = rawTable(4, 'cali', [
    { interfaceName: 'calia', wishes: { egress: { rate: 1e15 }, sourcePrefixes: [] } },
  ]);
  expect(fast.chains.has('cali-wl-limits')).toBe(false);
});

test('packets and connections beyond the limits end before policy, each count in a chain of its own', () => {
  const wishes = {
    ingressPackets: { rate: 100, burst: 5 },
    egressPackets: { rate: 50, burst: 9 },
    ingressConnections: 3,
    egressConnections: 2,
    sourcePrefixes: [],
  };
  const one = { interfaceName: 'calia', wishes };
  const chains = limitChains([one], 'cali');
  expect(Object.fromEntries(chains)).toEqual({
    'cali-to-wl-limits': [
      '-o calia -m hashlimit --hashlimit-above 100/sec --hashlimit-burst 5 --hashlimit-name calia-to-100-5 -j DROP',
    ],
    'cali-ct-calia': ['-p tcp -m connlimit --connlimit-above 3 --connlimit-mask 0 -j REJECT --reject-with tcp-reset'],
    'cali-cf-calia': ['-p tcp -m connlimit --connlimit-above 2 --connlimit-mask 0 -j REJECT --reject-with tcp-reset'],
    'cali-wl-connections': ['-o calia -j cali-ct-calia', '-i calia -j cali-cf-calia'],
    'cali-INPUT': ['-p tcp -m tcp --tcp-flags FIN,SYN,RST,ACK SYN -j cali-wl-connections'],
    'cali-FORWARD': [
      '-o cali+ -j cali-to-wl-limits',
      '-p tcp -m tcp --tcp-flags FIN,SYN,RST,ACK SYN -j cali-wl-connections',
    ],
    'cali-OUTPUT': [
      '-o cali+ -j cali-to-wl-limits',
      '-p tcp -m tcp --tcp-flags FIN,SYN,RST,ACK SYN -j cali-wl-connections',
    ],
  });
  expect(rawTable(4, 'cali', [one]).chains.get('cali-wl-limits')).toEqual([
    '-i calia -m hashlimit --hashlimit-above 50/sec --hashlimit-burst 9 --hashlimit-name calia-from-50-9 -j DROP',
  ]);
  expect([isLimited(one), isLimited({ ...one, wishes: { sourcePrefixes: [] } })]).toEqual([true, false]);
  expect(limitChains([], 'cali').size).toBe(0);
  const policy: DesiredTable = { chains: new Map([['cali-FORWARD', ['-j DROP']]]), insertions: new Map() };
  expect(preceded(policy, chains).chains.get('cali-FORWARD')?.at(-1)).toBe('-j DROP');
  expect(preceded(policy, new Map([['cali-INPUT', []]]))).toBe(policy);
});

test('outgoing NAT with an address, a range of ports and a device', () => {
  const pools = [
    { cidr: parseCidr('10.65.0.0/16'), natOutgoing: true },
    { cidr: parseCidr('fd00::/64'), natOutgoing: true },
  ];
  const rules = (family: 4 | 6, options: Partial<NatOptions>) =>
    natTable(pools, family, [], { ...usualNat, ...options })
      .chains.get('cali-nat-outgoing')
      ?.map((rule) => rule.replace(/ ?-m set ! --match-set \S+ dst/, '').replace(/-m set --match-set \S+ src/, 'POOL'));
  expect(rules(4, { device: 'eth+' })).toEqual(['-o eth+ POOL -j MASQUERADE']);
  expect(rules(4, { address: '192.0.2.9' })).toEqual(['POOL -j SNAT --to-source 192.0.2.9']);
  // The address is one of IPv4.
  expect(rules(6, { address: '192.0.2.9' })).toEqual(['POOL -j MASQUERADE']);
  expect(rules(4, { ports: '1024:2047' })).toEqual([
    '-p tcp POOL -j MASQUERADE --to-ports 1024-2047',
    '-p udp POOL -j MASQUERADE --to-ports 1024-2047',
    'POOL -j MASQUERADE',
  ]);
  expect(rules(4, { ports: '80:80', address: '192.0.2.9' })?.[0]).toBe(
    '-p tcp POOL -j SNAT --to-source 192.0.2.9:80-80',
  );
});
