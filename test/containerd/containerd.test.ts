import { copyFileSync, existsSync, mkdirSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { defaultConflist } from '../../src/cni/install.ts';
import { felixReady, felixStatus } from '../../src/lab/agents.ts';
import { nodeEnvironment } from '../../src/lab/cluster.ts';
import { type LabNode, type LabPlan, netnsPath, planLab } from '../../src/lab/plan.ts';
import { childrenOf, isAlive, kill, processesOf, startBackground } from '../../src/lab/processes.ts';
import { build, dist, finish, lab, labName } from '../e2e/support.ts';
import { until } from '../support/wait.ts';
import { image, Runtime } from './runtime.ts';

/*
 * containerd, with its CRI plugin, on a node of a lab: pods from the sandbox to a ping between them, by the installed
 * launcher, felix, etcd and the kernel.
 */

const name = labName('d');
const plan: LabPlan = planLab({ name, nodes: 1, pods: 1, family: 'v4', tor: 'none' });
const [node] = plan.nodes as [LabNode];
const soon = (what: string) => ({ within: 30_000, what });
const names = ['cart', 'web', 'db', 'late'];
let runtime: Runtime;
let before = 0;

beforeAll(async () => {
  await build();
  const up = await lab('--name', name, '--nodes', '1', '--pods', '1', '--tor', 'none');
  expect(up.code, up.stdout + up.stderr).toBe(0);
  // The version that this containerd knows.
  const confDir = join(node.runDir, 'net.d');
  mkdirSync(confDir);
  const conflist = defaultConflist({ cniVersion: '1.0.0' });
  const portmap = { type: 'portmap', snat: true, capabilities: { portMappings: true } };
  const chained = { ...conflist, plugins: [...conflist.plugins, portmap] };
  writeFileSync(join(confDir, '10-margay.conflist'), JSON.stringify(chained));
  // containerd runs the first itself.
  const debian = ['/usr/lib/cni', '/opt/cni/bin'].find((folder) => existsSync(join(folder, 'portmap'))) ?? '';
  for (const plugin of ['loopback', 'portmap']) copyFileSync(join(debian, plugin), join(node.pluginDir, plugin));
  before = await devices();
  runtime = await Runtime.start({ netns: netnsPath(node.netns), binDir: node.pluginDir, confDir });
});

afterAll(async () => {
  try {
    await runtime?.stop();
  } finally {
    await lab('--down', '--name', name);
  }
});

/** Devices of pods on the node, the lab's own included. */
async function devices(): Promise<number> {
  const { stdout } = await finish('ip', ['-n', node.netns, '-o', 'link']);
  return stdout.split('\n').filter((line) => /^\d+: cali/.test(line)).length;
}

/** Addresses of this test's pods, as the datastore has them. */
async function taken(): Promise<string[]> {
  const args = [join(dist, 'margayctl.js'), 'get', 'pods', '-A', '-o', 'json'];
  const command = [`--net=${netnsPath(node.netns)}`, '--', process.execPath, ...args];
  const { stdout, stderr } = await finish('nsenter', command, { env: nodeEnvironment(plan, node) });
  const { items } = JSON.parse(stdout || stderr) as { items: { spec: { pod: string; ipNetworks: string[] } }[] };
  const ours = items.filter(({ spec }) => names.includes(spec.pod));
  return ours.flatMap(({ spec }) => spec.ipNetworks).toSorted();
}

const queued = () => {
  const folder = join(node.runDir, 'cni-queue');
  return readdirSync(folder).filter((file) => file.startsWith('del-')).length;
};

test('pods start with addresses of the pool, reach each other, and leave nothing', async () => {
  const { cri, cgroup } = runtime;
  const [a, b] = [await cri.runPod('shop', 'cart', cgroup), await cri.runPod('shop', 'web', cgroup)];
  const [from, to] = [await cri.address(a), await cri.address(b)];
  expect(await taken()).toEqual([`${from}/32`, `${to}/32`].toSorted());
  expect(await devices()).toBe(before + 2);
  const container = await cri.runContainer(a, image, ['/bin/sleep', '600']);
  const { code, output } = await cri.exec(container, ['ping', '-c', '3', '-W', '2', to]);
  expect(code, output).toBe(0);
  expect((await cri.exec(container, ['ip', 'route'])).output).toContain('default via 169.254.1.1 dev eth0');
  for (const pod of [a, b]) {
    await cri.stopPod(pod);
    await cri.removePod(pod);
  }
  expect(await taken()).toEqual([]);
  expect(await devices()).toBe(before);
});

test('with the agent down pods cannot start, but end; their addresses are free once it is back', async () => {
  const { cri, cgroup } = runtime;
  const pod = await cri.runPod('shop', 'db', cgroup);
  expect(await taken()).toHaveLength(1);
  const agent = processesOf(name).find((pid) => childrenOf(pid).some(({ command }) => command.includes('felix')));
  const all = agent === undefined ? [] : [agent, ...childrenOf(agent).map(({ pid }) => pid)];
  expect(all.length).toBeGreaterThan(1);
  for (const pid of all) kill(pid);
  await until(() => !all.some(isAlive), soon('the agents end'));

  await expect(cri.runPod('shop', 'late', cgroup)).rejects.toThrow('is margay felix running?');
  await cri.stopPod(pod);
  await cri.removePod(pod);
  expect(queued()).toBeGreaterThan(0);

  await startBackground({
    ...{ lab: name, netns: node.netns, logFile: node.logFile, cwd: node.runDir },
    command: process.execPath,
    args: [join(dist, 'margay.js'), 'node'],
    env: { ...nodeEnvironment(plan, node), NODE_COMPILE_CACHE: join(dist, '.compile-cache') },
  });
  await until(async () => typeof (await felixReady(node)) === 'object', soon('felix is ready'));
  await until(() => queued() === 0, soon('the DEL is done'));
  expect(await taken()).toEqual([]);
  expect((await felixStatus(node)).inSync).toBe(true);
  const again = await cri.runPod('shop', 'late', cgroup);
  expect(await taken()).toEqual([`${await cri.address(again)}/32`]);
});
