import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { uninstallFile } from '../../scripts/manifests/uninstall.ts';
import { until } from '../support/wait.ts';
import { LiveCluster, podCidr, shippedImage } from './live.ts';
import { fetching, isReady, onlyClients, type Pod, port, traffic, workloads } from './workloads.ts';

/*
 * deploy/margay.yaml on a live cluster of two nodes: everything between `kubectl apply` and the packets of pods is the
 * real thing, with containerd, the kubelet, kube-proxy, the scheduler and the controllers of Kubernetes.
 */

const deploy = join(import.meta.dirname, '../../deploy');
const soon = (what: string, within = 120_000) => ({ within, what, every: 250 });
const system = ['-n', 'kube-system'];
let cluster: LiveCluster;

beforeAll(async () => {
  cluster = await LiveCluster.start(2);
}, 600_000);
afterAll(() => cluster?.stop(), 300_000);

/** The manifest with the pods' range of this cluster; policy/v1 came with Kubernetes 1.21. */
function manifest(): string {
  const text = readFileSync(join(deploy, 'margay.yaml'), 'utf8');
  return text
    .replace('CALICO_IPV4POOL_CIDR: 192.168.0.0/16', `CALICO_IPV4POOL_CIDR: ${podCidr}`)
    .replace('apiVersion: policy/v1\n', 'apiVersion: policy/v1beta1\n');
}

const pods = (...args: string[]) => cluster.list<Pod>('pods', ...args);

/** Pods of an application, of which every one is ready, by node. */
async function readyPods(app: string, count: number): Promise<Record<string, Pod>> {
  const ready = await until(
    async () => {
      const found = await pods('-l', `app=${app}`);
      return found.filter(isReady).length === count && found.length === count && found;
    },
    soon(`${count} Pods of ${app} are ready`),
  );
  return Object.fromEntries(ready.map((pod) => [pod.spec.nodeName, pod]));
}

const nameOf = (pod: Pod | undefined) => pod?.metadata.name ?? '';
const addressOf = (pod: Pod | undefined) => pod?.status.podIP ?? '';
const routes = (at: number) => cluster.nodes[at]?.machine.run('ip', 'route') ?? '';

/** What a Pod gets from a server, or undefined. */
async function fetched(pod: string, host: string, at = port): Promise<string | undefined> {
  const { code, output } = await cluster.exec(pod, ...fetching(host, at));
  return code === 0 ? output.trim() : undefined;
}

/** margayctl in the agent's Pod of a node. */
async function margayctl(node: string, ...args: string[]): Promise<string> {
  const [agent] = await pods(...system, '-l', 'k8s-app=margay-node', '--field-selector', `spec.nodeName=${node}`);
  const inside = ['-c', 'felix', '--', 'margayctl', ...args];
  return cluster.kubectl(...system, 'exec', nameOf(agent), ...inside);
}

test('one kubectl apply makes the nodes ready, and every probe of its own Pods passes', async () => {
  const nodes = () => cluster.list<Pod>('nodes');
  expect((await nodes()).filter(isReady)).toEqual([]);
  await cluster.kubectl('apply', '-f', join(deploy, 'crds'));
  await cluster.plane.run(['apply', '-f', '-'], manifest());
  await until(async () => (await nodes()).filter(isReady).length === 2, soon('both nodes are ready'));
  await cluster.kubectl(...system, 'rollout', 'status', 'daemonset/margay-node', '--timeout=120s');
  await cluster.kubectl(...system, 'rollout', 'status', 'deployment/margay-controllers', '--timeout=120s');
  const started = await pods(...system);
  expect(started.map(isReady)).toEqual([true, true, true, true]);
  expect(started.flatMap(({ status }) => status.containerStatuses?.map(({ restartCount }) => restartCount))).toEqual(
    Array(6).fill(0),
  );
  const controllers = started.filter(({ metadata }) => metadata.labels['k8s-app'] === 'margay-controllers');
  for (const pod of controllers) expect(addressOf(pod)).toMatch(/^10\.244\./);
});

test('Pods of Deployments reach each other across nodes, by routes of BGP, and a service', async () => {
  await cluster.plane.apply(...workloads);
  const [web, client] = [await readyPods('web', 2), await readyPods('client', 2)];
  expect(Object.keys(web).toSorted()).toEqual(['n1', 'n2']);
  for (const from of Object.values(client))
    for (const to of Object.values(web)) expect(await fetched(nameOf(from), addressOf(to))).toBe(nameOf(to));
  expect(routes(0)).toMatch(/^10\.244\.[\d.]+\/26 via 198\.18\.9\.12 dev eth0 proto 80/m);
  expect(routes(1)).toMatch(/^10\.244\.[\d.]+\/26 via 198\.18\.9\.11 dev eth0 proto 80/m);
  expect(await margayctl('n1', 'bgp', 'peers')).toMatch(/198\.18\.9\.12\s+64512\s+Established/);
  const names = Object.values(web).map(nameOf);
  expect(names).toContain(await fetched(nameOf(client['n1']), await service(), 80));
});

/** Address of the servers' service. */
async function service(): Promise<string> {
  return cluster.kubectl('get', 'service', 'web', '-o', 'jsonpath={.spec.clusterIP}');
}

test('a NetworkPolicy holds between nodes, on one, and for the service; the kubelet still comes in', async () => {
  const [web, client] = [await readyPods('web', 2), await readyPods('client', 2)];
  const [stranger] = Object.values(await readyPods('stranger', 1));
  for (const to of Object.values(web)) expect(await fetched(nameOf(stranger), addressOf(to))).toBe(nameOf(to));
  await cluster.plane.apply(onlyClients);
  const places = [...Object.values(web).map((pod) => [addressOf(pod), port] as const), [await service(), 80] as const];
  for (const [host, at] of places) {
    await until(async () => (await fetched(nameOf(stranger), host, at)) === undefined, soon(`${host} is closed`));
    for (const from of Object.values(client)) expect(await fetched(nameOf(from), host, at)).toMatch(/^web-/);
  }
  await readyPods('web', 2);
});

test('a rolling update of the agent loses no packet, breaks no connection and opens nothing', async () => {
  const next = 'docker.io/library/margay:next';
  for (const { runtime } of cluster.nodes) runtime.tag(shippedImage, next);
  const [web, client] = [await readyPods('web', 2), await readyPods('client', 2)];
  const [stranger] = Object.values(await readyPods('stranger', 1));
  const [from, to] = [nameOf(client['n1']), web['n2']];
  await cluster.exec(from, 'sh', '-c', traffic(addressOf(to)));
  const lines = async () =>
    Number((await cluster.exec(nameOf(to), 'busybox', 'wc', '-l', '/stream')).output.split(' ')[0]);
  await until(async () => (await lines()) > 0, soon('the connection stands'));

  await cluster.kubectl(...system, 'set', 'image', 'daemonset/margay-node', '*=margay:next');
  const rollout = cluster.kubectl(...system, 'rollout', 'status', 'daemonset/margay-node', '--timeout=150s');
  let [rolling, opened] = [true, 0];
  const ended = rollout.finally(() => {
    rolling = false;
  });
  while (rolling) if ((await fetched(nameOf(stranger), addressOf(to))) !== undefined) opened++;
  await ended;
  expect(opened).toBe(0);
  const agents = await pods(...system, '-l', 'k8s-app=margay-node');
  expect(agents.flatMap(({ spec }) => spec.containers.map(({ image }) => image))).toEqual(Array(4).fill('margay:next'));

  const before = await lines();
  await until(async () => (await lines()) > before, soon('the connection goes on'));
  await cluster.exec(from, 'sh', '-c', 'kill -INT $(cat /ping.pid)');
  const summary = async () =>
    /(\d+) packets transmitted, (\d+) packets received/.exec((await cluster.exec(from, 'cat', '/ping')).output);
  const [, sent, received] = await until(summary, soon('ping ends'));
  expect(Number(sent)).toBeGreaterThan(20);
  expect(received).toBe(sent);
  expect(await fetched(from, addressOf(to))).toBe(nameOf(to));
}, 300_000);

test('a node that is drained and deleted leaves no address, block or handle', async () => {
  const [, leaving] = cluster.nodes;
  await cluster.kubectl('drain', 'n2', '--ignore-daemonsets', '--force', '--timeout=120s');
  await leaving?.kubelet.stop();
  await cluster.kubectl('delete', 'node', 'n2');
  const left = async (kind: string, field: string) =>
    (await cluster.kubectl('get', kind, '-o', `jsonpath={range .items[*]}{${field}}{"\\n"}{end}`))
      .split('\n')
      .filter(Boolean);
  const owners = async () => [
    ...(await left('ipamblocks', '.spec.affinity')),
    ...(await left('blockaffinities', '.spec.node')),
  ];
  await until(async () => (await owners()).every((owner) => owner.endsWith('n1')), soon('only blocks of n1 are left'));
  const alive = (await pods('-A')).filter(({ status }) => status.podIP?.startsWith('10.244.'));
  await until(
    async () => (await left('ipamhandles', '.metadata.name')).length === alive.length,
    soon('a handle a Pod'),
  );
  expect(await margayctl('n1', 'ipam', 'check')).toContain('nothing is wrong');
  await until(() => !routes(0).includes('198.18.9.12'), soon('the routes to it are gone'));
});

test('what removes Margay leaves nothing of it on a node', async () => {
  const [stays] = cluster.nodes;
  const seen = (...command: string[]) => stays?.machine.run(...command) ?? '';
  const rules = () => ['iptables-nft-save', 'iptables-legacy-save'].map((save) => seen(save)).join('');
  await cluster.kubectl('delete', 'deployment', 'web', 'client', 'stranger', '--cascade=foreground');
  expect(rules()).toContain('cali-FORWARD');
  await cluster.kubectl(...system, 'delete', 'deployment', 'margay-controllers', '--cascade=foreground');
  await cluster.kubectl(...system, 'delete', 'daemonset', 'margay-node', '--cascade=foreground');
  await cluster.kubectl('apply', '-f', join(deploy, uninstallFile));
  await cluster.kubectl(...system, 'rollout', 'status', 'daemonset/margay-uninstall', '--timeout=120s');
  expect(rules()).not.toContain('cali');
  expect(rules()).toContain('KUBE-SERVICES');
  expect(seen('ipset', 'list', '-n')).not.toContain('cali');
  expect(routes(0)).not.toContain('proto 80');
  expect(seen('ip', '-o', 'link')).not.toContain('cali');
  expect(seen('ls', '/etc/cni/net.d')).toBe('');
  expect(seen('ls', '/opt/cni/bin')).toBe('loopback\n');
  const nodes = () => cluster.list<Pod>('nodes');
  await until(async () => !(await nodes()).some(isReady), soon('the node waits for another plugin'));
  await cluster.kubectl('delete', '-f', join(deploy, uninstallFile));
  await cluster.plane.run(['delete', '--ignore-not-found', '-f', '-'], manifest());
  await cluster.kubectl('delete', '-f', join(deploy, 'crds'));
  expect(await cluster.kubectl('get', 'clusterroles,serviceaccounts,configmaps', '-A', '-o', 'name')).not.toContain(
    'margay',
  );
}, 300_000);
