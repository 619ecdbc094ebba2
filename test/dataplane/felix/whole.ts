import { type Key, keyText, type Value } from '../../../src/datastore/store.ts';
import { type Cidr, parseCidr } from '../../../src/model/address.ts';
import { type Kind, parseResource } from '../../../src/model/kinds.ts';
import { apiVersion } from '../../../src/model/resource.ts';
import { until } from '../../support/wait.ts';
import { block, node, pod, podKey, pool, profile, withoutIpip } from '../../unit/felix/support.ts';
import type { RealNode } from './support.ts';

/* A node that has something of everything that felix may want of a kernel, and other software beside it. */

const within = 20_000;
export const device = 'cali0123456789a';
const remote = { block: '10.65.1.0/26', block6: 'fd00:65:0:1::/122', udp: '10.67.1.0/26' } as const;

async function put<K extends Kind>(n: RealNode, kind: K, name: string, spec: object, metadata: object = {}) {
  const value = parseResource(kind, { kind, apiVersion, metadata: { name, ...metadata }, spec }) as Value<Key['type']>;
  await n.put({ type: kind, name } as Key, value);
}

const blockKey = (cidr: string): { type: 'Block'; cidr: Cidr } => ({ type: 'Block', cidr: parseCidr(cidr) });

/**
 * A pod with two IPv4 addresses and an IPv6 one, limits and allowed prefixes; a VXLAN of either family and the userspace
 * tunnel; outgoing NAT; policies of every stage at the pod and at the host's uplink.
 */
export async function fill(n: RealNode): Promise<void> {
  await n.addPod(device, '10.65.0.2');
  await n.put({ type: 'Profile', name: 'kns.shop' }, profile('kns.shop'));
  await n.put({ type: 'IPPool', name: 'p' }, pool('p', '10.65.0.0/16', true, 'Always'));
  await n.put({ type: 'IPPool', name: 's' }, pool('s', 'fd00:65::/48', true, 'Always'));
  const falling = { ipipMode: 'Always', annotations: { 'margay.io/tunnelFallback': 'UDP' } } as const;
  await n.put({ type: 'IPPool', name: 'u' }, pool('u', '10.67.0.0/16', true, 'Never', falling));
  const place = (last: number) => ({ ipv4Address: `192.0.2.${last}/24`, ipv6Address: `2001:db8::${last}/64` });
  const tunnels = (last: number) => ({
    ipv4VXLANTunnelAddr: `10.65.${last - 1}.1`,
    ipv6VXLANTunnelAddr: `fd00:65:0:${last - 1}::1`,
  });
  for (const [name, last] of [
    [node, 1],
    ['n2', 2],
  ] as const)
    await put(n, 'Node', name, { bgp: place(last), ...tunnels(last) }, withoutIpip);
  for (const cidr of ['10.65.0.0/26', 'fd00:65::/122']) await n.put(blockKey(cidr), block(cidr, node));
  for (const cidr of Object.values(remote)) await n.put(blockKey(cidr), block(cidr, 'n2'));
  await policies(n);
  const web = pod('web', { addresses: ['10.65.0.2', '10.65.0.9', 'fd00:65::2'], device, labels: { app: 'web' } });
  const annotations = {
    'kubernetes.io/ingress-bandwidth': '10M',
    'kubernetes.io/egress-bandwidth': '10M',
    'qos.projectcalico.org/ingressMaxConnections': '9',
    'cni.projectcalico.org/allowedSourcePrefixes': '["198.51.100.0/24"]',
  };
  await n.put(podKey('web'), { ...web, metadata: { ...web.metadata, annotations } });
}

async function policies(n: RealNode): Promise<void> {
  await put(n, 'HostEndpoint', 'up', { node, interfaceName: 'up0' }, { labels: { host: 'here' } });
  const host = { selector: "host == 'here'", ingress: [{ action: 'Allow' }], applyOnForward: true };
  await put(n, 'GlobalNetworkPolicy', 'host', { ...host, types: ['Ingress', 'Egress'], egress: [{ action: 'Allow' }] });
  await put(n, 'GlobalNetworkPolicy', 'before', { ...host, types: ['Ingress'], preDNAT: true });
  await put(n, 'GlobalNetworkPolicy', 'untracked', { ...host, types: ['Ingress'], doNotTrack: true });
  await put(
    n,
    'GlobalNetworkSet',
    'known',
    { nets: ['203.0.113.0/24', '2001:db8:5::/48'] },
    { labels: { role: 'friend' } },
  );
  const from = { source: { selector: "role == 'friend'" } };
  const ingress = [{ action: 'Allow', ...from }, { action: 'Allow' }];
  await put(n, 'GlobalNetworkPolicy', 'web', { selector: "app == 'web'", ingress, types: ['Ingress'] });
}

/** Waits until the pod, the tunnels, the shaper and the routes to the other node stand. */
export async function stands(n: RealNode): Promise<void> {
  const { felix } = n;
  if (!felix) throw new Error('felix has not been started');
  const state = await felix.whenProgrammed(keyText(podKey('web')), undefined, within, n.signal);
  if (state !== 'programmed') throw new Error(`the pod is not programmed: ${JSON.stringify(felix.status().failures)}`);
  const routes = async () => [...(await n.routes()), ...(await n.routes('-6'))].join('\n');
  const wanted = Object.entries({
    [remote.block]: 'vxlan.calico',
    [remote.block6]: 'vxlan-v6.calico',
    [remote.udp]: 'udp.margay',
  }).map(([cidr, through]) => new RegExp(`${cidr} via .* dev ${through}`));
  await until(() => matches(routes, wanted), { within, what: 'the routes to the other node' });
  const shaped = async () => (await n.namespace.exec('tc', 'qdisc', 'show', 'dev', device)).includes('tbf');
  await until(shaped, { within, what: 'the shaper' });
}

async function matches(read: () => Promise<string>, wanted: readonly RegExp[]): Promise<boolean> {
  const text = await read();
  const missing = wanted.filter((line) => !line.test(text));
  if (missing.length > 0) throw new Error(`no ${missing.join(', ')} in\n${text}`);
  return true;
}

/** Other software's share of each kind of thing, with counters that are not zero. */
export async function settleStrangers(n: RealNode): Promise<void> {
  const own = [
    'ip link add calico0 type bridge',
    'ip link set calico0 up',
    'ip tuntap add tun0 mode tun',
    'ip link add vx7 type vxlan id 7 dstport 8472 local 192.0.2.1 nolearning',
    'ip address add 10.10.7.1/32 dev vx7',
    'ip link set vx7 up',
    'bridge fdb append 66:00:00:00:00:07 dev vx7 dst 192.0.2.7',
    'ip neighbour add 10.10.7.7 lladdr 66:00:00:00:00:07 dev vx7 nud permanent',
    'ip neighbour add proxy 10.10.7.8 dev vx7',
    'tc qdisc add dev up0 root handle 9: pfifo limit 9',
    'ip route add 10.9.0.0/16 via 192.0.2.2 proto bird',
    'ip route add 10.11.0.0/16 dev up0 proto 80 table 77',
    'ip -6 route add fd00:9::/64 via 2001:db8::2 proto bird',
    'ip rule add from 10.9.0.0/16 lookup 77 priority 1000',
    'ip -6 rule add from fd00:9::/64 lookup 77 priority 1000',
    'ipset create theirs hash:net',
    'ipset add theirs 10.9.0.0/16',
    'sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1',
  ];
  const rules = [
    'iptables-legacy 10.9.0.0/16',
    'iptables-nft 10.9.0.0/16',
    'ip6tables-legacy fd00:9::/64',
    'ip6tables-nft fd00:9::/64',
  ];
  const foreign = rules.flatMap((words) => {
    const [program, net] = words.split(' ');
    return [
      `${program} -w -N THEIRS`,
      `${program} -w -A THEIRS -s ${net} -c 7 700 -m comment --comment "not ours" -j ACCEPT`,
      `${program} -w -A FORWARD -s ${net} -c 5 500 -j THEIRS`,
      `${program} -w -t nat -A POSTROUTING -s ${net} -o up0 -c 3 300 -j MASQUERADE`,
      `${program} -w -t mangle -A PREROUTING -s ${net} -c 2 200 -j MARK --set-mark 0x1`,
      `${program} -w -t raw -A PREROUTING -s ${net} -c 1 100 -j NOTRACK`,
    ];
  });
  await n.namespace.exec('sh', '-ec', [...own, ...foreign].join('\n'));
}
