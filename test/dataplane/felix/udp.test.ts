import { afterEach, beforeEach, expect, test } from 'vitest';
import { parseCidr } from '../../../src/model/address.ts';
import { FelixNetwork, type FelixNode } from '../../support/felix-network.ts';
import { Sniffer } from '../../support/sniffer.ts';
import { Stream } from '../../support/stream.ts';
import { until } from '../../support/wait.ts';
import { block, nodeResource, pod, podKey, pool, profile } from '../../unit/felix/support.ts';
import type { Namespace } from './support.ts';

/* Two nodes whose kernels have no IPIP, and a pool that names UDP as its fallback: pods talk through felix itself. */

const within = 20_000;
const nodes = {
  a: { address: '192.0.2.1', block: '10.65.0.0/26', pod: '10.65.0.2', ipip: '10.65.0.9' },
  b: { address: '192.0.2.2', block: '10.65.1.0/26', pod: '10.65.1.2', ipip: '10.65.1.9' },
} as const;

let network: FelixNetwork;
beforeEach(async () => {
  network = await FelixNetwork.make();
});
afterEach(() => network.dispose());

async function populate(): Promise<readonly [FelixNode, Namespace, Namespace]> {
  await network.put({ type: 'Profile', name: 'kns.shop' }, profile('kns.shop'));
  const falling = { ipipMode: 'Always', annotations: { 'margay.io/tunnelFallback': 'UDP' } } as const;
  await network.put({ type: 'IPPool', name: 'p' }, pool('p', '10.65.0.0/16', true, 'Never', falling));
  const made: [FelixNode, Namespace][] = [];
  for (const name of ['a', 'b'] as const) {
    const { address, ipip, block: cidr, pod: podAddress } = nodes[name];
    const node = await network.addNode(name, `${address}/24`);
    const inside = await node.addPod(`cali${name}`, podAddress);
    await network.put({ type: 'Node', name }, nodeResource(name, `${address}/24`, undefined, { ipip }));
    await network.put({ type: 'Block', cidr: parseCidr(cidr) }, block(cidr, name));
    await network.put(podKey(name), pod(name, { addresses: [podAddress], on: name }));
    node.start({ ipip: false });
    made.push([node, inside]);
  }
  const [[a, podA], [, podB]] = made as [[FelixNode, Namespace], [FelixNode, Namespace]];
  return [a, podA, podB];
}

const ping = (from: Namespace, to: string, size = 84) =>
  from.exec('sh', '-c', `ping -c1 -W2 -M do -s ${size - 28} ${to} 2>&1 || true`);
const answered = / 0% packet loss/;

test('pods reach each other in datagrams between the nodes; others may send none', async () => {
  const [a, podA, podB] = await populate();
  const through = async () => (await a.ip('route', 'show', nodes.b.block)).includes('via 192.0.2.2 dev udp.margay');
  await until(through, { within, what: 'the route' });
  await until(async () => answered.test(await ping(podA, nodes.b.pod)), { within, what: 'an answer' });
  const wire = await Sniffer.listen(network.wire, 'wa', 'ip host 192.0.2.1 or net 10.65.0.0/16');
  try {
    expect(await ping(podA, nodes.b.pod, 1472)).toMatch(answered);
    await until(() => wire.seen(/192\.0\.2\.2\.8286 > 192\.0\.2\.1\.8286: UDP, length 1472/), { within, what: 'UDP' });
    expect(wire.seen(/^\d\d:\d\d:\d\d.* proto ICMP/m)).toBe(false);
  } finally {
    await wire.close();
  }
  // What does not fit is refused with the MTU that does; the node's own packets have the tunnel's address.
  expect(await ping(podA, nodes.b.pod, 1473)).toMatch(/mtu ?= ?1472/);
  expect(await ping(a.namespace, nodes.b.pod)).toMatch(answered);
  const stream = await Stream.open(podA, podB, nodes.b.pod, 7777);
  try {
    await stream.goesOn(within, 'TCP through the tunnel');
  } finally {
    stream.close();
  }
  expect(a.felix.status().tunnels.find(({ kind }) => kind === 'udp')).toMatchObject({ state: 'up', mtu: 1472 });
  // A pod's datagram would have its node's address behind outgoing NAT; a stranger's has none of a node's.
  const datagram = (to: string) => `echo x >/dev/udp/${to}/8286`;
  await podA.exec('bash', '-c', datagram('192.0.2.2'));
  expect(await a.rules()).toMatch(/\[1:\d+\] -A cali-FORWARD .*--dport 8286 .*-j DROP/);
  await network.wire.exec('bash', '-c', datagram('192.0.2.1'));
  await until(async () => /\[1:\d+\] -A cali-INPUT .*--dport 8286 .*-j DROP/.test(await a.rules()), {
    within,
    what: 'the drop',
  });
  await network.put({ type: 'IPPool', name: 'p' }, pool('p', '10.65.0.0/16', true));
  await until(async () => !(await a.namespace.succeeds('ip', 'link', 'show', 'udp.margay')), { within, what: 'gone' });
});

test('where the kernel has neither IPIP nor VXLAN, what was meant for either goes in datagrams', async () => {
  const annotations = (fallback: string) => ({ annotations: { 'margay.io/tunnelFallback': fallback } });
  const pools = [
    pool('i', '10.65.0.0/16', true, 'Never', { ipipMode: 'Always', ...annotations('VXLAN,UDP') }),
    pool('v', '10.66.0.0/16', true, 'Always', annotations('UDP')),
  ];
  for (const one of pools) await network.put({ type: 'IPPool', name: one.metadata.name }, one);
  await network.put({ type: 'Profile', name: 'kns.shop' }, profile('kns.shop'));
  const made: (readonly [FelixNode, Namespace])[] = [];
  for (const [at, name] of (['a', 'b'] as const).entries()) {
    const place = `${nodes[name].address}/24`;
    const node = await network.addNode(name, place);
    await network.put({ type: 'Node', name }, nodeResource(name, place, `10.66.${at}.9`, { ipip: nodes[name].ipip }));
    for (const net of [65, 66]) {
      const cidr = `10.${net}.${at}.0/26`;
      await network.put({ type: 'Block', cidr: parseCidr(cidr) }, block(cidr, name));
    }
    const addresses = [`10.65.${at}.2`, `10.66.${at}.2`];
    const inside = await node.addPod(`cali${name}`, addresses[0] ?? '');
    await inside.exec('ip', 'address', 'add', `${addresses[1]}/32`, 'dev', 'eth0');
    await network.put(podKey(name), pod(name, { addresses, on: name }));
    node.start({ ipip: false, vxlan: false });
    made.push([node, inside]);
  }
  const [, podA] = made[0] ?? expect.fail('no node');
  const answers = (to: string) => async () => answered.test(await ping(podA, to));
  await until(answers('10.65.1.2'), { within, what: 'an answer for IPIP' });
  await until(answers('10.66.1.2'), { within, what: 'an answer for VXLAN' });
  for (const [{ felix }] of made)
    expect(felix.status().tunnels.map(({ kind, state }) => [kind, state])).toEqual(
      expect.arrayContaining([
        ['vxlan', 'unsupported'],
        ['udp', 'up'],
      ]),
    );
});
