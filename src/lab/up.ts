import { readFileSync } from 'node:fs';
import { systemClock } from '../base/clock.ts';
import { createLog } from '../base/log.ts';
import type { PeerStatus } from '../bgp/peer.ts';
import { applyOne } from '../cli/apply.ts';
import { readManifests } from '../cli/documents.ts';
import { openStore } from '../datastore/open.ts';
import { felixReady, sessionsEstablished } from './agents.ts';
import { etcdReady, startEtcd, startNode, startPodServer, startResponders, startTor } from './cluster.ts';
import { clusterManifest } from './demo.ts';
import type { PodAddresses } from './matrix.ts';
import { makeNetwork } from './network.ts';
import type { LabPlan } from './plan.ts';
import { addPod, installPlugin } from './pods.ts';
import type { Progress } from './progress.ts';
import { enterNamespace } from './sockets.ts';
import { ExpectationError, patience, until } from './wait.ts';

export interface Lab {
  readonly plan: LabPlan;
  readonly addresses: PodAddresses;
  /** From etcd answering to every pod standing and every BGP session up. */
  readonly readySeconds: number;
  /** BGP peers of every node. */
  readonly peers: readonly (readonly PeerStatus[])[];
}

/**
 * Brings a lab whose state is claimed up to the point where pods stand and routes are there. From here on this process lives on the lab's
 * fabric. What was made stays when this throws; `takeDown` removes it.
 */
export async function bringUp(plan: LabPlan, progress: Progress, signal: AbortSignal): Promise<Lab> {
  await progress.step(`${networkText(plan)}`, () => makeNetwork(plan));
  enterNamespace(plan.fabric.netns);
  await startPodServer(plan);
  await progress.step('etcd answers', async () => {
    await startEtcd(plan);
    await etcdReady(plan, signal);
  });
  const ready = performance.now();
  await startTor(plan);
  await Promise.all(plan.nodes.map((node) => startNode(plan, node)));
  await progress.step('responders listen, namespaces and BGP peers are in the datastore', async () => {
    await startResponders(plan, signal);
    await applyText(plan, clusterManifest(plan), 'cluster.yaml');
  });
  await progress.step(`agents of ${plan.nodes.length} nodes are in sync`, () => agentsReady(plan, signal));
  const addresses = await progress.step(`${plan.pods.length} pods added by CNI`, () => addPods(plan, signal));
  const peers = plan.bgp ? await progress.step('all BGP sessions are established', () => sessionsUp(plan, signal)) : [];
  const readySeconds = (performance.now() - ready) / 1000;
  progress.line(`The cluster stood ${readySeconds.toFixed(1)} s after etcd answered.`);
  return { plan, addresses, readySeconds, peers };
}

function networkText({ nodes, pods, tor, legacy }: LabPlan): string {
  const others = [tor && 'a ToR', legacy && 'a legacy server'].filter((text) => text !== undefined);
  return `network namespaces: ${nodes.length} nodes, ${pods.length} pods, etcd${others.map((text) => `, ${text}`).join('')}`;
}

/** Writes a manifest to the lab's datastore. The calling process is on the fabric. */
export async function applyText(plan: LabPlan, text: string, file: string): Promise<void> {
  const log = createLog('lab', 'warn');
  const store = openStore({ type: 'etcdv3', endpoints: [plan.etcd.endpoint] }, log);
  try {
    for (const manifest of readManifests(text, file, 'default'))
      await applyOne(manifest, { store, clock: systemClock, log });
  } finally {
    store.close();
  }
}

async function agentsReady(plan: LabPlan, signal: AbortSignal): Promise<void> {
  await Promise.all(
    plan.nodes.map((node) =>
      withLog(node.logFile, () =>
        until(`felix of ${node.name} is in sync`, patience(30_000, plan), signal, () => felixReady(node)),
      ),
    ),
  );
}

async function addPods(plan: LabPlan, signal: AbortSignal): Promise<PodAddresses> {
  await Promise.all(plan.nodes.map((node) => installPlugin(plan, node)));
  const added = await Promise.all(
    plan.pods.map(async (pod) => {
      const node = plan.nodes.find(({ name }) => name === pod.node);
      if (!node) throw new Error(`pod ${pod.name} is on unknown node ${pod.node}`);
      return withLog(node.logFile, async () => [pod.name, await addPod(plan, node, pod, signal)] as const);
    }),
  );
  return new Map(added);
}

/** Every session that there should be: to every other node and to the ToR, per family. */
async function sessionsUp(plan: LabPlan, signal: AbortSignal): Promise<(readonly PeerStatus[])[]> {
  return Promise.all(
    plan.nodes.map((node) =>
      withLog(node.logFile, () =>
        until(`BGP sessions of ${node.name}`, patience(40_000, plan), signal, () =>
          sessionsEstablished(node, sessionCount(plan)),
        ),
      ),
    ),
  );
}

/** Sessions that a node has when all are up. */
export function sessionCount({ nodes, families, tor, bgp }: LabPlan): number {
  if (!bgp) return 0;
  return (nodes.length - 1 + (tor ? 1 : 0)) * families.length;
}

/** Adds the end of a log to the error of what depends on the process that writes it. */
export async function withLog<T>(logFile: string, action: () => Promise<T>): Promise<T> {
  try {
    return await action();
  } catch (thrown) {
    if (!(thrown instanceof Error) || thrown.name === 'AbortError') throw thrown;
    throw new ExpectationError(`${thrown.message}\nThe last lines of ${logFile}:\n${lastLines(logFile)}`, {
      cause: thrown,
    });
  }
}

/** The end of a log file, each line indented and cut at 400 characters. */
export function lastLines(file: string, count = 12): string {
  const lines = readFileSync(file, 'utf8').trimEnd().split('\n');
  return lines
    .slice(-count)
    .map((line) => `  ${line.slice(0, 400)}`)
    .join('\n');
}
