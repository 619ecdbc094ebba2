import { pause, systemClock } from '../src/base/clock.ts';
import { createLog } from '../src/base/log.ts';
import { applyOne, deleteOne } from '../src/cli/apply.ts';
import { readManifests } from '../src/cli/documents.ts';
import { addNetwork, delNetwork } from '../src/cni/client.ts';
import { openStore } from '../src/datastore/open.ts';
import { felixStatus } from '../src/lab/agents.ts';
import { responder } from '../src/lab/cluster.ts';
import { makeNamespace } from '../src/lab/network.ts';
import { type LabNode, type LabPod, makePod, udpPort } from '../src/lab/plan.ts';
import { addPod, deletePod } from '../src/lab/pods.ts';
import { udp } from '../src/lab/probe.ts';
import { run } from '../src/lab/run.ts';
import type { Lab } from '../src/lab/up.ts';
import { until } from '../src/lab/wait.ts';
import type { DutId } from './bgp/duts.ts';
import { bgpBenchmarks } from './bgp/main.ts';
import { usageOf } from './bgp/usage.ts';
import { cniBenchmarks } from './cni/main.ts';
import { referenceCall, referencePlugins } from './cni/reference.ts';
import { felixBenchmarks } from './felix/main.ts';
import type { Figure } from './figure.ts';
import { withLab } from './lab.ts';
import { policyBenchmarks } from './policy/main.ts';

/** One comparison, or several that were measured together. */
export type Benchmark = (
  runs: number | undefined,
  signal: AbortSignal,
  options: BenchOptions,
) => Promise<Figure | Figure[]>;

/** What benchmarks with several competitors are told. */
export interface BenchOptions {
  /** The chosen ones; absent: all that this machine has. */
  readonly duts?: readonly DutId[];
  /** Slow competitors run as often as the others. */
  readonly full: boolean;
}

/** Budgets of the project, milliseconds (the lab: seconds), where no peer does the same. */
const budget = { labSeconds: 15, policyMs: 250, reachableMs: 250 };

/** Name → benchmark. */
export const benchmarks: Readonly<Record<string, Benchmark>> = {
  lab: measureLab,
  'cni-add': (runs, signal) => measureAdd('cni-add', 1, runs, signal),
  'cni-add-crowded': (runs, signal) => measureAdd('cni-add-crowded', 3, runs, signal),
  'policy-enforced': measurePolicy,
  'pod-reachable': measureReachable,
  ...policyBenchmarks,
  ...cniBenchmarks,
  ...felixBenchmarks,
  ...bgpBenchmarks,
};

/** Three nodes with two pods each: from etcd answering to the last pod added and the last BGP session up. */
async function measureLab(runs = 3, signal: AbortSignal): Promise<Figure> {
  const ours: number[] = [];
  for (let i = 0; i < runs; i++) ours.push(await withLab(signal, async ({ readySeconds }) => readySeconds));
  return { name: 'lab', unit: 's', ours, peer: ours.map(() => budget.labSeconds), peerName: 'target' };
}

/**
 * CNI ADD as a runtime calls it: ours with etcd, IPAM and policy against Debian's ptp with host-local. Pods are added in
 * turns and stay until the end: the kernel takes a namespace down in the background and holds its configuration lock for
 * milliseconds meanwhile, which would fall on whoever comes next.
 * @param nodes one, as a machine has; with more, the agents of all of them take note of each pod on the same processors
 */
async function measureAdd(name: string, nodes: number, runs = 40, signal: AbortSignal): Promise<Figure> {
  const pluginDir = referencePlugins();
  const measure = async (lab: Lab): Promise<Figure> => {
    const node = firstNode(lab);
    // The first pair warms caches on both sides and does not count.
    const pairs = Array.from({ length: runs + 1 }, (_, i) => ({
      mine: makePod(lab.plan.name, node.name, 'shop', `bench-${i}`, 'client'),
      theirs: makePod(lab.plan.name, node.name, 'shop', `peer-${i}`, 'client'),
    }));
    for (const { mine, theirs } of pairs) for (const { netns } of [mine, theirs]) await makeNamespace(netns);
    await atRest(lab, signal);
    const ours: number[] = [];
    const peer: number[] = [];
    for (const { mine, theirs } of pairs) {
      ours.push(await timed(() => addPod(lab.plan, node, mine, signal)));
      peer.push(await timed(() => addNetwork(referenceCall(lab, pluginDir, theirs, signal))));
    }
    for (const { mine, theirs } of pairs) {
      await deletePod(lab.plan, node, mine, signal);
      await delNetwork(referenceCall(lab, pluginDir, theirs, signal));
      for (const { netns } of [mine, theirs]) await run('ip', ['netns', 'delete', netns]);
    }
    return { name, unit: 'ms', ours: ours.slice(1), peer: peer.slice(1), peerName: 'ptp+host-local' };
  };
  return withLab(signal, measure, { nodes });
}

/** Longer than an agent waits before it uses an idle moment to get ready for pods, see src/cli/rehearsal.ts. */
const restMs = 1500;

/** A pod starts on a node that has been up for a while: its agent has nothing else to do any more. */
async function atRest({ plan }: Lab, signal: AbortSignal): Promise<void> {
  for (const node of plan.nodes) {
    const { pid } = await felixStatus(node);
    await until(`felix of ${node.name} is at rest`, 60_000, signal, async () => {
      const before = usageOf(pid).cpuSeconds;
      await pause(systemClock, restMs, signal);
      const share = (usageOf(pid).cpuSeconds - before) / (restMs / 1000);
      return share < 0.05 ? {} : `it uses ${Math.round(share * 100)} % of a processor`;
    });
  }
}

async function timed(action: () => Promise<unknown>): Promise<number> {
  const began = performance.now();
  await action();
  return performance.now() - began;
}

const denyAll = `apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: bench, namespace: shop}
spec: {podSelector: {matchLabels: {app: client}}, policyTypes: [Ingress]}
`;

/** From the write of a policy to the last new flow that still got through, for a policy that closes a pod. */
async function measurePolicy(runs = 20, signal: AbortSignal): Promise<Figure> {
  return withLab(signal, async (lab) => {
    const log = createLog('bench', 'warn');
    const store = openStore({ type: 'etcdv3', endpoints: [lab.plan.etcd.endpoint] }, log);
    const [manifest] = readManifests(denyAll, 'bench', 'default');
    const deps = { store, clock: systemClock, log };
    const ours: number[] = [];
    try {
      if (!manifest) throw new Error('the policy is empty');
      for (let i = 0; i < runs; i++) {
        ours.push(await timeToClose(lab, () => applyOne(manifest, deps), signal));
        await deleteOne({ type: 'NetworkPolicy', namespace: 'shop', name: 'knp.default.bench' }, deps);
        await until('the pod is open again', 10_000, signal, async () => ((await probeOnce(lab)) ? {} : 'closed'));
      }
    } finally {
      store.close();
    }
    return { name: 'policy-enforced', unit: 'ms', ours, peer: ours.map(() => budget.policyMs), peerName: 'target' };
  });
}

const probeEveryMs = 4;
const silentProbes = 20;

/** Each probe is a flow of its own, since flows from before the policy live on. */
async function timeToClose(lab: Lab, write: () => Promise<unknown>, signal: AbortSignal): Promise<number> {
  const probes: { at: number; open: Promise<boolean> }[] = [];
  const began = performance.now();
  const written = write();
  let silence = 0;
  while (silence < silentProbes) {
    signal.throwIfAborted();
    const open = probeOnce(lab);
    probes.push({ at: performance.now(), open });
    void open.then((through) => {
      silence = through ? 0 : silence + 1;
    });
    await pause(systemClock, probeEveryMs, signal);
  }
  await written;
  const verdicts = await Promise.all(probes.map(async ({ at, open }) => ({ at, open: await open })));
  const last = verdicts.findLastIndex(({ open }) => open);
  return (verdicts[last + 1]?.at ?? began) - began;
}

/** One new UDP flow from a web server to the client of another node. */
async function probeOnce({ plan, addresses }: Lab): Promise<boolean> {
  const to = plan.pods.find(({ role }) => role === 'client');
  const from = plan.pods.find(({ role, node }) => role === 'web' && node !== to?.node);
  const address = to && addresses.get(to.name)?.[4];
  if (!from || !address) throw new Error('the lab has no client pod');
  return typeof (await udp(from.netns, { address, port: udpPort, family: 4 }, 60, 1000)) !== 'string';
}

/** From ADD returning to the first answer of the new pod to a pod on another node. */
async function measureReachable(runs = 20, signal: AbortSignal): Promise<Figure> {
  return withLab(signal, async (lab) => {
    const { plan } = lab;
    const node = firstNode(lab);
    const from = plan.pods.find((pod) => pod.node !== node.name);
    if (!from) throw new Error('the lab has one node only');
    const ours: number[] = [];
    for (let i = 0; i < runs; i++) {
      const pod = makePod(plan.name, node.name, 'shop', `fresh-${i}`, 'client');
      ours.push(
        await inFreshNamespace(pod, async () => {
          await responder(plan, 'POST', pod.netns, pod.name);
          const address = (await addPod(plan, node, pod, signal))[4] ?? '';
          const began = performance.now();
          const answer = await udp(from.netns, { address, port: udpPort, family: 4 }, 10_000, 2);
          const took = performance.now() - began;
          await deletePod(plan, node, pod, signal);
          await responder(plan, 'DELETE', pod.netns, pod.name);
          if (typeof answer === 'string') throw new Error(`${pod.name} was not reached within 10 s: ${answer}`);
          return took;
        }),
      );
    }
    return { name: 'pod-reachable', unit: 'ms', ours, peer: ours.map(() => budget.reachableMs), peerName: 'target' };
  });
}

async function inFreshNamespace<T>({ netns }: LabPod, action: () => Promise<T>): Promise<T> {
  await makeNamespace(netns);
  const result = await action();
  await run('ip', ['netns', 'delete', netns]);
  return result;
}

function firstNode({ plan }: Lab): LabNode {
  const [node] = plan.nodes;
  if (!node) throw new Error('the lab has no node');
  return node;
}
