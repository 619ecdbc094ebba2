import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { ask } from '../../../src/cli/control.ts';
import { addNetwork, type CniCall } from '../../../src/cni/client.ts';
import { defaultConflist, installCni } from '../../../src/cni/install.ts';
import type { FelixStatus } from '../../../src/felix/status.ts';
import { childrenOf } from '../../../src/lab/processes.ts';
import { dist, finish, labName } from '../../e2e/support.ts';
import { kubeconfig } from '../kubernetes/cluster.ts';
import { relayProgram } from '../kubernetes/relay.ts';
import { TestApiServer } from '../kubernetes/server.ts';
import { until } from '../wait.ts';
import { felixSeconds } from './kernel.ts';
import { addressOf, type Stage } from './play.ts';

/* One node on the Kubernetes API as a stage for an outage: the server is ours, behind a relay on the node's loopback. */

const policies = 'networkpolicies.networking.k8s.io';
const subjects = { closing: 'outage-closing', opening: 'outage-opening' } as const;

const ip = (...args: string[]) => execFileSync('ip', args, { stdio: ['ignore', 'pipe', 'pipe'] }).toString();

/** The machine, its agents and the server; `dispose` ends and removes all of it. */
export class KubernetesNode {
  readonly #id = labName('u');
  readonly #machine = `margay-${this.#id}-n1`;
  readonly #runDir = mkdtempSync(join(tmpdir(), 'margay-outage-'));
  readonly #namespaces = [this.#machine];
  readonly #socketPath = join(this.#runDir, 'api.sock');
  readonly #api = new TestApiServer({ socketPath: this.#socketPath });
  readonly #env = {
    PATH: process.env['PATH'] ?? '',
    NODENAME: 'n1',
    DATASTORE_TYPE: 'kubernetes',
    KUBECONFIG: join(this.#runDir, 'kubeconfig'),
    IP: '198.18.0.2/30',
    CALICO_IPV4POOL_CIDR: '10.77.0.0/16',
    FELIX_IPV6SUPPORT: 'false',
    FELIX_HEALTHENABLED: 'false',
    MARGAY_RUN_DIR: this.#runDir,
    MARGAY_LIB_DIR: this.#runDir,
    XTABLES_LOCKFILE: join(this.#runDir, 'xtables.lock'),
  };
  #relay: ChildProcess | undefined;
  #agents: ChildProcess | undefined;
  #output = '';
  #pods = 0;

  async start(): Promise<void> {
    ip('netns', 'add', this.#machine);
    ip('-n', this.#machine, 'link', 'add', 'eth0', 'type', 'veth', 'peer', 'name', 'wire');
    for (const device of ['lo', 'wire', 'eth0']) ip('-n', this.#machine, 'link', 'set', device, 'up');
    ip('-n', this.#machine, 'addr', 'add', this.#env.IP, 'dev', 'eth0');
    await this.#api.start();
    this.#relay = spawn('nsenter', this.#inside(process.execPath, '-e', relayProgram, this.#socketPath));
    writeFileSync(this.#env.KUBECONFIG, kubeconfig('http://127.0.0.1:6443'), { mode: 0o600 });
    await this.#api.create('nodes', { metadata: { name: 'n1' }, spec: {} });
    await this.#api.create('namespaces', { metadata: { name: 'guest' } });
    await installCni({
      launcher: join(dist, 'margay-cni'),
      binDir: join(this.#runDir, 'bin'),
      confDir: join(this.#runDir, 'conf'),
      socketPath: join(this.#runDir, 'cni.sock'),
      queueDir: join(this.#runDir, 'cni-queue'),
      conflist: defaultConflist({ cniVersion: '1.1.0' }),
    });
    this.#agents = spawn('nsenter', this.#inside(process.execPath, join(dist, 'margay.js'), 'node'), {
      env: this.#env,
    });
    const collect = (chunk: Buffer) => {
      this.#output = (this.#output + String(chunk)).slice(-3000);
    };
    this.#agents.stdout?.on('data', collect);
    this.#agents.stderr?.on('data', collect);
    await until(() => this.#ready(), { within: 60_000, what: 'the agents are ready' }).catch((cause: unknown) =>
      Promise.reject(new Error(`not ready: ${this.#output}`, { cause })),
    );
  }

  /** Makes the pods that the play needs from the beginning. */
  async stage(): Promise<Stage> {
    await this.#deny(subjects.opening);
    const [client, server] = [await this.#newPod(), await this.#newPod()];
    await addNetwork(client);
    const address = addressOf(await addNetwork(server));
    const closing = addressOf(await addNetwork(await this.#newPod(subjects.closing)));
    const opening = addressOf(await addNetwork(await this.#newPod(subjects.opening)));
    const reached = async (to: string) => {
      const command = [`--net=${client.netns}`, '--', 'ping', '-n', '-c', '1', '-W', '0.5', to];
      return (await finish('nsenter', command)).code === 0;
    };
    return {
      nodes: [{ name: 'n1', netns: `/run/netns/${this.#machine}`, queueDir: join(this.#runDir, 'cni-queue') }],
      streams: [{ from: client.netns ?? '', to: server.netns ?? '', address }],
      newPod: () => this.#newPod(),
      takeAway: () => this.#api.stop(),
      giveBack: async () => {
        await this.#deny(subjects.closing);
        await this.#api.storage.delete(this.#api.resource(policies), 'guest', subjects.opening, {});
        await this.#api.start();
      },
      obey: async (which) => {
        const open = await Promise.all([reached(closing), reached(opening)]);
        return open[0] === (which === 'before') && open[1] === (which === 'after');
      },
      felixSeconds: () => felixSeconds(childrenOf(this.#agents?.pid ?? 0).map(({ pid }) => pid)),
      sound: () => this.#sound(),
    };
  }

  async dispose(): Promise<void> {
    const agents = this.#agents;
    if (agents && agents.exitCode === null) {
      const gone = once(agents, 'exit');
      agents.kill('SIGTERM');
      await gone;
    }
    this.#relay?.kill('SIGKILL');
    await this.#api.stop();
    for (const name of this.#namespaces) await finish('ip', ['netns', 'del', name]);
    rmSync(this.#runDir, { recursive: true, force: true });
  }

  #inside(...command: string[]): string[] {
    return [`--net=/run/netns/${this.#machine}`, '--', ...command];
  }

  async #ready(): Promise<boolean> {
    const { inSync, lastApply } = (await ask(this.#runDir, 'felix', '/v1/status')) as FelixStatus;
    return inSync && lastApply !== undefined;
  }

  async #deny(app: string): Promise<void> {
    const spec = { podSelector: { matchLabels: { app } }, policyTypes: ['Ingress'] };
    await this.#api.create(policies, { metadata: { name: app, namespace: 'guest' }, spec });
  }

  /** A Pod as the scheduler leaves it, and the namespace that the runtime makes for it. */
  async #newPod(name = `outage-${this.#pods++}`): Promise<CniCall> {
    await this.#api.create('pods', {
      metadata: { name, namespace: 'guest', labels: { app: name } },
      spec: { nodeName: 'n1', serviceAccountName: 'default', containers: [{ name: 'c' }] },
    });
    const netns = `margay-${this.#id}-${name}`;
    ip('netns', 'add', netns);
    this.#namespaces.push(netns);
    return {
      conflist: defaultConflist({ cniVersion: '1.1.0' }),
      pluginDir: join(this.#runDir, 'bin'),
      containerId: `${name}-1`,
      netns: `/run/netns/${netns}`,
      ifName: 'eth0',
      args: { K8S_POD_NAMESPACE: 'guest', K8S_POD_NAME: name, K8S_POD_INFRA_CONTAINER_ID: `${name}-1` },
    };
  }

  async #sound(): Promise<void> {
    const command = this.#inside(process.execPath, join(dist, 'margayctl.js'), 'ipam', 'check');
    const { code, stdout, stderr } = await finish('nsenter', command, { env: this.#env });
    if (code !== 0) throw new Error(`ipam check: exit code ${code}: ${stdout}${stderr}`);
  }
}
