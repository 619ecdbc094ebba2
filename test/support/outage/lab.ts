import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { addNetwork, type CniCall } from '../../../src/cni/client.ts';
import { nodeEnvironment, startEtcd } from '../../../src/lab/cluster.ts';
import { makeNamespace } from '../../../src/lab/network.ts';
import { type LabNode, type LabPlan, type LabPod, makePod, netnsPath } from '../../../src/lab/plan.ts';
import { callFor } from '../../../src/lab/pods.ts';
import { isAlive, kill, processesOf } from '../../../src/lab/processes.ts';
import { run } from '../../../src/lab/run.ts';
import { dist, type Ended, finish } from '../../e2e/support.ts';
import { until } from '../wait.ts';
import { felixSeconds } from './kernel.ts';
import { addressOf, type Stage, type StageNode } from './play.ts';

/* The lab as a stage for an outage of its etcd. */

/** Two pods of one label each: one is shut off while the datastore is away, the other opened. */
const subjects = { closing: 'outage-closing', opening: 'outage-opening' } as const;

const policy = (app: string) => `apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: ${app}, namespace: guest}
spec: {podSelector: {matchLabels: {app: ${app}}}, policyTypes: [Ingress], ingress: []}
`;

/** How etcd goes away: its process dies, or the network loses all that is meant for it. */
export type Away = 'killed' | 'unreachable';

/** Sets the lab's additional pods up. What it makes goes with the lab. */
export async function labStage(plan: LabPlan, how: Away, signal: AbortSignal): Promise<Stage> {
  const nodes = plan.nodes.map((node) => ({ ...stageNode(node), node }));
  const [n1, n2] = plan.nodes;
  if (!n1 || !n2) throw new Error('a lab of two nodes or more');
  let pods = 0;
  const newPod = async (on: LabNode, app = `outage-${pods++}`): Promise<CniCall> => {
    const pod = { ...makePod(plan.name, on.name, 'guest', app, 'stranger'), labels: { app } };
    await makeNamespace(pod.netns);
    return callFor(plan, on, pod, signal);
  };
  const onEtcd = (args: readonly string[], input = '') => ctl(plan, n1, plan.etcd.netns, args, input);
  await succeeded(onEtcd(['apply', '-f', '-'], policy(subjects.opening)));
  const [closing, opening] = await Promise.all(
    Object.values(subjects).map(async (app) => addressOf(await addNetwork(await newPod(n2, app)))),
  );
  const [client, far, local] = ['client-1', 'stranger-2', 'web-1'].map((name) => podOf(plan, name));
  const addresses = await podAddresses(onEtcd);
  const stream = (from: LabPod | undefined, to: LabPod | undefined) => ({
    from: netnsPath(from?.netns ?? ''),
    to: netnsPath(to?.netns ?? ''),
    address: addresses.get(to?.pod ?? '') ?? '',
  });
  const reached = (address = '') => ping(client?.netns ?? '', address);
  const shut = (verb: '-A' | '-D') =>
    run('nsenter', [
      `--net=${netnsPath(plan.etcd.netns)}`,
      'iptables',
      '-w',
      verb,
      'INPUT',
      '-i',
      'eth0',
      '-j',
      'DROP',
    ]);
  return {
    nodes,
    // Between nodes, and within one.
    streams: [stream(client, far), stream(local, client)],
    newPod: (node) => newPod(nodes.find(({ name }) => name === node.name)?.node ?? n1),
    takeAway: async () => {
      if (how === 'unreachable') await shut('-A');
      else await stopEtcd(plan.name);
    },
    giveBack: async () => {
      if (how === 'killed') {
        await shut('-A');
        await startEtcd(plan);
      }
      const answers = async () => (await onEtcd(['get', 'nodes'])).code === 0;
      await until(answers, { within: 30_000, what: 'etcd answers on its machine' });
      await succeeded(onEtcd(['apply', '-f', '-'], policy(subjects.closing)));
      await succeeded(onEtcd(['delete', 'networkpolicy', subjects.opening, '-n', 'guest']));
      await shut('-D');
    },
    obey: async (which) => {
      const open = await Promise.all([reached(closing), reached(opening)]);
      return open[0] === (which === 'before') && open[1] === (which === 'after');
    },
    felixSeconds: () => felixSeconds(processesOf(plan.name)),
    sound: async () => {
      for (const node of plan.nodes)
        await until(() => withoutFindings(plan, node), { within: 20_000, what: node.name });
      await succeeded(onEtcd(['ipam', 'check']));
    },
  };
}

function stageNode({ name, netns, runDir }: LabNode): StageNode {
  return { name, netns: netnsPath(netns), queueDir: join(runDir, 'cni-queue') };
}

/** `margayctl` with a node's settings, in any namespace of the lab. */
function ctl(plan: LabPlan, node: LabNode, netns: string, args: readonly string[], input = ''): Promise<Ended> {
  const command = [`--net=${netnsPath(netns)}`, '--', process.execPath, join(dist, 'margayctl.js'), ...args];
  return finish('nsenter', command, { env: nodeEnvironment(plan, node), input });
}

async function succeeded(command: Promise<Ended>): Promise<Ended> {
  const ended = await command;
  if (ended.code !== 0) throw new Error(`exit code ${ended.code}: ${ended.stdout}${ended.stderr}`);
  return ended;
}

async function withoutFindings(plan: LabPlan, node: LabNode): Promise<boolean> {
  const { stdout } = await succeeded(ctl(plan, node, node.netns, ['status']));
  if (/findings: +none/.test(stdout)) return true;
  throw new Error(stdout);
}

async function podAddresses(onEtcd: (args: readonly string[]) => Promise<Ended>): Promise<Map<string, string>> {
  const { stdout } = await succeeded(onEtcd(['get', 'pods', '-A', '-o', 'json']));
  const { items } = JSON.parse(stdout) as { items: { spec: { pod: string; ipNetworks: string[] } }[] };
  return new Map(items.map(({ spec }) => [spec.pod, spec.ipNetworks[0]?.replace(/\/\d+$/, '') ?? '']));
}

function podOf(plan: LabPlan, name: string): LabPod | undefined {
  return plan.pods.find(({ pod }) => pod === name);
}

async function ping(netns: string, address: string): Promise<boolean> {
  const command = [`--net=${netnsPath(netns)}`, '--', 'ping', '-n', '-c', '1', '-W', '0.5', address];
  return (await finish('nsenter', command)).code === 0;
}

/** As a machine that fails: no goodbye. */
async function stopEtcd(lab: string): Promise<void> {
  const pid = processesOf(lab).find((each) => readFileSync(`/proc/${each}/cmdline`, 'utf8').startsWith('etcd\0'));
  if (pid === undefined) throw new Error('etcd does not run');
  kill(pid);
  await until(() => !isAlive(pid), { within: 10_000, what: 'etcd ends' });
}
