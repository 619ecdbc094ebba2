import { execFileSync, spawn } from 'node:child_process';
import {
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { parseAllDocuments } from 'yaml';
import { felixHeap } from '../../src/cli/heap.ts';
import type { Sandbox } from '../containerd/cri.ts';
import { image as busybox, Runtime } from '../containerd/runtime.ts';
import { build, finish, labName } from '../e2e/support.ts';
import { relayProgram } from '../support/kubernetes/relay.ts';
import { TestApiServer } from '../support/kubernetes/server.ts';
import { until } from '../support/wait.ts';
import { below, type Container, containerFields, type Host, onHostNetwork, type Pod } from './pod.ts';

/*
 * The image of `npm run image`, and what deploy/margay.yaml makes of it: containerd runs every container with the
 * manifest's capabilities, seccomp, user and read-only root, on an API server that holds them to the manifest's roles.
 * The machine is a network namespace; its API server is ours, on a unix socket that a relay brings to its loopback.
 */

const root = join(import.meta.dirname, '../..');
const folder = mkdtempSync(join(tmpdir(), 'margay-image-'));
const machine = `margay-${labName('i')}`;
const host = '198.18.7.2';
const image = 'docker.io/library/margay:test';
const soon = (what: string, within = 60_000) => ({ within, what });
const ip = (...args: string[]) => execFileSync('ip', args, { stdio: ['ignore', 'pipe', 'pipe'] }).toString();

const manifest = parseAllDocuments(readFileSync(join(root, 'deploy/margay.yaml'), 'utf8')).map((each) => each.toJS());
const named = (kind: string, name: string) =>
  manifest.find((each) => each.kind === kind && each.metadata.name === name);
const agent: Pod = named('DaemonSet', 'margay-node').spec.template.spec;
const controllers: Pod = named('Deployment', 'margay-controllers').spec.template.spec;
const rulesOf = (name: string) => [named('ClusterRole', name), named('Role', name)].flatMap(({ rules }) => rules);

const run = join(folder, 'var/run/margay');
const elsewhere = below(folder);
const place: Host = {
  env: {
    ...named('ConfigMap', 'margay-config').data,
    ...{ KUBERNETES_SERVICE_HOST: '127.0.0.1', KUBERNETES_SERVICE_PORT: '6443' },
    ...{ MARGAY_RUN_DIR: run, MARGAY_LIB_DIR: join(folder, 'var/lib/margay') },
  },
  fields: { 'spec.nodeName': 'n1', 'metadata.namespace': 'kube-system' },
  shared: ['/var/run/margay', '/var/lib/margay'],
  ...{ elsewhere, account: join(folder, 'account') },
};

const stops: (() => unknown)[] = [];
let api: TestApiServer;
let runtime: Runtime;
let node: Sandbox;
const running = new Map<string, string>();

/**
 * A copy of the checkout with packages of its own, as another clone of it would be. Links to the packages would not do:
 * what installs there would write into the checkout's.
 */
function checkout(name: string, from: string): string {
  const to = join(folder, name);
  mkdirSync(to);
  const paths = ['src', 'scripts', 'bench', 'deploy', 'LICENSE', 'package.json', 'package-lock.json', 'node_modules'];
  execFileSync('cp', ['-a', ...paths.map((path) => join(from, path)), to]);
  return to;
}

function makeImage(from: string, umask: string): { archive: string; digest: string } {
  const archive = join(from, 'image.tar');
  const command = `umask ${umask} && exec sh scripts/image.sh --name ${image} --output ${archive}`;
  const env = { ...process.env, TZ: umask === '022' ? 'UTC' : 'Asia/Tokyo' };
  return { archive, digest: execFileSync('sh', ['-c', command], { cwd: from, env, encoding: 'utf8' }).trim() };
}

async function startApi(): Promise<void> {
  const account = place.account;
  mkdirSync(account);
  const file = (name: string) => join(account, name);
  const certificate = ['-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes', '-days', '1'];
  const names = ['-subj', '/CN=test', '-addext', 'subjectAltName=IP:127.0.0.1'];
  execFileSync(
    'openssl',
    ['req', ...certificate, ...names, '-keyout', join(folder, 'key.pem'), '-out', file('ca.crt')],
    {
      stdio: 'ignore',
    },
  );
  writeFileSync(file('token'), 'pod');
  writeFileSync(file('namespace'), 'kube-system');
  const socketPath = join(folder, 'api.sock');
  const tls = { key: readFileSync(join(folder, 'key.pem'), 'utf8'), cert: readFileSync(file('ca.crt'), 'utf8') };
  api = await new TestApiServer({ socketPath, tls }).start();
  stops.push(() => api.stop());
  api.tokens = new Set(['pod']);
  api.rules = rulesOf('margay-node');
  await api.create('nodes', { metadata: { name: 'n1' }, spec: {} });
  await api.create('serviceaccounts', { metadata: { name: 'margay-cni-plugin', namespace: 'kube-system' } });
  await api.create('namespaces', { metadata: { name: 'shop' } });
  for (const name of ['cart', 'web']) await api.create('pods', podOf(name));
  const child = spawn('nsenter', [
    `--net=/run/netns/${machine}`,
    '--',
    process.execPath,
    '-e',
    relayProgram,
    socketPath,
  ]);
  stops.push(() => child.kill('SIGKILL'));
}

function podOf(name: string) {
  const metadata = { name, namespace: 'shop', uid: `${name}-uid`, labels: { app: name } };
  return { metadata, spec: { nodeName: 'n1', containers: [] }, status: { phase: 'Pending' } };
}

beforeAll(async () => {
  await build();
  ip('netns', 'add', machine);
  stops.push(() => finish('ip', ['netns', 'del', machine]));
  ip('-n', machine, 'link', 'add', 'eth0', 'type', 'veth', 'peer', 'name', 'wire');
  for (const device of ['lo', 'wire', 'eth0']) ip('-n', machine, 'link', 'set', device, 'up');
  ip('-n', machine, 'addr', 'add', `${host}/30`, 'dev', 'eth0');
  await startApi();
  const [binDir, confDir] = [elsewhere('/opt/cni/bin'), elsewhere('/etc/cni/net.d')];
  for (const directory of [binDir, confDir, elsewhere('/logs')]) mkdirSync(directory, { recursive: true });
  const debian = ['/usr/lib/cni', '/opt/cni/bin'].find((each) => existsSync(join(each, 'loopback'))) ?? '';
  copyFileSync(join(debian, 'loopback'), join(binDir, 'loopback'));
  runtime = await Runtime.start({ netns: `/run/netns/${machine}`, binDir, confDir, withoutNetwork: true });
  stops.push(() => runtime.stop());
});

afterAll(async () => {
  const outcomes: PromiseSettledResult<unknown>[] = [];
  for (const stop of stops.toReversed()) outcomes.push(...(await Promise.allSettled([(async () => stop())()])));
  rmSync(folder, { recursive: true, force: true });
  expect(outcomes.filter(({ status }) => status === 'rejected')).toEqual([]);
});

const log = (name: string) => {
  const file = join(elsewhere('/logs'), `${name}.log`);
  return existsSync(file) ? readFileSync(file, 'utf8').slice(-4000) : '';
};

async function start(sandbox: Sandbox, pod: Pod, container: Container): Promise<string> {
  const id = await runtime.cri.runContainer(sandbox, image, [], containerFields(pod, container, place), container.name);
  running.set(container.name, id);
  return id;
}

function sandboxOf(name: string): Promise<Sandbox> {
  return runtime.cri.runPod('kube-system', name, runtime.cgroup, onHostNetwork, [[3, elsewhere('/logs')]]);
}

const ask = (name: string, ...command: string[]) => runtime.cri.exec(running.get(name) ?? '', command);
const nodeScript = (text: string) => ['node', '-e', text];

test('two builds from two checkouts, at other times and with another umask, are one image', async () => {
  const first = checkout('one', root);
  // Of the copy, since the checkout may be worked on meanwhile.
  const second = checkout('two', first);
  execFileSync('find', [join(second, 'src'), '-exec', 'touch', '-d', '2001-02-03', '{}', '+']);
  const [one, other] = [makeImage(first, '022'), makeImage(second, '077')];
  expect(one.digest).toMatch(/^sha256:[0-9a-f]{64}$/);
  expect(other.digest).toBe(one.digest);
  runtime.load(one.archive);
});

test('the containers of the start write the node, and put plugin, network and kubeconfig in place', async () => {
  node = await sandboxOf('margay-node');
  for (const container of agent.initContainers ?? []) {
    const id = await start(node, agent, container);
    const code = await until(() => runtime.cri.exitCode(id), soon(`${container.name} ends`));
    expect(code, log(container.name)).toBe(0);
  }
  const confDir = elsewhere('/etc/cni/net.d');
  expect(readdirSync(confDir).toSorted()).toEqual(['10-margay.conflist', 'calico-kubeconfig']);
  expect(statSync(join(confDir, 'calico-kubeconfig')).mode & 0o777).toBe(0o600);
  expect(readFileSync(join(confDir, 'calico-kubeconfig'), 'utf8')).toContain('server: "https://127.0.0.1:6443"');
  const { metadata } = (await api.storage.get(api.resource('nodes'), '', 'n1')) as {
    metadata: { annotations: Record<string, string> };
  };
  expect(metadata.annotations['projectcalico.org/IPv4Address']).toBe(`${host}/30`);
});

test('felix and bgp become ready as the manifest confines them', async () => {
  for (const container of agent.containers) await start(node, agent, container);
  const ready = async () => (await ask('felix', '/bin/calico-node', '-felix-ready')).code === 0;
  await until(ready, soon('felix is ready')).catch((cause) => expect.fail(`${cause}\n${log('felix')}`));
  const status = async (name: string) => {
    const { output } = await ask(
      name,
      ...nodeScript("process.stdout.write(require('fs').readFileSync('/proc/1/status', 'utf8'))"),
    );
    return Object.fromEntries([...output.matchAll(/^(\w+):\s+(.*)$/gm)].map(([, key, text]) => [key, text]));
  };
  const bit = { NET_BIND_SERVICE: 10, NET_ADMIN: 12, NET_RAW: 13, SYS_ADMIN: 21 };
  const mask = (...names: (keyof typeof bit)[]) =>
    names
      .reduce((sum, name) => sum + 2 ** bit[name], 0)
      .toString(16)
      .padStart(16, '0');
  expect(await status('felix')).toMatchObject({ CapEff: mask('NET_ADMIN', 'NET_RAW', 'SYS_ADMIN'), Seccomp: '2' });
  expect(await status('bgp')).toMatchObject({ CapEff: mask('NET_BIND_SERVICE'), Seccomp: '2', NoNewPrivs: '1' });
  for (const name of ['felix', 'bgp']) {
    const { code, output } = await ask(name, ...nodeScript("require('fs').writeFileSync('/opt/margay/x', '')"));
    expect([code, /EROFS/.test(output)], output).toEqual([1, true]);
  }
  const started = await ask(
    'felix',
    ...nodeScript("process.stdout.write(require('fs').readFileSync('/proc/1/cmdline', 'utf8'))"),
  );
  expect(started.output.split('\0')).toEqual(expect.arrayContaining([...felixHeap]));
  const { output } = await ask('bgp', 'node', '/opt/margay/dist/margayctl.js', 'bgp', 'peers', '-o', 'json');
  expect(output).toMatch(/[[{]/);
});

/** Two pods of containerd's start by the installed plugin, and one reaches the other. */
async function podsReachEachOther(): Promise<void> {
  const { cri, cgroup } = runtime;
  const [a, b] = [await cri.runPod('shop', 'cart', cgroup), await cri.runPod('shop', 'web', cgroup)];
  const to = await cri.address(b);
  expect(to).toMatch(/^192\.168\./);
  const container = await cri.runContainer(a, busybox, ['/bin/sleep', '600']);
  const { code, output } = await cri.exec(container, ['ping', '-c', '3', '-W', '2', to]);
  expect(code, output).toBe(0);
  for (const pod of [a, b]) {
    await cri.stopPod(pod);
    await cri.removePod(pod);
  }
  expect(ip('-n', machine, '-o', 'link')).not.toContain('cali');
}

test('pods start by the plugin that was installed, and reach each other', async () => {
  await runtime.ready();
  await podsReachEachOther();
});

test("they do so where the agent has no mount of the host's namespaces, as in Calico's manifests", async () => {
  await runtime.cri.stopContainer(running.get('felix') ?? '', 10);
  const [felix] = agent.containers as [Container];
  const volumeMounts = felix.volumeMounts?.filter(({ name }) => name !== 'netns') ?? [];
  await start(node, agent, { ...felix, name: 'felix-alone', volumeMounts });
  const ready = async () => (await ask('felix-alone', '/bin/calico-node', '-felix-ready')).code === 0;
  await until(ready, soon('felix is ready again'));
  const { output } = await ask('felix-alone', ...nodeScript("console.log(require('fs').existsSync('/var/run/netns'))"));
  expect(output.trim()).toBe('false');
  await podsReachEachOther();
});

test('the controllers work as nobody in particular', async () => {
  api.rules = [...rulesOf('margay-node'), ...rulesOf('margay-controllers')];
  const sandbox = await sandboxOf('margay-controllers');
  const [container] = controllers.containers as [Container];
  await start(sandbox, controllers, container);
  const ready = async () => (await ask('margay-controllers', '/usr/bin/check-status', '-r')).code === 0;
  await until(ready, soon('the controllers are ready')).catch((cause) =>
    expect.fail(`${cause}\n${log('margay-controllers')}`),
  );
  const { output } = await ask(
    'margay-controllers',
    ...nodeScript(
      'process.stdout.write(process.getuid() + " " + require("fs").readFileSync("/proc/1/status", "utf8"))',
    ),
  );
  expect(output).toMatch(/^65532 /);
  expect(output).toMatch(/^CapEff:\s+0000000000000000$/m);
  const lease = () => api.storage.get(api.resource('leases.coordination.k8s.io'), 'kube-system', 'margay-controllers');
  await until(lease, soon('a leader'));
});
