import { addNetwork, delNetwork, networkStatus } from '../../src/cni/client.ts';
import { makeNamespace } from '../../src/lab/network.ts';
import { makePod } from '../../src/lab/plan.ts';
import { addPod, callFor, deletePod } from '../../src/lab/pods.ts';
import { run } from '../../src/lab/run.ts';
import type { Lab } from '../../src/lab/up.ts';
import type { Figure } from '../figure.ts';
import { withLab } from '../lab.ts';
import { firstNode } from './main.ts';
import { referenceCall, referencePlugins } from './reference.ts';

/* The verbs beside ADD, as a runtime calls them: a process each. */

/** Of the project, milliseconds. */
const target = { statusMs: 100 };

/** STATUS of a node that could do an ADD: the agent asks etcd. */
export async function measureStatus(runs = 40, signal: AbortSignal): Promise<Figure> {
  const measure = async (lab: Lab): Promise<Figure> => {
    const node = firstNode(lab);
    const call = callFor(lab.plan, node, makePod(lab.plan.name, node.name, 'shop', 'bench', 'client'), signal);
    const ours: number[] = [];
    // The first one warms caches and does not count.
    for (let round = 0; round <= runs; round++) ours.push(await timed(() => networkStatus(call)));
    const counted = ours.slice(1);
    const peer = counted.map(() => target.statusMs);
    return { name: 'cni-status', unit: 'ms', ours: counted, peer, peerName: 'target' };
  };
  return withLab(signal, measure, { nodes: 1 });
}

/** DEL: ours frees address, handle and endpoint in etcd; in turns with Debian's ptp with host-local. */
export async function measureDel(runs = 40, signal: AbortSignal): Promise<Figure> {
  const pluginDir = referencePlugins();
  const measure = async (lab: Lab): Promise<Figure> => {
    const node = firstNode(lab);
    const pairs = Array.from({ length: runs + 1 }, (_, at) => ({
      mine: makePod(lab.plan.name, node.name, 'shop', `bench-${at}`, 'client'),
      theirs: makePod(lab.plan.name, node.name, 'shop', `peer-${at}`, 'client'),
    }));
    for (const { mine, theirs } of pairs) {
      for (const { netns } of [mine, theirs]) await makeNamespace(netns);
      await addPod(lab.plan, node, mine, signal);
      await addNetwork(referenceCall(lab, pluginDir, theirs, signal));
    }
    const ours: number[] = [];
    const peer: number[] = [];
    for (const { mine, theirs } of pairs) {
      ours.push(await timed(() => deletePod(lab.plan, node, mine, signal)));
      peer.push(await timed(() => delNetwork(referenceCall(lab, pluginDir, theirs, signal))));
    }
    for (const { mine, theirs } of pairs)
      for (const { netns } of [mine, theirs]) await run('ip', ['netns', 'delete', netns]);
    return { name: 'cni-del', unit: 'ms', ours: ours.slice(1), peer: peer.slice(1), peerName: 'ptp+host-local' };
  };
  return withLab(signal, measure, { nodes: 1 });
}

async function timed(action: () => Promise<unknown>): Promise<number> {
  const began = performance.now();
  await action();
  return performance.now() - began;
}
