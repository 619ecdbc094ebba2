import type { ChildProcess } from 'node:child_process';
import { afterEach, expect, test } from 'vitest';
import { parseCidr } from '../../../src/model/address.ts';
import { block, node } from '../../unit/felix/support.ts';
import { type Namespace, RealNode } from './support.ts';
import { addresses, serveIn, startWithPods, within } from './two-pods.ts';

/*
 * Services as kube-proxy makes them, with a felix on the same node: packets that come back to the pod that sent them,
 * node ports from outside and from pods, and the node as a client.
 */

const service = '10.96.0.10';
const nodePort = '30080';

let n: RealNode;
let server: ChildProcess | undefined;
afterEach(async () => {
  server?.kill();
  await n.dispose();
});

/** A service with pod a as its only endpoint, and a node port of it that hides its clients. */
async function serve(): Promise<void> {
  const mark = ['-j', 'MARK', '--set-xmark', '0x4000/0x4000'];
  const nat = (...rule: string[]) => n.iptables('-t', 'nat', ...rule);
  for (const chain of ['KUBE-SERVICES', 'KUBE-SEP', 'KUBE-POSTROUTING']) await nat('-N', chain);
  for (const hook of ['PREROUTING', 'OUTPUT']) await nat('-A', hook, '-j', 'KUBE-SERVICES');
  await nat('-A', 'POSTROUTING', '-j', 'KUBE-POSTROUTING');
  await nat('-A', 'KUBE-SERVICES', '-d', service, '-p', 'tcp', '--dport', '80', '-j', 'KUBE-SEP');
  const toPort = ['-p', 'tcp', '--dport', nodePort, '-m', 'addrtype', '--dst-type', 'LOCAL'];
  await nat('-A', 'KUBE-SERVICES', ...toPort, ...mark);
  await nat('-A', 'KUBE-SERVICES', ...toPort, '-j', 'KUBE-SEP');
  await nat('-A', 'KUBE-SEP', '-s', addresses.a, ...mark);
  await nat('-A', 'KUBE-SEP', '-p', 'tcp', '-j', 'DNAT', '--to-destination', `${addresses.a}:8080`);
  await nat('-A', 'KUBE-POSTROUTING', '-m', 'mark', '--mark', '0x4000/0x4000', '-j', 'MASQUERADE');
}

/** Whom the server in pod a takes the client for; empty without an answer. */
function seen(from: Namespace, address: string, port: string, seconds = 5): Promise<string> {
  return from.exec('bash', '-c', `timeout ${seconds} bash -c 'exec 3<>/dev/tcp/${address}/${port} && cat <&3' || true`);
}

test('services and node ports lead back to pods of the node', async () => {
  n = await RealNode.make('nft');
  const a = await n.addPod('calia', addresses.a);
  const b = await n.addPod('calib', addresses.b);
  await serve();
  // Without one the node's own packets to a service have no way before their destination is translated.
  await n.namespace.exec('ip', 'route', 'add', 'default', 'via', '192.0.2.2');
  await n.put({ type: 'Block', cidr: parseCidr('10.65.0.0/26') }, block('10.65.0.0/26', node));
  await startWithPods(n, '192.0.2.1');
  server = await serveIn(a);

  // To itself, with the node's address between, as it would answer itself otherwise.
  expect(await seen(a, service, '80')).toBe('192.0.2.1');
  expect(await seen(a, '192.0.2.1', nodePort)).toBe('192.0.2.1');
  // From another pod, unchanged: outgoing NAT is for what leaves the pools.
  expect(await seen(b, service, '80')).toBe(addresses.b);
  expect(await seen(b, '192.0.2.1', nodePort)).toBe('192.0.2.1');
  expect(await seen(n.router, '192.0.2.1', nodePort)).toBe('192.0.2.1');
  expect(await seen(n.namespace, service, '80')).toBe('192.0.2.1');
  // A node port is no way around policy.
  await n.store.delete({ type: 'Profile', name: 'kns.shop' });
  await expect.poll(() => seen(n.router, '192.0.2.1', nodePort, 1), { timeout: within }).toBe('');
});
