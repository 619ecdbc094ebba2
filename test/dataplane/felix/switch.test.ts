import { afterEach, beforeEach, expect, test } from 'vitest';
import { parseCidr } from '../../../src/model/address.ts';
import { FelixNetwork, type FelixNode } from '../../support/felix-network.ts';
import { Stream } from '../../support/stream.ts';
import { until } from '../../support/wait.ts';
import { block, nodeResource, pod, podKey, pool, profile } from '../../unit/felix/support.ts';

/* A pool's mode changes under a connection between pods of two nodes, each with a felix of its own. */

const within = 20_000;
const facts = [
  { name: 'a', underlay: '192.0.2.1/24', block: '10.65.0.0/26', tunnel: '10.65.0.1', pod: '10.65.0.2' },
  { name: 'b', underlay: '192.0.2.2/24', block: '10.65.1.0/26', tunnel: '10.65.1.1', pod: '10.65.1.2' },
] as const;
const [here, there] = facts;

let network: FelixNetwork;
let nodes: FelixNode[];
let stream: Stream;
beforeEach(async () => {
  network = await FelixNetwork.make();
  nodes = [];
  await network.put({ type: 'Profile', name: 'kns.shop' }, profile('kns.shop'));
  for (const { name, underlay, block: cidr, tunnel, pod: address } of facts) {
    nodes.push(await network.addNode(name, underlay));
    await network.put({ type: 'Node', name }, nodeResource(name, underlay, tunnel));
    await network.put({ type: 'Block', cidr: parseCidr(cidr) }, block(cidr, name));
    await network.put(podKey(name), pod(name, { addresses: [address], on: name }));
  }
});
afterEach(async () => {
  stream?.close();
  await network.dispose();
});

const setMode = (mode: 'Never' | 'Always') =>
  network.put({ type: 'IPPool', name: 'p' }, pool('p', '10.65.0.0/16', false, mode));

/** Waits until each node reaches the other's block through the device. */
async function routedThrough(device: string): Promise<void> {
  const lines = async () => [
    await nodes[0]?.ip('route', 'show', there.block),
    await nodes[1]?.ip('route', 'show', here.block),
  ];
  const all = async () => (await lines()).every((line) => line?.includes(`dev ${device} `));
  await until(all, { within, what: `routes through ${device}` });
}

test('from VXLAN to none and back, the connection goes on', async () => {
  const pods = [];
  for (const [at, node] of nodes.entries()) pods.push(await node.addPod(`cali${node.name}`, facts[at]?.pod ?? ''));
  const [from, to] = pods;
  if (!from || !to) expect.fail('no pods');
  await setMode('Always');
  for (const node of nodes) node.start();
  await routedThrough('vxlan.calico');
  stream = await Stream.open(from, to, there.pod, 7777);
  await stream.goesOn(within, 'at first');
  for (let twice = 0; twice < 2; twice++) {
    await setMode('Never');
    await routedThrough('up0');
    await stream.goesOn(within, 'from VXLAN to none');
    const gone = async () => !(await nodes[0]?.namespace.succeeds('ip', 'link', 'show', 'vxlan.calico'));
    await until(gone, { within, what: 'the end of the device' });
    await until(async () => !(await nodes[0]?.rules())?.includes('all-vxlan-net'), { within, what: 'no rules of it' });
    await setMode('Always');
    await routedThrough('vxlan.calico');
    await stream.goesOn(within, 'from none to VXLAN');
  }
});
