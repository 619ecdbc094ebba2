import { afterEach, beforeEach, expect, test } from 'vitest';
import { keyText } from '../../../src/datastore/store.ts';
import { derivedMac } from '../../../src/felix/calc/tunnels.ts';
import { openNetlinkIn } from '../../../src/kernel/namespace.ts';
import { parseCidr, parseIp } from '../../../src/model/address.ts';
import { until } from '../../support/wait.ts';
import { block, node, nodeResource, pod, podKey, pool, profile } from '../../unit/felix/support.ts';
import { RealNode } from './support.ts';

/* A node of ours and, beyond its uplink, one whose tunnel was made by hand: real packets between them. */

const within = 15_000;
const address = '10.65.0.2';
const remote = { tunnel: '10.65.1.0', block: '10.65.1.0/26', mac: derivedMac('n2', 4), underlay: '192.0.2.2' };
const tunnelRoute = `${remote.block} via ${remote.tunnel} dev vxlan.calico onlink`;

let n: RealNode;
beforeEach(async () => {
  n = await RealNode.make('nft');
});
afterEach(() => n.dispose());

async function populate(mode: 'Always' | 'CrossSubnet'): Promise<void> {
  await n.put({ type: 'Profile', name: 'kns.shop' }, profile('kns.shop'));
  await n.put({ type: 'IPPool', name: 'p' }, pool('p', '10.65.0.0/16', false, mode));
  await n.put({ type: 'Node', name: node }, nodeResource(node, '192.0.2.1/24', '10.65.0.1'));
  await n.put({ type: 'Node', name: 'n2' }, nodeResource('n2', `${remote.underlay}/24`, remote.tunnel));
  await n.put({ type: 'Block', cidr: parseCidr('10.65.0.0/26') }, block('10.65.0.0/26', node));
  await n.put({ type: 'Block', cidr: parseCidr(remote.block) }, block(remote.block, 'n2'));
  await n.put(podKey('web'), pod('web', { addresses: [address], device: 'caliweb' }));
}

/** The other node's end, from an address of its own. */
async function farEnd(underlay: string): Promise<void> {
  const { router } = n;
  const name = 'vxlan.calico';
  const ip = (...words: string[]) => router.exec('ip', ...words);
  const options = ['id', '4096', 'dstport', '4789', 'local', underlay, 'nolearning'];
  await ip('link', 'add', name, 'address', remote.mac, 'type', 'vxlan', ...options);
  await ip('address', 'add', `${remote.tunnel}/32`, 'dev', name);
  await ip('link', 'set', name, 'mtu', '1450', 'up');
  await ip('route', 'add', '10.65.0.0/26', 'via', '10.65.0.1', 'dev', name, 'onlink');
  await ip('neighbour', 'add', '10.65.0.1', 'lladdr', derivedMac(node, 4), 'dev', name, 'nud', 'permanent');
  await router.exec('bridge', 'fdb', 'add', derivedMac(node, 4), 'dev', name, 'dst', '192.0.2.1', 'self', 'permanent');
}

async function started(): Promise<void> {
  const felix = n.start();
  expect(await felix.whenProgrammed(keyText(podKey('web')), undefined, within, n.signal)).toBe('programmed');
}

const ping = async (from: { succeeds(...command: string[]): Promise<boolean> }, to: string, size = 56) =>
  from.succeeds('ping', '-c1', '-W2', '-M', 'do', '-s', String(size), to);

test('Always: pods are reached through the tunnel, from known nodes only', async () => {
  const web = await n.addPod('caliweb', address);
  await populate('Always');
  await farEnd(remote.underlay);
  await started();
  await until(async () => (await n.routes()).includes(tunnelRoute), { within, what: 'the route' });
  expect(n.felix?.podMtu()).toBe(1450);
  const device = await n.namespace.exec('ip', '-d', 'link', 'show', 'vxlan.calico');
  expect(device).toMatch(/mtu 1450 .*\n.*\n.*vxlan id 4096 local 192\.0\.2\.1 .*dstport 4789 nolearning/);
  expect(device).toContain(derivedMac(node, 4));
  expect(await n.namespace.exec('ip', 'neighbour', 'show', 'dev', 'vxlan.calico')).toContain(
    `${remote.tunnel} lladdr ${remote.mac} PERMANENT`,
  );
  expect(await n.namespace.exec('bridge', 'fdb', 'show', 'dev', 'vxlan.calico')).toContain(
    `${remote.mac} dst ${remote.underlay} self permanent`,
  );
  expect(await ping(web, remote.tunnel)).toBe(true);
  expect(await ping(n.router, address, 1450 - 28)).toBe(true);
  expect(await ping(n.namespace, remote.tunnel)).toBe(true);
  // The same packets from an address that is no node's.
  await n.router.exec('ip', 'link', 'del', 'vxlan.calico');
  await farEnd('192.0.2.3');
  expect(await ping(n.router, address)).toBe(false);
  expect(await n.saved('iptables', '-c')).toMatch(/\[[1-9]\d*:\d+\] -A cali-INPUT .*0x1000.* -j DROP/);
});

test("an address of the node's own block that another node borrowed goes there, the others to pods or nowhere", async () => {
  await n.addPod('caliweb', address);
  await populate('Always');
  const own = block('10.65.0.0/26', node);
  const allocations = own.allocations.map((_, at) => (at === 7 ? 0 : null));
  const attributes = [{ handle_id: 'k8s-pod-network.a', secondary: { node: 'n2' } }];
  const unallocated = own.unallocated.filter((at) => at !== 7);
  await n.put({ type: 'Block', cidr: own.cidr }, { ...own, allocations, unallocated, attributes });
  await started();
  const way = async (to: string) => {
    const found = await n.namespace.exec('sh', '-c', `ip route get ${to} 2>&1 || true`);
    return /dev (\S+)/.exec(found)?.[1] ?? found.trim();
  };
  await until(async () => (await way('10.65.0.7')) === 'vxlan.calico', { within, what: 'the borrowed address' });
  expect(await way(address)).toBe('caliweb');
  // The blackhole of the block.
  expect(await way('10.65.0.8')).toMatch(/Invalid argument/);
});

test('what is taken from the tunnel by hand comes back, and it goes with its pool', async () => {
  await n.addPod('caliweb', address);
  await populate('Always');
  await started();
  const stands = async () => (await n.routes()).includes(tunnelRoute);
  await until(stands, { within, what: 'the route' });
  await n.namespace.exec('ip', 'link', 'del', 'vxlan.calico');
  await until(stands, { within, what: 'device and route' });
  await n.namespace.exec('ip', 'link', 'set', 'vxlan.calico', 'down');
  await until(stands, { within, what: 'route after down' });
  await n.namespace.exec('ip', 'neighbour', 'del', remote.tunnel, 'dev', 'vxlan.calico');
  await n.namespace.exec('bridge', 'fdb', 'del', remote.mac, 'dev', 'vxlan.calico', 'self');
  await n.namespace.exec('ip', 'address', 'del', '10.65.0.1/32', 'dev', 'vxlan.calico');
  const has = (what: string, command: string[], text: string) =>
    until(async () => (await n.namespace.exec(...command)).includes(text), { within, what });
  await has('neighbour', ['ip', 'neighbour', 'show', 'dev', 'vxlan.calico'], remote.mac);
  await has('entry', ['bridge', 'fdb', 'show', 'dev', 'vxlan.calico'], remote.mac);
  await has('address', ['ip', 'address', 'show', 'dev', 'vxlan.calico'], '10.65.0.1/32');
  await n.namespace.exec('ip', 'link', 'set', 'up0', 'mtu', '1400');
  await has('MTU', ['ip', 'link', 'show', 'dev', 'vxlan.calico'], 'mtu 1350');
  await n.store.delete({ type: 'Node', name: 'n2' });
  await until(async () => !(await stands()), { within, what: 'no route to a node that is gone' });
  await n.put({ type: 'IPPool', name: 'p' }, pool('p', '10.65.0.0/16', false));
  await until(async () => !(await n.namespace.succeeds('ip', 'link', 'show', 'vxlan.calico')), {
    within,
    what: 'gone',
  });
});

test('CrossSubnet: directly to a node of the same subnet, through the tunnel to one that moved away', async () => {
  await n.addPod('caliweb', address);
  await populate('CrossSubnet');
  await started();
  const has = (line: string) => until(async () => (await n.routes()).includes(line), { within, what: line });
  await has(`${remote.block} via ${remote.underlay} dev up0`);
  await n.put({ type: 'Node', name: 'n2' }, nodeResource('n2', '198.51.100.2/24', remote.tunnel));
  await has(tunnelRoute);
  const netlink = openNetlinkIn(n.namespace.path);
  const [entry] = netlink.forwarding('vxlan.calico');
  netlink.close();
  expect(entry).toEqual({ mac: remote.mac, destination: parseIp('198.51.100.2'), permanent: true });
});
