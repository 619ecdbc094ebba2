import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { afterEach, expect, test } from 'vitest';
import { keyText } from '../../../src/datastore/store.ts';
import { node, nodeResource, pod, podKey, pool, profile } from '../../unit/felix/support.ts';
import { RealNode } from './support.ts';

/* Outgoing NAT: whom a server takes the pod for, by where it stands. */

const within = 15_000;
const address = '10.65.0.2';
/** In another pool, beside a node, and at a host of nobody's, all of them the router's. */
const places = { pool: '10.66.0.9', node: '192.0.2.2', host: '192.0.2.3' } as const;
const nodeAddress = '192.0.2.1';

let n: RealNode;
let server: ChildProcess | undefined;
afterEach(async () => {
  server?.kill();
  await n.dispose();
});

test.each([
  ['pools', nodeAddress],
  ['poolsAndHosts', address],
] as const)('what leaves the pools has the node’s address, but for %s', async (natExclusions, atNode) => {
  n = await RealNode.make('nft', { natExclusions });
  const { router } = n;
  await router.exec('ip', 'route', 'add', '10.65.0.0/16', 'via', nodeAddress);
  await router.exec('ip', 'address', 'add', `${places.pool}/32`, 'dev', 'lo');
  await n.namespace.exec('ip', 'route', 'add', '10.66.0.0/16', 'via', places.node);
  await n.put({ type: 'IPPool', name: 'p' }, pool('p', '10.65.0.0/16', true));
  await n.put({ type: 'IPPool', name: 'q' }, pool('q', '10.66.0.0/16', false));
  await n.put({ type: 'Node', name: node }, nodeResource(node, `${nodeAddress}/24`));
  await n.put({ type: 'Node', name: 'n2' }, nodeResource('n2', `${places.node}/24`));
  await n.put({ type: 'Profile', name: 'kns.shop' }, profile('kns.shop'));
  await n.put(podKey('web'), pod('web', { addresses: [address] }));
  const inside = await n.addPod('caliweb', address);
  const felix = n.start();
  expect(await felix.whenProgrammed(keyText(podKey('web')), undefined, within, n.signal)).toBe('programmed');
  const answer =
    "require('node:net').createServer((s) => s.end(s.remoteAddress)).listen(8080, '0.0.0.0', () => console.log())";
  const child = spawn('nsenter', [`--net=${router.path}`, process.execPath, '-e', answer]);
  server = child;
  await once(child.stdout, 'data');
  const seenAt = (place: keyof typeof places) =>
    inside.exec('timeout', '5', 'bash', '-c', `exec 3<>/dev/tcp/${places[place]}/8080 && cat <&3`);
  expect(await seenAt('pool')).toBe(address);
  expect(await seenAt('host')).toBe(nodeAddress);
  expect(await seenAt('node')).toBe(atNode);
});
