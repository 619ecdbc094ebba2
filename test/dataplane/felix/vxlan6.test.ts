import { afterEach, expect, test } from 'vitest';
import { keyText } from '../../../src/datastore/store.ts';
import { derivedMac } from '../../../src/felix/calc/tunnels.ts';
import { parseCidr } from '../../../src/model/address.ts';
import { parseResource } from '../../../src/model/kinds.ts';
import { apiVersion } from '../../../src/model/resource.ts';
import { until } from '../../support/wait.ts';
import { block, node, pod, podKey, pool, profile } from '../../unit/felix/support.ts';
import { type Namespace, RealNode } from './support.ts';

/* VXLAN over IPv6 for IPv6 pods: a node of ours and, beyond its uplink, one whose tunnel was made by hand. */

const within = 15_000;
const device = 'vxlan-v6.calico';
const address = 'fd00:65::2';
const own = { tunnel: 'fd00:65::1', mac: derivedMac(node, 6), underlay: '2001:db8::1' };
const far = { tunnel: 'fd00:65:0:1::', block: 'fd00:65:0:1::/122', mac: derivedMac('n2', 6), underlay: '2001:db8::2' };

let n: RealNode;
afterEach(() => n.dispose());

async function populate(): Promise<Namespace> {
  const kind = 'Node' as const;
  for (const [name, { underlay, tunnel }] of [
    [node, own],
    ['n2', far],
  ] as const) {
    const spec = { bgp: { ipv6Address: `${underlay}/64` }, ipv6VXLANTunnelAddr: tunnel };
    await n.put({ type: kind, name }, parseResource(kind, { kind, apiVersion, metadata: { name }, spec }));
  }
  await n.put({ type: 'Profile', name: 'kns.shop' }, profile('kns.shop'));
  await n.put({ type: 'IPPool', name: 's' }, pool('s', 'fd00:65::/48', true, 'Always'));
  await n.put({ type: 'Block', cidr: parseCidr('fd00:65::/122') }, block('fd00:65::/122', node));
  await n.put({ type: 'Block', cidr: parseCidr(far.block) }, block(far.block, 'n2'));
  await n.put(podKey('web'), pod('web', { addresses: [address] }));
  const inside = await n.addPod('caliweb', '10.65.0.2');
  await inside.exec('ip', 'address', 'add', `${address}/128`, 'dev', 'eth0', 'nodad');
  // The host's side of a pod has this address, made of its MAC address.
  await inside.exec('ip', '-6', 'route', 'add', 'default', 'via', 'fe80::ecee:eeff:feee:eeee', 'dev', 'eth0');
  return inside;
}

/** The other node's end, from an address of its own. */
async function farEnd(underlay: string): Promise<void> {
  const lines = [
    `ip link add ${device} address ${far.mac} type vxlan id 4096 dstport 4789 local ${underlay} nolearning`,
    `ip address add ${far.tunnel}/128 dev ${device} nodad`,
    `ip link set ${device} mtu 1430 up`,
    `ip route add fd00:65::/122 via ${own.tunnel} dev ${device} onlink`,
    `ip neighbour add ${own.tunnel} lladdr ${own.mac} dev ${device} nud permanent`,
    `bridge fdb add ${own.mac} dev ${device} dst ${own.underlay} self permanent`,
  ];
  await n.router.exec('sh', '-ec', lines.join('\n'));
}

const ping = (space: Namespace, to: string, size = 64) =>
  space.succeeds('ping', '-6', '-c1', '-W2', '-M', 'do', '-s', String(size - 48), to);

test('pods are reached through the tunnel, from known nodes only', async () => {
  n = await RealNode.make('legacy');
  await n.router.exec('ip', 'address', 'add', '2001:db8::3/64', 'dev', 'r0', 'nodad');
  const web = await populate();
  await farEnd(far.underlay);
  const felix = n.start();
  expect(await felix.whenProgrammed(keyText(podKey('web')), undefined, within, n.signal)).toBe('programmed');
  const route = `${far.block} via ${far.tunnel} dev ${device} metric 1024 onlink`;
  await until(async () => (await n.routes('-6')).some((line) => line.startsWith(route)), { within, what: route });
  const link = await n.namespace.exec('ip', '-d', 'link', 'show', device);
  expect(link).toMatch(/mtu 1430 .*\n.*\n.*vxlan id 4096 local 2001:db8::1 .*dstport 4789 nolearning/);
  expect(link).toContain(own.mac);
  expect(await n.namespace.exec('ip', 'neighbour', 'show', 'nud', 'permanent', 'dev', device)).toBe(
    `${far.tunnel} lladdr ${far.mac} PERMANENT \n`,
  );
  const entries = (await n.namespace.exec('bridge', 'fdb', 'show', 'dev', device)).trim().split('\n');
  expect(entries).toEqual([`${far.mac} dst ${far.underlay} self permanent`]);
  await until(() => ping(web, far.tunnel), { within, what: 'an answer through the tunnel' });
  expect(await ping(n.router, address, 1430)).toBe(true);
  expect(await ping(n.namespace, far.tunnel)).toBe(true);
  // The same packets from an address that is no node's.
  await n.router.exec('ip', 'link', 'del', device);
  await farEnd('2001:db8::3');
  expect(await ping(n.router, address)).toBe(false);
  expect(await n.saved('ip6tables', '-c')).toMatch(/\[[1-9]\d*:\d+\] -A cali-INPUT .*0x1000.* -j DROP/);
  // A pool without encapsulation leaves nothing of it.
  await n.put({ type: 'IPPool', name: 's' }, pool('s', 'fd00:65::/48', true));
  await until(async () => !(await n.namespace.succeeds('ip', 'link', 'show', device)), { within, what: 'its end' });
});
