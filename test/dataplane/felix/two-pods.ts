import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { expect } from 'vitest';
import { keyText } from '../../../src/datastore/store.ts';
import { node, nodeResource, pod, podKey, pool, profile } from '../../unit/felix/support.ts';
import type { Namespace, RealNode } from './support.ts';

/** Milliseconds that a pod may take to stand. */
export const within = 15_000;
export const addresses = { a: '10.65.0.2', b: '10.65.0.3' } as const;

/** Starts felix on a node whose pods a and b, both open, have their devices; resolves when they are programmed. */
export async function startWithPods(n: RealNode, nodeAddress: string): Promise<void> {
  await n.put({ type: 'IPPool', name: 'p' }, pool('p', '10.65.0.0/16', true));
  await n.put({ type: 'Node', name: node }, nodeResource(node, `${nodeAddress}/24`));
  await n.put({ type: 'Profile', name: 'kns.shop' }, profile('kns.shop'));
  for (const [name, address] of Object.entries(addresses))
    await n.put(podKey(name), pod(name, { addresses: [address] }));
  const felix = n.start();
  for (const name of Object.keys(addresses))
    expect(await felix.whenProgrammed(keyText(podKey(name)), undefined, within, n.signal)).toBe('programmed');
}

/** A server on port 8080 of a pod that tells each client whom it takes it for. */
export async function serveIn(inside: Namespace): Promise<ChildProcess> {
  const answer =
    "require('node:net').createServer((s) => s.end(s.remoteAddress)).listen(8080, '0.0.0.0', () => console.log())";
  const child = spawn('nsenter', [`--net=${inside.path}`, process.execPath, '-e', answer]);
  await once(child.stdout, 'data');
  return child;
}
