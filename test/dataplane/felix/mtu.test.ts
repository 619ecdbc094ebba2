import { type ChildProcess, spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { parseCidr } from '../../../src/model/address.ts';
import { FelixNetwork, type FelixNode } from '../../support/felix-network.ts';
import { until } from '../../support/wait.ts';
import { block, nodeResource, pod, podKey, pool, profile } from '../../unit/felix/support.ts';
import type { Namespace } from './support.ts';

/* The uplinks begin to carry less while a connection through the tunnel is open (decision 29). */

const within = 30_000;
const facts = [
  { name: 'a', underlay: '192.0.2.1/24', block: '10.65.0.0/26', tunnel: '10.65.0.1', pod: '10.65.0.2' },
  { name: 'b', underlay: '192.0.2.2/24', block: '10.65.1.0/26', tunnel: '10.65.1.1', pod: '10.65.1.2' },
] as const;
const megabyte = 1 << 20;

let network: FelixNetwork;
const programs: ChildProcess[] = [];
beforeEach(async () => {
  network = await FelixNetwork.make();
});
afterEach(async () => {
  for (const program of programs.splice(0)) program.kill('SIGKILL');
  await network.dispose();
});

const server = `require('node:net').createServer((socket) => socket.pipe(socket)).listen(7000, () => console.log('ready'))`;
/** A megabyte there and back on one connection for each line of input. */
const client = `
const socket = require('node:net').connect(7000, '${facts[1].pod}', () => console.log('ready'));
let back = 0;
process.stdin.on('data', () => socket.write(Buffer.alloc(${megabyte})));
socket.on('data', (data) => { back += data.length; if (back === ${megabyte}) { back = 0; console.log('whole'); } });
`;

async function run(inside: Namespace, source: string): Promise<{ ask(): void; next(): Promise<string> }> {
  const child = spawn('nsenter', [`--net=${inside.path}`, process.execPath, '-e', source]);
  programs.push(child);
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  const next = async () => String((await lines.next()).value);
  expect(await next()).toBe('ready');
  return { ask: () => void child.stdin.write('\n'), next };
}

test('tunnel and new pods follow at once; a running pod learns what fits, and its connection goes on', async () => {
  await network.put({ type: 'Profile', name: 'kns.shop' }, profile('kns.shop'));
  await network.put({ type: 'IPPool', name: 'p' }, pool('p', '10.65.0.0/16', false, 'Always'));
  const nodes: FelixNode[] = [];
  const pods: Namespace[] = [];
  for (const { name, underlay, block: cidr, tunnel, pod: address } of facts) {
    const node = await network.addNode(name, underlay);
    nodes.push(node);
    pods.push(await node.addPod(`cali${name}`, address));
    await network.put({ type: 'Node', name }, nodeResource(name, underlay, tunnel));
    await network.put({ type: 'Block', cidr: parseCidr(cidr) }, block(cidr, name));
    await network.put(podKey(name), pod(name, { addresses: [address], on: name }));
    node.start();
  }
  const [a, b] = pods;
  if (!a || !b) expect.fail('no pods');
  await until(() => a.succeeds('ping', '-c1', '-W1', facts[1].pod), { within, what: 'an answer' });
  await run(b, server);
  const connection = await run(a, client);
  connection.ask();
  expect(await connection.next()).toBe('whole');

  for (const { namespace } of nodes) await namespace.exec('ip', 'link', 'set', 'up0', 'mtu', '1400');
  const follows = async ({ namespace, felix }: FelixNode) =>
    felix.podMtu() === 1350 && (await namespace.exec('ip', 'link', 'show', 'vxlan.calico')).includes('mtu 1350 ');
  for (const node of nodes) await until(() => follows(node), { within, what: 'the MTU of the tunnel' });
  connection.ask();
  expect(await connection.next()).toBe('whole');
  expect(await a.exec('ip', 'link', 'show', 'eth0')).toContain('mtu 1500 ');
  expect(await a.exec('ip', 'route', 'get', facts[1].pod)).toContain('mtu 1350');
});
