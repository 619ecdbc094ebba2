import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { ask } from '../../src/cli/control.ts';
import { addNetwork, type CniCall, delNetwork } from '../../src/cni/client.ts';
import { build, dist, finish } from '../e2e/support.ts';
import { startEtcd } from '../support/etcd.ts';
import { until } from '../support/wait.ts';
import { askedBy, auditOptions, refusals } from './audit.ts';
import { ControlPlane } from './control-plane.ts';
import { applyDefinitions, type Installed, objectsOf } from './definitions.ts';
import { type Annotated, Pods, pings } from './pods.ts';
import type { Program } from './program.ts';
import { capabilities, Seat } from './seat.ts';

/*
 * The containers of deploy/margay.yaml as processes on a live API server, by the service accounts, roles and settings
 * that the manifest makes there: nothing that they need is forbidden to them.
 */

const folder = mkdtempSync(join(tmpdir(), 'margay-agents-'));
const soon = (what: string, within = 60_000) => ({ within, what, every: 100 });
const manifest = objectsOf('margay.yaml');
let cluster: ControlPlane;
let seat: Seat;
let account: string;
let felix: Program;
let bgp: Program;
let pods: Pods;

const settings = (): Record<string, string> => ({
  ...(manifest.find(({ kind }) => kind === 'ConfigMap') as Installed & { data: Record<string, string> }).data,
  ...{ NODENAME: 'n1', CALICO_K8S_NODE_REF: 'n1', CALICO_CNI_SERVICE_ACCOUNT: 'margay-cni-plugin' },
  CALICO_IPV4POOL_CIDR: '10.77.0.0/16',
});

beforeAll(async () => {
  await build();
  cluster = await ControlPlane.start({ apiServerOptions: auditOptions(folder) });
  await applyDefinitions(cluster);
  await cluster.apply(...manifest);
  for (const name of ['n1', 'n2']) await cluster.apply({ apiVersion: 'v1', kind: 'Node', metadata: { name } });
  await cluster.run(['create', 'namespace', 'shop']);
  await until(() => cluster.get('-n', 'shop', 'serviceaccount', 'default'), soon('the account of the namespace'));
  account = await cluster.accountFolder('kube-system', 'margay-node');
  seat = await new Seat(cluster).start('198.18.5.2/30');
  pods = new Pods(cluster, seat, 'shop');
  const more = { account, env: settings() };
  felix = seat.program('felix', { args: ['felix'], holds: capabilities.felix, ...more });
  bgp = seat.program('bgp', { args: ['bgp'], holds: capabilities.bgp, ...more });
});

afterAll(async () => {
  await seat?.stop();
  await pods?.remove();
  await cluster?.stop();
  rmSync(folder, { recursive: true, force: true });
});

/** One of the init containers, to its end. */
const once = (name: string, args: readonly string[]) =>
  seat.once(name, { args, account, holds: capabilities.none, env: settings() });

/** `margayctl`, by the administrator's kubeconfig. */
function margayctl(...args: string[]) {
  const env = { ...process.env, DATASTORE_TYPE: 'kubernetes', KUBECONFIG: cluster.adminKubeconfig };
  return finish(process.execPath, [join(dist, 'margayctl.js'), ...args], { env });
}

function onEtcd(endpoint: string, ...args: string[]) {
  const env = { ...process.env, DATASTORE_TYPE: 'etcdv3', ETCD_ENDPOINTS: endpoint };
  return finish(process.execPath, [join(dist, 'margayctl.js'), ...args], { env });
}

/** A pool that gives out nothing, in a file. */
function poolFile(): string {
  const pool = { apiVersion: 'projectcalico.org/v3', kind: 'IPPool', metadata: { name: 'more' } };
  const file = join(folder, 'pool.json');
  writeFileSync(file, JSON.stringify({ ...pool, spec: { cidr: '10.78.0.0/16', disabled: true } }));
  return file;
}

const policy = (spec: object) => ({
  ...{ apiVersion: 'networking.k8s.io/v1', kind: 'NetworkPolicy', metadata: { name: 'closed', namespace: 'shop' } },
  spec: { podSelector: { matchLabels: { app: 'server' } }, policyTypes: ['Ingress'], ...spec },
});

describe('the agents of deploy/margay.yaml on a live API server', () => {
  let client: CniCall;
  let server: CniCall;
  let address = '';

  test('the init containers write the node, the first pool, the plugin and its kubeconfig', async () => {
    await once('startup', ['startup']);
    const node = await cluster.get<Annotated>('node', 'n1');
    expect(node?.metadata.annotations, seat.output('startup')).toMatchObject({
      'projectcalico.org/IPv4Address': '198.18.5.2/30',
    });
    expect(await cluster.get('ippool.crd.projectcalico.org', 'default-ipv4-ippool')).toMatchObject({
      spec: { cidr: '10.77.0.0/16' },
    });
    const [binDir, confDir] = [join(seat.folder, 'bin'), join(seat.folder, 'conf')];
    const installed = await once('install-cni', ['cni', 'install', '--bin-dir', binDir, '--conf-dir', confDir]);
    expect(installed).not.toContain('not written');
    expect(existsSync(join(seat.folder, 'bin/margay'))).toBe(true);
    const kubeconfig = join(seat.folder, 'conf/calico-kubeconfig');
    const kubectl = (...args: string[]) => seat.run(cluster.program('kubectl'), '--kubeconfig', kubeconfig, ...args);
    expect((await kubectl('get', 'namespace', 'shop', '-o', 'name')).stdout).toBe('namespace/shop\n');
    expect((await kubectl('get', 'pods', '-A')).stderr).toContain('cannot list resource "pods"');
  });

  test('ADD gives pods addresses that the definitions let in, and the pods reach each other', async () => {
    felix.start();
    bgp.start();
    await seat.ready();
    client = await pods.add('client', { app: 'client' });
    server = await pods.add('server', { app: 'server' });
    await addNetwork(client);
    const { ips } = await addNetwork(server);
    address = ips?.[0]?.address.replace(/\/\d+$/, '') ?? '';
    expect(await pods.address('server')).toBe(`${address}/32`);
    expect(await cluster.get('ipamhandle.crd.projectcalico.org', 'k8s-pod-network.server-1')).toMatchObject({
      spec: { deleted: false, handleID: 'k8s-pod-network.server-1' },
    });
    expect(await pings(client, address)).toBe(true);
    await until(() => ask(seat.runDir, 'bgp', '/v1/peers'), soon('the speaker answers'));
  });

  test('a NetworkPolicy closes and opens the way by labels', async () => {
    await cluster.apply(policy({}));
    await until(async () => !(await pings(client, address)), soon('the policy closes'));
    await cluster.apply(policy({ ingress: [{ from: [{ podSelector: { matchLabels: { role: 'friend' } } }] }] }));
    await cluster.run(['-n', 'shop', 'label', 'pod', 'client', 'role=friend']);
    await until(() => pings(client, address), soon('the policy lets the friend in'));
  });

  test('margayctl sees and changes the same', async () => {
    const listed = await margayctl('get', 'pods', '-A');
    expect([listed.code, listed.stdout], listed.stderr).toEqual([0, expect.stringContaining(address)]);
    const env = [`MARGAY_RUN_DIR=${seat.runDir}`, process.execPath, join(dist, 'margayctl.js'), 'status'];
    const page = await seat.run('env', ...env);
    expect([page.code, page.stdout], page.stderr).toEqual([0, expect.stringContaining('n1')]);
    const check = await margayctl('ipam', 'check');
    expect([check.code, check.stderr], check.stdout).toEqual([0, '']);
    expect(await margayctl('apply', '-f', poolFile())).toMatchObject({ code: 0 });
    expect(await cluster.get('ippool.crd.projectcalico.org', 'more')).toMatchObject({ spec: { disabled: true } });
    const refused = await cluster.kubectl([
      'patch',
      'ippool.crd.projectcalico.org',
      'more',
      '--type=merge',
      '-p',
      '{"spec":{"blockSize":"big"}}',
    ]);
    expect(refused.stderr).toContain('spec.blockSize');
    const shown = await margayctl('ipam', 'show');
    expect([shown.code, shown.stdout], shown.stderr).toEqual([0, expect.stringContaining('10.77.')]);
    expect(await margayctl('delete', 'ippool', 'more')).toMatchObject({ code: 0 });
  });

  test('what is in the API moves to etcd, and back', async () => {
    const etcd = await startEtcd();
    try {
      expect(await margayctl('datastore', 'migrate', 'lock')).toMatchObject({ code: 0 });
      const exported = await margayctl('datastore', 'migrate', 'export');
      expect(exported.code, exported.stderr).toBe(0);
      const file = join(folder, 'exported.yaml');
      writeFileSync(file, exported.stdout);
      const imported = await onEtcd(etcd.endpoint, 'datastore', 'migrate', 'import', '-f', file);
      expect(imported.code, imported.stderr).toBe(0);
      const listed = await onEtcd(etcd.endpoint, 'get', 'pods', '-A');
      expect(listed.stdout, listed.stderr).toContain(address);
      const [here, there] = [await margayctl('ipam', 'show'), await onEtcd(etcd.endpoint, 'ipam', 'show')];
      expect(there.stdout).toBe(here.stdout);
      expect(await onEtcd(etcd.endpoint, 'apply', '-f', poolFile())).toMatchObject({ code: 0 });
      const back = await onEtcd(etcd.endpoint, 'datastore', 'migrate', 'export');
      expect(back.code, back.stderr).toBe(0);
      writeFileSync(file, back.stdout);
      const taken = await margayctl('datastore', 'migrate', 'import', '-f', file);
      expect(taken.code, taken.stderr).toBe(0);
      expect(await cluster.get('ippool.crd.projectcalico.org', 'more')).toMatchObject({ spec: { disabled: true } });
      const compared = await margayctl('datastore', 'migrate', 'check', '-f', file);
      expect(compared.code, compared.stdout + compared.stderr).toBe(0);
      expect(await margayctl('delete', 'ippool', 'more')).toMatchObject({ code: 0 });
    } finally {
      await margayctl('datastore', 'migrate', 'unlock');
      await etcd.stop();
    }
  });

  test('the API server is killed, refuses, and has lost its history: traffic goes on, and what changed is known', async () => {
    await cluster.run(['delete', 'clusterrolebinding', 'margay-node']);
    await cluster.apiServer.kill();
    await until(async () => !(await seat.status()).datastore.connected, soon('felix knows'));
    expect(await pings(client, address)).toBe(true);
    await expect(addNetwork({ ...client, containerId: 'client-2' })).rejects.toMatchObject({ code: 11 });
    await cluster.startApiServer();
    const refused = () => askedBy(folder, 'margay-node').filter(({ responseStatus }) => responseStatus?.code === 403);
    await until(() => refused().length > 10, soon('the server refuses'));
    expect((await seat.status()).datastore.connected).toBe(false);
    expect(await pings(client, address)).toBe(true);
    await cluster.apply(...manifest);
    await cluster.run(['-n', 'shop', 'label', 'pod', 'client', 'role-', '--overwrite']);
    await cluster.compact();
    await until(async () => (await seat.status()).datastore.connected, soon('felix is back'));
    await until(async () => !(await pings(client, address)), soon('the friend is none any more'));
    await cluster.run(['-n', 'shop', 'label', 'pod', 'client', 'role=friend']);
    await until(() => pings(client, address), soon('and is one again'));
  });

  test('a token that is no longer taken is read again once it is replaced', async () => {
    await cluster.run(['-n', 'kube-system', 'delete', 'serviceaccount', 'margay-node']);
    await cluster.apply(...manifest);
    await until(() => cluster.get('-n', 'kube-system', 'serviceaccount', 'margay-node'), soon('the account'));
    const fresh = await cluster.token('kube-system', 'margay-node');
    writeFileSync(join(account, 'token'), fresh);
    const late = await pods.add('late', { role: 'friend' });
    await until(() => addNetwork(late), soon('ADD with the new token'));
    await until(() => pings(late, address), soon('the policy knows the late one'));
    await delNetwork(late);
    expect(await pods.address('late')).toBe('');
  });

  test('DEL frees what ADD took, and a namespace goes with all that is in it', async () => {
    await delNetwork(client);
    await delNetwork(server);
    expect(await cluster.get('ipamhandles.crd.projectcalico.org')).toBeUndefined();
    expect((await margayctl('ipam', 'check')).code).toBe(0);
    const file = join(folder, 'own.json');
    const metadata = { name: 'own', namespace: 'shop' };
    const spec = { selector: 'all()', ingress: [{ action: 'Allow' }] };
    writeFileSync(file, JSON.stringify({ apiVersion: 'projectcalico.org/v3', kind: 'NetworkPolicy', metadata, spec }));
    expect(await margayctl('apply', '-f', file)).toMatchObject({ code: 0 });
    await cluster.run(['-n', 'shop', 'delete', 'pods', '--all', '--grace-period=0', '--force']);
    await cluster.run(['delete', 'namespace', 'shop', '--timeout=60s']);
    const policies = await margayctl('get', 'networkpolicies', '-A');
    expect([policies.code, policies.stdout], policies.stderr).toEqual([0, expect.not.stringContaining('own')]);
    expect((await margayctl('get', 'profiles')).stdout).not.toContain('kns.shop');
  });

  test('nothing was forbidden to the agents', () => {
    const asked = askedBy(folder, 'margay-node');
    expect(asked.length).toBeGreaterThan(100);
    expect(refusals(asked)).toEqual([]);
  });
});
