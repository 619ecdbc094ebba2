import { systemClock } from '../../src/base/clock.ts';
import { createLog } from '../../src/base/log.ts';
import { addNetwork, delNetwork } from '../../src/cni/client.ts';
import { openStore } from '../../src/datastore/open.ts';
import type { Store } from '../../src/datastore/store.ts';
import { Ipam } from '../../src/ipam/allocator.ts';
import { makeNamespace } from '../../src/lab/network.ts';
import { type LabNode, makePod } from '../../src/lab/plan.ts';
import { addPod, deletePod } from '../../src/lab/pods.ts';
import { run } from '../../src/lab/run.ts';
import type { Lab } from '../../src/lab/up.ts';
import type { Benchmark } from '../benchmarks.ts';
import type { Figure } from '../figure.ts';
import { withLab } from '../lab.ts';
import { measureList } from './list.ts';
import { referenceCall, referencePlugins } from './reference.ts';
import { measureDel, measureStatus } from './verbs.ts';

/** Of the project: 500 addresses a second for one node, told as milliseconds each. */
const target = { addressMs: 2 };
/** The verbs that the CNI server has at work at a time. */
const atOnce = 32;
const addresses = 320;
const burst = 30;

/** Beside `cni-add`: `npm run bench -- cni`. */
export const cniBenchmarks: Readonly<Record<string, Benchmark>> = {
  'cni-ipam': (runs, signal) => measureAddresses(runs, signal),
  'cni-burst': (runs, signal) => measureBurst(runs, signal),
  'cni-del': (runs, signal) => measureDel(runs, signal),
  'cni-status': (runs, signal) => measureStatus(runs, signal),
  'cni-list': (runs, signal) => measureList(runs, signal),
};

/** Addresses of one node on etcd, asked for by as many as the CNI server lets work: milliseconds for each. */
async function measureAddresses(runs = 5, signal: AbortSignal): Promise<Figure> {
  const measure = (lab: Lab) =>
    withStore(lab, async (store) => {
      const ipam = new Ipam({ store, node: 'bench', clock: systemClock, log: createLog('bench', 'warn') });
      const ours: number[] = [];
      // The first round claims blocks and does not count.
      for (let round = 0; round <= runs; round++) {
        const handles = Array.from({ length: addresses }, (_, at) => `bench.${round}-${at}`);
        const began = performance.now();
        await inTurns(handles, (handle) => ipam.assign({ handle, families: [4], attributes: {} }, signal));
        ours.push((performance.now() - began) / addresses);
        await inTurns(handles, (handle) => ipam.release({ handle }));
      }
      return ours.slice(1);
    });
  const ours = await withLab(signal, measure, { nodes: 1 });
  return { name: 'cni-ipam', unit: 'ms', ours, peer: ours.map(() => target.addressMs), peerName: 'target' };
}

async function inTurns<T>(items: readonly T[], action: (item: T) => Promise<unknown>): Promise<void> {
  const left = [...items];
  const worker = async () => {
    for (let item = left.shift(); item !== undefined; item = left.shift()) await action(item);
  };
  await Promise.all(Array.from({ length: atOnce }, worker));
}

/** From thirty ADDs begun at once to the last one's answer, beside as many of ptp with host-local. */
async function measureBurst(runs = 15, signal: AbortSignal): Promise<Figure> {
  const pluginDir = referencePlugins();
  const measure = async (lab: Lab): Promise<Figure> => {
    const node = firstNode(lab);
    const ours: number[] = [];
    const peer: number[] = [];
    for (let round = 0; round <= runs; round++) {
      const mine = podsOf(lab, node, `bench-${round}`);
      const theirs = podsOf(lab, node, `peer-${round}`);
      for (const { netns } of [...mine, ...theirs]) await makeNamespace(netns);
      ours.push(await timed(mine, (pod) => addPod(lab.plan, node, pod, signal)));
      peer.push(await timed(theirs, (pod) => addNetwork(referenceCall(lab, pluginDir, pod, signal))));
      for (const pod of mine) await deletePod(lab.plan, node, pod, signal);
      for (const pod of theirs) await delNetwork(referenceCall(lab, pluginDir, pod, signal));
      for (const { netns } of [...mine, ...theirs]) await run('ip', ['netns', 'delete', netns]);
    }
    // The first round warms caches on both sides and does not count.
    const unit = 'ms';
    return { name: 'cni-burst', unit, ours: ours.slice(1), peer: peer.slice(1), peerName: 'ptp+host-local' };
  };
  return withLab(signal, measure, { nodes: 1 });
}

function podsOf({ plan }: Lab, node: LabNode, prefix: string) {
  return Array.from({ length: burst }, (_, at) => makePod(plan.name, node.name, 'shop', `${prefix}-${at}`, 'client'));
}

async function timed<T>(items: readonly T[], action: (item: T) => Promise<unknown>): Promise<number> {
  const began = performance.now();
  await Promise.all(items.map(action));
  return performance.now() - began;
}

export function firstNode({ plan }: Lab): LabNode {
  const [node] = plan.nodes;
  if (node === undefined) throw new TypeError('a lab without nodes');
  return node;
}

export async function withStore<T>({ plan }: Lab, action: (store: Store) => Promise<T>): Promise<T> {
  const store = openStore({ type: 'etcdv3', endpoints: [plan.etcd.endpoint] }, createLog('bench', 'warn'));
  try {
    return await action(store);
  } finally {
    store.close();
  }
}
