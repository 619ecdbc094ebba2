import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { felixReady, felixStatus, sessionsEstablished } from '../../src/lab/agents.ts';
import { nodeEnvironment } from '../../src/lab/cluster.ts';
import { type LabNode, type LabPlan, netnsPath, planLab } from '../../src/lab/plan.ts';
import { childrenOf, isAlive, kill, processesOf } from '../../src/lab/processes.ts';
import { sessionCount } from '../../src/lab/up.ts';
import { labStage } from '../support/outage/lab.ts';
import { playOutage } from '../support/outage/play.ts';
import { until } from '../support/wait.ts';
import { build, dist, type Ended, finish, lab, labName } from './support.ts';

const name = labName('k');
const plan: LabPlan = planLab({ name, nodes: 2, pods: 2, family: 'v4', tor: 'bird' });
const [n1, n2] = plan.nodes as [LabNode, LabNode];
const sessions = sessionCount(plan);
const scratch = mkdtempSync(join(tmpdir(), 'margay-e2e-'));

beforeAll(async () => {
  await build();
  const up = await lab('--name', name, '--nodes', '2');
  expect(up.code, up.stdout + up.stderr).toBe(0);
});

afterAll(async () => {
  rmSync(scratch, { recursive: true, force: true });
  await lab('--down', '--name', name);
});

/** A program of ours on a node of the lab. */
function onNode(
  node: LabNode,
  program: string,
  args: string[],
  env: Record<string, string> = {},
  input = '',
): Promise<Ended> {
  const command = [process.execPath, join(dist, `${program}.js`), ...args];
  return finish('/usr/bin/nsenter', [`--net=${netnsPath(node.netns)}`, '--', ...command], {
    env: { ...nodeEnvironment(plan, node), ...env },
    input,
  });
}

function addressOf(pod: string): Promise<string> {
  return until(
    async () => {
      const { stdout } = await onNode(n1, 'margayctl', ['get', 'pods', '-A', '-o', 'json']);
      const items = JSON.parse(stdout).items as { spec: { pod: string; ipNetworks: string[] } }[];
      return items.find(({ spec }) => spec.pod === pod)?.spec.ipNetworks[0]?.replace('/32', '');
    },
    { within: 10_000, what: `address of ${pod}` },
  );
}

/** 250 pings a second from one pod to another, until told to stop. */
async function startPing(from: string, to: string) {
  const netns = plan.pods.find(({ pod }) => pod === from)?.netns ?? '';
  const address = await addressOf(to);
  const child: ChildProcess = spawn('nsenter', [
    `--net=${netnsPath(netns)}`,
    '--',
    'ping',
    '-n',
    '-q',
    '-i',
    '0.004',
    address,
  ]);
  let text = '';
  child.stdout?.on('data', (chunk: Buffer) => {
    text += String(chunk);
  });
  return async () => {
    child.kill('SIGINT');
    await once(child, 'close');
    const [, sent, received] = /(\d+) packets transmitted, (\d+) received/.exec(text) ?? [];
    return { sent: Number(sent), received: Number(received) };
  };
}

/** Process id of an agent of a node. */
function agentOf(node: LabNode, agent: string): number {
  const parents = processesOf(name).filter((pid) =>
    readFileSync(`/proc/${pid}/environ`, 'utf8').includes(`NODENAME=${node.name}\0`),
  );
  const found = parents.flatMap(childrenOf).find(({ command }) => command.includes(agent));
  if (!found) throw new Error(`no ${agent} on ${node.name}`);
  return found.pid;
}

describe('agents killed under traffic', () => {
  test.each(['felix', 'bgp'])(
    'SIGKILL of %s on both nodes loses no packet, and it comes back in sync',
    async (agent) => {
      const stop = await startPing('client-1', 'stranger-2');
      for (const node of [n1, n2]) {
        const before = agentOf(node, agent);
        kill(before);
        await until(() => !isAlive(before) && agentOf(node, agent) !== before, {
          within: 20_000,
          what: `${agent} of ${node.name} starts again`,
        });
        await until(async () => typeof (await felixReady(node)) !== 'string', {
          within: 20_000,
          what: `felix of ${node.name} in sync`,
        });
        for (const either of [n1, n2])
          await until(async () => typeof (await sessionsEstablished(either, sessions)) !== 'string', {
            within: 60_000,
            what: `BGP of ${either.name}`,
          });
        await until(
          async () => {
            const { feed } = await felixStatus(node);
            return feed.connected && feed.complete && feed.stale === 0;
          },
          { within: 60_000, what: `the route feed of ${node.name} is complete` },
        );
      }
      const { sent, received } = await stop();
      expect(sent).toBeGreaterThan(200);
      expect(received).toBe(sent);
      const status = await onNode(n1, 'margayctl', ['status']);
      expect([status.code, status.stdout], status.stdout).toEqual([0, expect.stringContaining('findings:    none')]);
    },
  );
});

describe('bad input', () => {
  const apply = (text: string) => onNode(n1, 'margayctl', ['apply', '-f', '-'], {}, text);

  test('invalid YAML is refused with its line, and nothing of the file is written', async () => {
    const good = 'apiVersion: v1\nkind: Namespace\nmetadata: {name: half}\n';
    const result = await apply(`${good}---\na: [1\nb: 2\n`);
    expect([result.code, result.stderr]).toEqual([2, expect.stringMatching(/^margayctl: stdin:\d+: .*readable YAML/)]);
    const wrong = await apply(
      `${good}---\napiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: x}\nspec: {podSelectr: {}}\n`,
    );
    expect([wrong.code, wrong.stderr]).toEqual([2, expect.stringContaining('stdin:8: spec.podSelectr')]);
    expect((await onNode(n1, 'margayctl', ['get', 'profiles'])).stdout).not.toContain('half');
  });

  test('a second bgp on the node: port 179 is in use', async () => {
    const result = await onNode(n1, 'margay', ['bgp'], { MARGAY_RUN_DIR: scratch });
    expect([result.code, result.stderr]).toEqual([1, expect.stringMatching(/margay: .*179.*in use/)]);
    expect(result.stderr).not.toMatch(/^\s+at /m);
  });

  test('a second felix on the node is refused', async () => {
    const result = await onNode(n1, 'margay', ['felix']);
    expect([result.code, result.stderr]).toEqual([1, expect.stringContaining('already serves')]);
  });

  test('missing programs are named with the package that has them', async () => {
    const result = await onNode(n1, 'margay', ['felix'], { PATH: '/nonexistent' });
    expect(result.code).toBe(1);
    expect(result.stderr).toBe(
      'margay: not found in PATH: iptables-restore, iptables-save, ipset; install it with: apt-get install iptables ipset\n',
    );
  });

  test.each(['node', 'felix', 'bgp'])('margay %s without capabilities says which it lacks', async (program) => {
    const command = ['--bounding-set=-all', '--inh-caps=-all', process.execPath, join(dist, 'margay.js'), program];
    const result = await finish('setpriv', command, { env: nodeEnvironment(plan, n1) });
    expect([result.code, result.stderr]).toEqual([
      1,
      expect.stringMatching(/^margay: margay (felix|bgp) lacks CAP_[A-Z_, ]+; run it as root.*\n$/),
    ]);
  });

  test('bad settings are named with their value', async () => {
    const result = await onNode(n1, 'margay', ['node'], { IP: '172.30.0.300' });
    expect([result.code, result.stderr]).toEqual([1, expect.stringContaining('IP: "172.30.0.300"')]);
  });
});

describe('a datastore that is away', () => {
  const etcd = (): number => {
    const found = processesOf(name).find((pid) => readFileSync(`/proc/${pid}/cmdline`, 'utf8').startsWith('etcd\0'));
    // A signal to process 0 would be one to this process and all its relatives.
    if (found === undefined) throw new Error('etcd does not run');
    return found;
  };

  test('frozen and back: no packet is lost, status tells, and changes arrive afterwards', async () => {
    const stop = await startPing('client-1', 'stranger-2');
    const pid = etcd();
    kill(pid, 'SIGSTOP');
    try {
      const get = await onNode(n1, 'margayctl', ['get', 'nodes']);
      expect([get.code, get.stderr]).toEqual([3, expect.stringContaining(plan.etcd.endpoint)]);
      const startup = await onNode(n1, 'margay', ['startup']);
      expect(startup.code).toBe(3);
    } finally {
      kill(pid, 'SIGCONT');
    }
    await until(async () => (await felixStatus(n1)).datastore.connected, {
      within: 30_000,
      what: 'felix is connected again',
    });
    const applied = await onNode(n1, 'margayctl', ['delete', 'policy', 'web', '-n', 'shop']);
    expect(applied.code, applied.stderr).toBe(0);
    const { sent, received } = await stop();
    expect(received).toBe(sent);
  });

  test('killed and started again: forwarding as it was, ADD and STATUS refuse, DEL succeeds, and all follows the return', async () => {
    await playOutage(await labStage(plan, 'killed', AbortSignal.timeout(120_000)), 2, 2);
  });

  test('nodes that start before etcd wait for it', async () => {
    const pid = etcd();
    kill(pid, 'SIGSTOP');
    const command = [process.execPath, join(dist, 'margay.js'), 'node'];
    const env = { ...nodeEnvironment(plan, n1), NODENAME: 'late', IP: '172.30.0.99/24', MARGAY_RUN_DIR: scratch };
    const child = spawn('nsenter', [`--net=${netnsPath(plan.fabric.netns)}`, '--', ...command], { env });
    let text = '';
    child.stderr.on('data', (chunk: Buffer) => {
      text += String(chunk);
    });
    try {
      await until(() => text.includes('the datastore does not answer; trying again'), {
        within: 30_000,
        what: 'a line that says so',
      });
      expect(text).toContain(plan.etcd.endpoint);
      kill(pid, 'SIGCONT');
      await until(() => text.includes('the node is in the datastore'), { within: 60_000, what: 'the start goes on' });
    } finally {
      kill(pid, 'SIGCONT');
      child.kill('SIGTERM');
      await once(child, 'close');
      await onNode(n1, 'margayctl', ['delete', 'node', 'late']);
    }
  });
});

test('agents end when the process that runs them is killed', async () => {
  const agents = ['felix', 'bgp'].map((agent) => agentOf(n2, agent));
  const [parent] = processesOf(name).filter((pid) => childrenOf(pid).some((child) => agents.includes(child.pid)));
  expect(parent).toBeDefined();
  if (parent !== undefined) kill(parent);
  await until(() => !agents.some(isAlive), { within: 15_000, what: 'felix and bgp end' });
});
