import { spawn } from 'node:child_process';
import { join } from 'node:path';
import { explain } from '../base/errors.ts';
import type { Family } from '../model/address.ts';
import { nodeEnvironment, programs } from './cluster.ts';
import { policyManifest } from './demo.ts';
import { type Cell, describeCell, judge, probeAll, wrong } from './matrix.ts';
import { addressIn, echoPort, httpPort, type LabNode, type LabPlan, type LabPod, netnsPath, udpPort } from './plan.ts';
import { type Answer, HeldConnection, http, udp } from './probe.ts';
import type { Progress } from './progress.ts';
import { run } from './run.ts';
import type { Lab } from './up.ts';
import { until } from './wait.ts';

/** Probes all pairs until all are as expected, at most for the given time. Gives the last cells, right or wrong. */
export async function settledMatrix(
  lab: Lab,
  underPolicy: boolean,
  withinMs: number,
  signal: AbortSignal,
): Promise<Cell[]> {
  let cells: Cell[] = [];
  try {
    await until('every pair of pods is as expected', withinMs, signal, async () => {
      cells = await probeAll(lab.plan, lab.addresses, underPolicy);
      const bad = wrong(cells);
      return bad.length === 0 ? {} : `${bad.length} of ${cells.length} probes are not`;
    });
  } catch (thrown) {
    if (signal.aborted) throw thrown;
  }
  return cells;
}

/** Records whether a matrix is as expected, naming the first cells that are not. */
export function expectMatrix(name: string, cells: readonly Cell[], progress: Progress): void {
  const bad = wrong(cells);
  const detail = bad.slice(0, 5).map(describeCell).join('; ');
  progress.expect(`${name} (${cells.length} probes)`, bad.length === 0, `${bad.length} wrong: ${detail}`);
}

/** A flow that the policy will forbid to new connections: open before it, it must live on after it. */
export async function openDoomedConnection(
  lab: Lab,
): Promise<{ held: HeldConnection | string; text: string } | undefined> {
  const { plan, addresses } = lab;
  const to = plan.pods.find(({ role }) => role === 'web');
  const from =
    plan.pods.find(({ name, node }) => name !== to?.name && node !== to?.node) ?? plan.pods.find((pod) => pod !== to);
  const family = plan.families[0] ?? 4;
  const address = to && addresses.get(to.name)?.[family];
  if (!to || !from || !address) return undefined;
  const held = await HeldConnection.open(from.netns, { address, port: echoPort, family }, 3000);
  return { held, text: `the connection ${from.name} → ${to.name} from before the policy` };
}

/** `margayctl` as a person on that node would run it. @throws CommandError */
export function ctl(plan: LabPlan, node: LabNode, args: readonly string[], input?: string): Promise<string> {
  const command = [process.execPath, join(programs, 'margayctl.js'), ...args];
  return run('nsenter', [`--net=${netnsPath(node.netns)}`, '--', ...command], {
    env: nodeEnvironment(plan, node),
    ...(input === undefined ? {} : { input }),
  });
}

/** Applies the demo's policy through margayctl. */
export async function applyPolicy(plan: LabPlan): Promise<void> {
  const [node] = plan.nodes;
  if (node) await ctl(plan, node, ['apply', '-f', '-'], policyManifest);
}

/** Pods reach the legacy server behind the ToR, and it reaches them by their own addresses. */
export async function checkLegacy(lab: Lab, progress: Progress, signal: AbortSignal): Promise<void> {
  const { plan, addresses } = lab;
  const { legacy } = plan;
  if (!legacy) return;
  for (const family of plan.families) {
    const server = addressIn(legacy, family);
    const failures: string[] = [];
    for (const pod of plan.pods) {
      const own = addresses.get(pod.name)?.[family] ?? '';
      const there = () => http(pod.netns, { address: server, port: httpPort, family }, 2000);
      const back = () => udp(legacy.netns, { address: own, port: udpPort, family }, 2000);
      failures.push(...(await reach(`${pod.name} → legacy`, there, 'legacy', signal)));
      failures.push(...(await reach(`legacy → ${pod.name}`, back, pod.name, signal)));
    }
    const name = `every pod reaches the legacy server and it reaches every pod over IPv${family}`;
    progress.expect(name, failures.length === 0, failures.slice(0, 5).join('; '));
  }
  await checkSource(lab, progress);
}

async function reach(
  text: string,
  probe: () => Promise<Answer | string>,
  wanted: string,
  signal: AbortSignal,
): Promise<string[]> {
  try {
    await until(text, 10_000, signal, async () => {
      const verdict = judge(await probe(), wanted);
      return verdict === 'ok' ? {} : verdict;
    });
    return [];
  } catch (thrown) {
    if (signal.aborted) throw thrown;
    return [explain(thrown)];
  }
}

/** Outside the pools a pod appears with its node's address (natOutgoing, on by default for IPv4 pools). */
async function checkSource({ plan }: Lab, progress: Progress): Promise<void> {
  const [pod] = plan.pods;
  const node = plan.nodes.find(({ name }) => name === pod?.node);
  if (!pod || !node || !plan.legacy || !plan.families.includes(4)) return;
  const family: Family = 4;
  const answer = await http(pod.netns, { address: addressIn(plan.legacy, family), port: httpPort, family }, 3000);
  const seen = typeof answer === 'string' ? answer : answer.from;
  const wanted = addressIn(node, family);
  progress.expect(
    'the legacy server sees the node’s address, not the pod’s (natOutgoing)',
    seen === wanted,
    `it saw ${seen}, not ${wanted}`,
  );
}

/** Every node reaches every other node's block through its VXLAN device, in each family. */
export async function checkTunnels({ plan }: Lab, progress: Progress, signal: AbortSignal): Promise<void> {
  const missing: string[] = [];
  const others = plan.nodes.length - 1;
  for (const node of plan.nodes)
    for (const family of plan.families) {
      const device = family === 4 ? 'vxlan.calico' : 'vxlan-v6.calico';
      const words = [`-${family}`, '-n', node.netns, 'route', 'show', 'proto', '80', 'dev', device];
      try {
        await until(`tunnels of ${node.name}`, 10_000, signal, async () => {
          const found = (await run('ip', words)).split('\n').filter((line) => line.includes('onlink')).length;
          return found >= others ? {} : `${found} of ${others} blocks are routed through ${device}`;
        });
      } catch (thrown) {
        if (signal.aborted) throw thrown;
        missing.push(explain(thrown));
      }
    }
  progress.expect('every node reaches the others’ blocks through VXLAN', missing.length === 0, missing.join('; '));
}

/** CNI CHECK and the first of every thing that `margayctl` shows must be there. */
export async function checkViews({ plan }: Lab, progress: Progress): Promise<void> {
  const [node] = plan.nodes;
  if (!node) return;
  const views: [string[], (text: string) => boolean][] = [
    [['get', 'nodes', '-o', 'json'], (text) => itemsOf(text) === plan.nodes.length],
    [['get', 'pods', '-A', '-o', 'json'], (text) => itemsOf(text) === plan.pods.length],
    [['get', 'pools', '-o', 'json'], (text) => itemsOf(text) === plan.families.length],
    [['get', 'policies', '-n', 'shop'], (text) => text.includes('web')],
    [['get', 'routes'], (text) => plan.pods.length === 0 || text.includes('cali')],
    [['status'], (text) => text.includes(node.name)],
    [['doctor', '--conf-dir', node.runDir, '--bin-dir', node.runDir], (text) => text.includes(' 0 failures')],
  ];
  const failures = await Promise.all(
    views.map(async ([args, good]) => {
      const text = await ctl(plan, node, args).catch((thrown: unknown) => explain(thrown));
      return good(text) ? [] : [`margayctl ${args.join(' ')}: ${faultIn(text)}`];
    }),
  );
  const wrongViews = failures.flat();
  progress.expect(
    'margayctl shows nodes, pods, pools, policies, routes and status, and its doctor finds no fault',
    wrongViews.length === 0,
    wrongViews.join('; '),
  );
}

/** The lines of the doctor's page that name a fault; of anything else its end. Pure. */
export function faultIn(page: string): string {
  const faults = page.split('\n').filter((line) => line.startsWith('✗'));
  return faults.length > 0 ? faults.join(' ') : page.trim().slice(-300);
}

function itemsOf(text: string): number {
  try {
    return (JSON.parse(text) as { items?: unknown[] }).items?.length ?? -1;
  } catch (thrown) {
    if (thrown instanceof SyntaxError) return -1;
    throw thrown;
  }
}

/** Runs a program in a machine's namespace on this terminal and gives its exit code. */
export function runInside(netns: string, command: readonly string[], env: NodeJS.ProcessEnv): Promise<number> {
  return new Promise((resolve, reject) => {
    const child = spawn('nsenter', [`--net=${netnsPath(netns)}`, '--', ...command], { stdio: 'inherit', env });
    child.once('error', reject);
    child.once('exit', (code) => resolve(code ?? 1));
  });
}

/** A machine of a lab by its name. */
export function findMachine(
  plan: LabPlan,
  name: string,
): { readonly name: string; readonly netns: string } | undefined {
  const others = [plan.fabric, plan.etcd, plan.tor, plan.legacy].filter((machine) => machine !== undefined);
  const byPod = (pod: LabPod) => pod.name === name || pod.pod === name;
  return [...plan.nodes, ...others].find((machine) => machine.name === name) ?? plan.pods.find(byPod);
}
