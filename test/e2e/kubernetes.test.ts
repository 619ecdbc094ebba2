import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { parseAllDocuments } from 'yaml';
import { ask } from '../../src/cli/control.ts';
import { addNetwork, type CniCall, delNetwork } from '../../src/cni/client.ts';
import { defaultConflist, installCni } from '../../src/cni/install.ts';
import type { FelixStatus } from '../../src/felix/status.ts';
import { kubeconfig } from '../support/kubernetes/cluster.ts';
import type { TestObject } from '../support/kubernetes/objects.ts';
import type { Rule } from '../support/kubernetes/rbac.ts';
import { relayProgram } from '../support/kubernetes/relay.ts';
import { TestApiServer } from '../support/kubernetes/server.ts';
import { until } from '../support/wait.ts';
import { build, dist, finish, labName } from './support.ts';

/*
 * One node's agents on the Kubernetes API: the machine and its pods are network namespaces, the API server is ours, on
 * a unix socket that a relay brings to the machine's loopback.
 */

const id = labName('q');
const machine = `margay-${id}-n1`;
const runDir = mkdtempSync(join(tmpdir(), 'margay-e2e-kubernetes-'));
const podNamespaces: string[] = [];
let api: TestApiServer;
let agents: ChildProcess | undefined;
let relay: ChildProcess | undefined;
let output = '';

const ip = (...args: string[]) => execFileSync('ip', args, { stdio: ['ignore', 'pipe', 'pipe'] }).toString();
const netnsPath = (name: string) => `/run/netns/${name}`;
const soon = (what: string, within = 20_000) => ({ within, what });

const env = {
  PATH: process.env['PATH'] ?? '',
  NODENAME: 'n1',
  DATASTORE_TYPE: 'kubernetes',
  KUBECONFIG: join(runDir, 'kubeconfig'),
  IP: '198.18.0.2/30',
  CALICO_IPV4POOL_CIDR: '10.77.0.0/16',
  FELIX_IPV6SUPPORT: 'false',
  FELIX_HEALTHENABLED: 'false',
  MARGAY_RUN_DIR: runDir,
  MARGAY_LIB_DIR: runDir,
  XTABLES_LOCKFILE: join(runDir, 'xtables.lock'),
};

beforeAll(async () => {
  await build();
  ip('netns', 'add', machine);
  ip('-n', machine, 'link', 'add', 'eth0', 'type', 'veth', 'peer', 'name', 'wire');
  for (const device of ['lo', 'wire', 'eth0']) ip('-n', machine, 'link', 'set', device, 'up');
  ip('-n', machine, 'addr', 'add', env.IP, 'dev', 'eth0');
  const socketPath = join(runDir, 'api.sock');
  api = await new TestApiServer({ socketPath }).start();
  relay = spawn('nsenter', [`--net=${netnsPath(machine)}`, '--', process.execPath, '-e', relayProgram, socketPath]);
  api.tokens = new Set(['secret']);
  api.rules = nodeRules();
  writeFileSync(env.KUBECONFIG, kubeconfig('http://127.0.0.1:6443', { token: 'secret' }), { mode: 0o600 });
  await api.create('nodes', { metadata: { name: 'n1' }, spec: {} });
  await api.create('namespaces', { metadata: { name: 'shop', labels: { team: 'a' } } });
  await installCni({
    launcher: join(dist, 'margay-cni'),
    binDir: join(runDir, 'bin'),
    confDir: join(runDir, 'conf'),
    socketPath: join(runDir, 'cni.sock'),
    queueDir: join(runDir, 'cni-queue'),
    conflist: defaultConflist({ cniVersion: '1.1.0' }),
  });
  startAgents();
});

afterAll(async () => {
  await stopAgents();
  relay?.kill('SIGKILL');
  await api?.stop();
  for (const name of [...podNamespaces, machine]) await finish('ip', ['netns', 'del', name]);
  rmSync(runDir, { recursive: true, force: true });
});

/** What the manifest lets a node do. */
function nodeRules(): readonly Rule[] {
  const manifest = parseAllDocuments(readFileSync(join(import.meta.dirname, '../../deploy/margay.yaml'), 'utf8'));
  const role = manifest.map((each) => each.toJS()).find(({ kind }) => kind === 'ClusterRole');
  return role.rules;
}

/**
 * As in the containers of the manifest: root without capabilities but the few, a file system and /proc/sys that are read
 * only, and the host's sysctls of the network mounted elsewhere.
 */
const confined = `set -eu
mkdir -p "$MARGAY_SYSCTL_ROOT/net"
mount --bind "$MARGAY_RUN_DIR" "$MARGAY_RUN_DIR"
mount --bind /proc/sys/net "$MARGAY_SYSCTL_ROOT/net"
mount --bind /proc/sys /proc/sys
mount -o remount,bind,ro /proc/sys
mount -o remount,bind,ro /
exec setpriv --bounding-set=-all,+net_admin,+net_raw,+net_bind_service,+sys_admin --no-new-privs "$@"`;

function startAgents(more: Readonly<Record<string, string>> = {}): void {
  const contained = ['unshare', '--mount', '--propagation', 'slave', 'sh', '-c', confined, 'confined'];
  const program = [process.execPath, join(dist, 'margay.js'), 'node'];
  agents = spawn('nsenter', [`--net=${netnsPath(machine)}`, '--', ...contained, ...program], {
    env: { ...env, MARGAY_SYSCTL_ROOT: join(runDir, 'host/proc/sys'), ...more },
  });
  const collect = (chunk: Buffer) => {
    output = (output + String(chunk)).slice(-20_000);
  };
  agents.stdout?.on('data', collect);
  agents.stderr?.on('data', collect);
}

async function stopAgents(): Promise<void> {
  const child = agents;
  agents = undefined;
  if (child === undefined || child.exitCode !== null) return;
  const gone = once(child, 'exit');
  child.kill('SIGTERM');
  await gone;
}

async function status(): Promise<FelixStatus> {
  return (await ask(runDir, 'felix', '/v1/status')) as FelixStatus;
}

async function ready(): Promise<void> {
  await until(
    async () => {
      const { inSync, lastApply, datastore } = await status();
      return inSync && datastore.connected && lastApply !== undefined && existsSync(join(runDir, 'cni.sock'));
    },
    soon('the agents are ready', 40_000),
  ).catch((cause: unknown) => Promise.reject(new Error(`not ready: ${output.slice(-3000)}`, { cause })));
}

function margayctl(...args: string[]) {
  const command = [process.execPath, join(dist, 'margayctl.js'), ...args];
  return finish('nsenter', [`--net=${netnsPath(machine)}`, '--', ...command], { env });
}

/** A Pod as the scheduler leaves it, and the namespace that the runtime makes for it. */
async function pod(name: string, labels: Record<string, string> = {}, podCidr = false): Promise<CniCall> {
  await api.create('pods', {
    metadata: { name, namespace: 'shop', labels },
    spec: { nodeName: 'n1', serviceAccountName: 'default', containers: [{ name: 'c' }] },
  });
  const netns = `margay-${id}-${name}`;
  ip('netns', 'add', netns);
  podNamespaces.push(netns);
  return {
    conflist: defaultConflist({ cniVersion: '1.1.0', podCidr }),
    pluginDir: join(runDir, 'bin'),
    containerId: `${name}-1`,
    netns: netnsPath(netns),
    ifName: 'eth0',
    args: { K8S_POD_NAMESPACE: 'shop', K8S_POD_NAME: name, K8S_POD_INFRA_CONTAINER_ID: `${name}-1` },
  };
}

async function stored(name: string): Promise<TestObject> {
  return api.storage.get(api.resource('pods'), 'shop', name);
}

async function pings(from: CniCall, address: string): Promise<boolean> {
  const { code } = await finish('nsenter', [`--net=${from.netns}`, '--', 'ping', '-n', '-c', '1', '-W', '1', address]);
  return code === 0;
}

describe('one node on the Kubernetes API', () => {
  let client: CniCall;
  let server: CniCall;
  let address = '';

  test('start-up writes what Calico writes, where Calico writes it', async () => {
    await ready();
    const proc = `/proc/${agents?.pid}`;
    // NET_BIND_SERVICE, NET_ADMIN, NET_RAW and SYS_ADMIN.
    expect(readFileSync(`${proc}/status`, 'latin1')).toMatch(/^CapEff:\s*0000000000203400$/m);
    expect(readFileSync(`${proc}/mounts`, 'latin1')).toMatch(/ \/proc\/sys proc ro,/);
    const node = await api.storage.get(api.resource('nodes'), '', 'n1');
    expect(node.metadata.annotations?.['projectcalico.org/IPv4Address']).toBe(env.IP);
    const pool = await api.storage.get(api.resource('ippools.crd.projectcalico.org'), '', 'default-ipv4-ippool');
    expect(pool.spec).toMatchObject({ cidr: '10.77.0.0/16' });
    await until(() => ask(runDir, 'bgp', '/v1/peers'), soon('the speaker answers'));
    const spec = { node: 'n1', classes: ['Agent', 'BGP', 'Routes'], updatePeriodSeconds: 1 };
    const statuses = 'caliconodestatuses.crd.projectcalico.org';
    await api.create(statuses, { metadata: { name: 'n1' }, spec });
    const written = async () => (await api.storage.get(api.resource(statuses), '', 'n1')).status;
    const daemon = { state: 'Ready', routerID: '198.18.0.2' };
    await until(async () => {
      expect(await written()).toMatchObject({
        agent: { birdV4: daemon },
        bgp: { peersV4: [] },
        routes: { routesV6: [] },
      });
      return true;
    }, soon('the status of the node'));
  });

  test('ADD gives a pod its address, written to the Pod, and the pods reach each other', async () => {
    client = await pod('client', { app: 'client' });
    server = await pod('server', { app: 'server' });
    await addNetwork(client);
    const result = await addNetwork(server);
    address = result.ips?.[0]?.address.replace(/\/\d+$/, '') ?? '';
    expect((await stored('server')).metadata.annotations).toMatchObject({
      'cni.projectcalico.org/podIP': `${address}/32`,
      'cni.projectcalico.org/containerID': 'server-1',
    });
    const handle = api.resource('ipamhandles.crd.projectcalico.org');
    expect((await api.storage.get(handle, '', 'k8s-pod-network.server-1')).spec).toMatchObject({ deleted: false });
    expect(await pings(client, address)).toBe(true);
    const listed = await margayctl('get', 'pods', '-A');
    expect([listed.code, listed.stdout], listed.stderr).toEqual([0, expect.stringContaining(address)]);
  });

  test('ADD again gives the same answer', async () => {
    const again = await addNetwork(server);
    expect(again.ips?.[0]?.address).toBe(`${address}/32`);
    const mac = ip('-n', `margay-${id}-server`, '-o', 'link', 'show', 'eth0');
    expect(mac).toContain(again.interfaces?.find(({ name }) => name === 'eth0')?.mac);
  });

  test('a Kubernetes NetworkPolicy closes and opens the way, by labels of pods that the API alone knows', async () => {
    const policies = 'networkpolicies.networking.k8s.io';
    await api.create(policies, {
      metadata: { name: 'closed', namespace: 'shop' },
      spec: { podSelector: { matchLabels: { app: 'server' } }, policyTypes: ['Ingress'] },
    });
    await until(async () => !(await pings(client, address)), soon('the policy closes'));
    await api.change(
      policies,
      'closed',
      (found) => ({
        ...found,
        spec: { ...found.spec, ingress: [{ from: [{ podSelector: { matchLabels: { role: 'friend' } } }] }] },
      }),
      'shop',
    );
    await api.change(
      'pods',
      'client',
      (found) => ({ ...found, metadata: { ...found.metadata, labels: { ...found.metadata.labels, role: 'friend' } } }),
      'shop',
    );
    await until(() => pings(client, address), soon('the policy lets the friend in'));
  });

  test('the API server goes away and comes back: traffic goes on, and so does the node', async () => {
    await api.stop();
    await until(async () => !(await status()).datastore.connected, soon('felix knows'));
    expect(await pings(client, address)).toBe(true);
    await api.start();
    await until(async () => (await status()).datastore.connected, soon('felix is back'));
    const late = await pod('late', { role: 'friend' });
    await addNetwork(late);
    expect(await pings(late, address)).toBe(true);
    await delNetwork(late);
  });

  test('DEL empties the annotations and frees the address', async () => {
    await delNetwork(server);
    expect((await stored('server')).metadata.annotations).toMatchObject({
      'cni.projectcalico.org/podIP': '',
      'cni.projectcalico.org/podIPs': '',
    });
    await delNetwork(client);
    const handles = await api.storage.list(api.resource('ipamhandles.crd.projectcalico.org'), '');
    expect(handles.entries).toEqual([]);
    expect(await margayctl('get', 'pods', '-A')).toMatchObject({ code: 0 });
  });

  test('policy alone: addresses of the podCIDR, policy, and no block, pool, speaker or route of another node', async () => {
    await stopAgents();
    await api.storage.delete(api.resource('ippools.crd.projectcalico.org'), '', 'default-ipv4-ippool', {});
    await api.change('nodes', 'n1', (found) => ({
      ...found,
      spec: { podCIDR: '10.244.3.0/24', podCIDRs: ['10.244.3.0/24'] },
    }));
    startAgents({ ...policyOnly(), MARGAY_CNI_NETWORKS_DIR: join(runDir, 'networks') });
    await ready();
    const [one, other] = [await pod('one', { role: 'friend' }, true), await pod('other', { app: 'server' }, true)];
    expect((await addNetwork(one)).ips?.[0]?.address).toBe('10.244.3.2/32');
    expect((await addNetwork(other)).ips?.[0]?.address).toBe('10.244.3.3/32');
    expect(readFileSync(join(runDir, 'networks/k8s-pod-network/10.244.3.3'), 'latin1')).toBe('other-1\r\neth0');
    expect(await pings(one, '10.244.3.3')).toBe(true);
    expect(await pings(other, '10.244.3.2')).toBe(true);
    await api.change(
      'pods',
      'one',
      (found) => ({ ...found, metadata: { ...found.metadata, labels: { role: 'stranger' } } }),
      'shop',
    );
    await until(async () => !(await pings(one, '10.244.3.3')), soon('the policy closes'));
    expect((await api.storage.list(api.resource('ipamblocks.crd.projectcalico.org'), '')).entries).toHaveLength(1);
    const routes = ip('-n', machine, 'route', 'show', 'proto', '80').trim().split('\n');
    expect(routes.filter((route) => !/^10\.244\.3\.[23] dev cali/.test(route) && !route.includes('10.77.'))).toEqual(
      [],
    );
    await delNetwork(other);
    await delNetwork(one);
    expect(existsSync(join(runDir, 'networks/k8s-pod-network/10.244.3.3'))).toBe(false);
  });
});

/** The settings of the manifest that are about the network. */
function policyOnly(): Record<string, string> {
  const file = join(import.meta.dirname, '../../deploy/margay-policy-only.yaml');
  const objects = parseAllDocuments(readFileSync(file, 'utf8')).map((each) => each.toJS());
  const names = ['CALICO_NETWORKING_BACKEND', 'NO_DEFAULT_POOLS', 'USE_POD_CIDR', 'FELIX_DEFAULTENDPOINTTOHOSTACTION'];
  const { data } = objects.find(({ kind }) => kind === 'ConfigMap');
  return Object.fromEntries(names.map((name) => [name, data[name]]));
}
