import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { parseCidr } from '../../../src/model/address.ts';
import type { Namespace } from '../../dataplane/felix/support.ts';
import { FelixNetwork, type FelixNode } from '../../support/felix-network.ts';
import { until } from '../../support/wait.ts';
import { block, nodeResource, pod, podKey, pool, profile } from '../../unit/felix/support.ts';

/** Generous: the guest's processor is emulated. */
export const within = 120_000;

/** Looks seldom: every look is a process in a slow machine. */
export function soon(what: string) {
  return { within, what, every: 300 };
}

/** Two nodes, `a` and `b`, each with a block, a pod and an address for either tunnel. */
export const facts = {
  a: { name: 'a', block: '10.65.0.0/26', pod: '10.65.0.2', vxlan: '10.65.0.1', ipip: '10.65.0.9' },
  b: { name: 'b', block: '10.65.1.0/26', pod: '10.65.1.2', vxlan: '10.65.1.1', ipip: '10.65.1.9' },
} as const;

export interface World {
  readonly network: FelixNetwork;
  readonly a: FelixNode;
  readonly b: FelixNode;
  readonly podA: Namespace;
  readonly podB: Namespace;
}

/** The pool's encapsulation. */
export type PoolOptions = NonNullable<Parameters<typeof pool>[4]> & { readonly vxlanMode?: 'Never' | 'Always' };

export async function makeWorld(options: PoolOptions): Promise<World> {
  const network = await FelixNetwork.make();
  const [a, b] = [await network.addNode('a', '192.0.2.1/24'), await network.addNode('b', '192.0.2.2/24')];
  const [podA, podB] = [await a.addPod('calia', facts.a.pod), await b.addPod('calib', facts.b.pod)];
  await network.put({ type: 'Profile', name: 'kns.shop' }, profile('kns.shop'));
  await setPool(network, options);
  await setNode(network, 'a', '192.0.2.1/24');
  await setNode(network, 'b', '192.0.2.2/24');
  for (const { name, block: cidr, pod: address } of [facts.a, facts.b]) {
    await network.put({ type: 'Block', cidr: parseCidr(cidr) }, block(cidr, name));
    await network.put(podKey(name), pod(name, { addresses: [address], on: name }));
  }
  a.start();
  b.start();
  return { network, a, b, podA, podB };
}

export function setPool(network: FelixNetwork, { vxlanMode = 'Never', ...options }: PoolOptions): Promise<void> {
  return network.put({ type: 'IPPool', name: 'p' }, pool('p', '10.65.0.0/16', false, vxlanMode, options));
}

/** Keeps the annotations that its felix wrote. */
export async function setNode(network: FelixNetwork, name: 'a' | 'b', address: string): Promise<void> {
  const before = await network.store.get({ type: 'Node', name });
  const { annotations } = before?.value.metadata ?? {};
  const { vxlan, ipip } = facts[name];
  const value = nodeResource(name, address, vxlan, { ipip, ...(annotations && { annotations }) });
  await network.put({ type: 'Node', name }, value);
}

/** Waits until each node's route to the other's block is as the text says. */
export async function routed({ a, b }: World, toB: string | RegExp, toA: string | RegExp): Promise<void> {
  await until(
    async () => {
      const [there, back] = await Promise.all([
        a.ip('route', 'show', facts.b.block),
        b.ip('route', 'show', facts.a.block),
      ]);
      if (there.match(toB) && back.match(toA)) return true;
      throw new Error(`a: ${there.trim() || 'no route'}, b: ${back.trim() || 'no route'}`);
    },
    soon(`routes ${toB} and ${toA}`),
  );
}

export const throughTunl0 = {
  toB: 'via 192.0.2.2 dev tunl0 .*onlink',
  toA: 'via 192.0.2.1 dev tunl0 .*onlink',
} as const;

/** Sends one echo request that may not be fragmented; `size` is that of the whole packet. */
export function ping(from: Namespace, to: string, { size = 84, source = '' } = {}): Promise<string> {
  const words = ['-c1', '-W5', '-M', 'do', '-s', String(size - 28), ...(source && ['-I', source]), to];
  // Its exit status tells less than its words do.
  return from.exec('sh', '-c', `ping ${words.join(' ')} 2>&1 || true`);
}

/** The kernel's module, which the guest begins without. */
export function loadIpip(): void {
  const folder = '/run/guest/modules';
  for (const name of readFileSync(`${folder}/order`, 'utf8').split('\n').filter(Boolean))
    execFileSync('/run/guest/busybox', ['insmod', `${folder}/${name}.ko`]);
}
