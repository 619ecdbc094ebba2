import { type ChildProcess, execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, expect, test } from 'vitest';
import { profile } from '../../unit/felix/support.ts';
import { type Namespace, RealNode } from './support.ts';
import { addresses, serveIn, startWithPods, within } from './two-pods.ts';

/* A port of the node as the portmap plugin makes it, chained behind ours, on a node with felix. */

const nodeAddress = '192.0.2.1';
const hostPort = 8123;

let n: RealNode;
let server: ChildProcess | undefined;
afterEach(async () => {
  server?.kill();
  await n.dispose();
});

/** Runs the plugin in the node's namespace with what the plugins before it made. */
async function portmap(command: 'ADD' | 'DEL', inside: Namespace): Promise<void> {
  const folder = ['/usr/lib/cni', '/opt/cni/bin'].find((each) => existsSync(join(each, 'portmap'))) ?? '';
  const config = {
    ...{ cniVersion: '1.0.0', name: 'k8s-pod-network', type: 'portmap', snat: true, backend: 'iptables' },
    capabilities: { portMappings: true },
    runtimeConfig: { portMappings: [{ hostPort, containerPort: 8080, protocol: 'tcp' }] },
    prevResult: {
      cniVersion: '1.0.0',
      interfaces: [{ name: 'calia' }, { name: 'eth0', sandbox: inside.path }],
      ips: [{ address: `${addresses.a}/32`, interface: 1 }],
    },
  };
  const env = {
    ...process.env,
    ...{ CNI_COMMAND: command, CNI_CONTAINERID: `c-${inside.name}`, CNI_NETNS: inside.path },
    ...{ CNI_IFNAME: 'eth0', CNI_PATH: folder },
  };
  await new Promise<void>((resolve, reject) => {
    const child = execFile(
      'nsenter',
      [`--net=${n.namespace.path}`, join(folder, 'portmap')],
      { env },
      (error, stdout) => (error ? reject(new Error(stdout, { cause: error })) : resolve()),
    );
    child.stdin?.end(JSON.stringify(config));
  });
}

/** Whom the server in the pod takes the client for; empty without an answer. */
function seen(from: Namespace, seconds = 5): Promise<string> {
  const dial = `exec 3<>/dev/tcp/${nodeAddress}/${hostPort} && cat <&3`;
  return from.exec('bash', '-c', `timeout ${seconds} bash -c '${dial}' 2>/dev/null || true`);
}

test('a port of the node leads to its pod, from outside, from pods and from the pod itself, as far as policy lets it', async () => {
  n = await RealNode.make('nft');
  const [a, b] = [await n.addPod('calia', addresses.a), await n.addPod('calib', addresses.b)];
  await startWithPods(n, nodeAddress);
  server = await serveIn(a);

  await portmap('ADD', a);
  expect(await seen(n.router)).toBe('192.0.2.2');
  expect(await seen(b)).toBe(addresses.b);
  // With the node's address between, as the pod would answer itself otherwise.
  expect(await seen(a)).toBe(nodeAddress);
  await n.store.delete({ type: 'Profile', name: 'kns.shop' });
  await expect.poll(() => seen(n.router, 1), { timeout: within }).toBe('');
  await n.put({ type: 'Profile', name: 'kns.shop' }, profile('kns.shop'));
  await expect.poll(() => seen(n.router, 1), { timeout: within }).toBe('192.0.2.2');
  await portmap('DEL', a);
  expect(await seen(n.router, 1)).toBe('');
});
