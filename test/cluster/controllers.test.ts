import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { createLog } from '../../src/base/log.ts';
import { createEtcdKv, createEtcdStore } from '../../src/datastore/etcd.ts';
import { createKubernetesStore } from '../../src/datastore/kubernetes/store.ts';
import { KvLease } from '../../src/datastore/lease.ts';
import type { Store } from '../../src/datastore/store.ts';
import { build } from '../e2e/support.ts';
import { startControllers } from '../support/controllers.ts';
import { startEtcd } from '../support/etcd.ts';
import { ipamOf, poolValue } from '../support/ipam.ts';
import { until } from '../support/wait.ts';
import { askedBy, auditOptions, refusals } from './audit.ts';
import { ControlPlane } from './control-plane.ts';
import { applyDefinitions, type Installed, objectsOf } from './definitions.ts';
import type { Program } from './program.ts';
import { capabilities, Seat } from './seat.ts';

/* Two processes of `margay controllers` on a live API server, by the account and the roles of deploy/margay.yaml. */

const log = createLog('test', 'silent');
const folder = mkdtempSync(join(tmpdir(), 'margay-controllers-'));
const soon = (what: string, within = 60_000) => ({ within, what, every: 200 });
const { signal } = new AbortController();
const manifest = objectsOf('margay.yaml');
let cluster: ControlPlane;
let store: Store;
const seats: Seat[] = [];
const processes: Program[] = [];

const kubeconfigStore = (file: string, ownOnly = false) =>
  createKubernetesStore(
    { type: 'kubernetes', access: { by: 'kubeconfig', files: [file] }, interfacePrefix: 'cali' },
    log,
    { ownOnly },
  );

beforeAll(async () => {
  await build();
  cluster = await ControlPlane.start({ apiServerOptions: auditOptions(folder) });
  await applyDefinitions(cluster);
  await cluster.apply(...manifest, settings);
  for (const name of ['n1', 'n2']) await cluster.apply({ apiVersion: 'v1', kind: 'Node', metadata: { name } });
  store = kubeconfigStore(cluster.adminKubeconfig);
  await store.create({ type: 'IPPool', name: 'pods' }, poolValue('pods', '10.65.0.0/24', { blockSize: 28 }));
  const services = { blockSize: 30, allowedUses: ['LoadBalancer'] };
  await store.create({ type: 'IPPool', name: 'services' }, poolValue('services', '192.0.2.0/28', services));
  const { data } = manifest.find(({ kind }) => kind === 'ConfigMap') as Installed & { data: Record<string, string> };
  for (const at of [0, 1]) {
    const seat = await new Seat(cluster).start(`198.18.5.${6 + 4 * at}/30`);
    seats.push(seat);
    const account = await cluster.accountFolder('kube-system', 'margay-controllers');
    const env = { ...data, POD_NAMESPACE: 'kube-system' };
    processes.push(seat.program('controllers', { args: ['controllers'], account, holds: capabilities.none, env }));
  }
});

afterAll(async () => {
  for (const seat of seats) await seat.stop();
  store?.close();
  await cluster?.stop();
  rmSync(folder, { recursive: true, force: true });
});

const settings = {
  ...{ apiVersion: 'crd.projectcalico.org/v1', kind: 'KubeControllersConfiguration', metadata: { name: 'default' } },
  spec: {
    controllers: {
      node: { reconcilerPeriod: '1s', leakGracePeriod: '2s', hostEndpoint: { autoCreate: 'Enabled' } },
      loadBalancer: { assignIPs: 'AllServices' },
    },
  },
};

interface Lease {
  readonly spec: { readonly holderIdentity: string; readonly leaseTransitions?: number; readonly renewTime: string };
}

const lease = () => cluster.get<Lease>('-n', 'kube-system', 'lease', 'margay-controllers');

/** What a process says of itself by a metric. */
async function metric(at: number, name: string): Promise<number | undefined> {
  const script = `fetch('http://127.0.0.1:9094/metrics').then((r) => r.text()).then((t) => process.stdout.write(t))`;
  const { stdout = '' } = (await seats[at]?.run(process.execPath, '-e', script)) ?? {};
  const line = stdout.split('\n').find((each) => each.startsWith(`${name} `));
  return line === undefined ? undefined : Number(line.slice(name.length + 1));
}

const leads = async (at: number) => (await metric(at, 'margay_controllers_leader')) === 1;

async function addPod(name: string, node: string): Promise<void> {
  const request = { handle: `k8s-pod-network.c-${name}`, families: [4] as const };
  const [given] = await ipamOf(store, node).assign(
    { ...request, attributes: { namespace: 'default', pod: name, node } },
    signal,
  );
  if (!given) throw new Error('no address was given');
  const annotations = { 'cni.projectcalico.org/podIP': given.cidr, 'cni.projectcalico.org/podIPs': given.cidr };
  await cluster.apply({
    ...{ apiVersion: 'v1', kind: 'Pod', metadata: { name, annotations } },
    spec: { nodeName: node, containers: [{ name: 'c', image: 'none' }] },
  });
}

const removePod = (name: string) => cluster.run(['delete', 'pod', name, '--grace-period=0', '--force']);
const held = async () => (await store.list('Handle')).entries.map(({ key }) => key.id.replace(/^.*\.c-/, '')).sort();

test('one of two leads, by a Lease that the server takes, and frees what a departed node and lost pods left', async () => {
  for (const [name, node] of [
    ['live', 'n1'],
    ['lost', 'n1'],
    ['away', 'n2'],
  ] as const)
    await addPod(name, node);
  processes[0]?.start();
  await until(() => leads(0), soon('the first leads'));
  processes[1]?.start();
  await until(async () => (await metric(1, 'margay_controllers_leader')) === 0, soon('the second stands by'));
  expect((await lease())?.spec).toMatchObject({ leaseTransitions: 0, renewTime: expect.stringMatching(/\.\d{6}Z$/) });

  await removePod('away');
  await cluster.run(['delete', 'node', 'n2']);
  await until(async () => (await held()).join() === 'live,lost', soon('the address of n2 is freed'));
  const owners = async () => (await store.list('BlockAffinity')).entries.map(({ key }) => key.host);
  await until(async () => (await owners()).join() === 'n1', soon('the blocks of n2 are freed'));
  await removePod('lost');
  await until(async () => (await held()).join() === 'live', soon('the lost address is freed'));
});

test('host endpoints follow the nodes, and services get addresses by their status', async () => {
  const endpoints = async () => (await store.list('HostEndpoint')).entries.map(({ key }) => key.name);
  await cluster.run(['annotate', 'node', 'n1', 'projectcalico.org/IPv4Address=192.0.2.200/24']);
  await until(async () => (await endpoints()).join() === 'n1-auto-hep', soon('the host endpoint of n1'));
  await cluster.apply({
    ...{ apiVersion: 'v1', kind: 'Service', metadata: { name: 'web' } },
    spec: { type: 'LoadBalancer', selector: { app: 'web' }, ports: [{ port: 80 }] },
  });
  const address = async () =>
    (await cluster.run(['get', 'service', 'web', '-o', 'jsonpath={.status.loadBalancer.ingress[0].ip}'])).trim();
  await until(async () => /^192\.0\.2\.\d+$/.test(await address()), soon('the address of the service'));
  await cluster.run(['delete', 'service', 'web']);
  await until(async () => (await held()).join() === 'live', soon('the address is free again'));
});

test('the other takes over from a leader that was killed, and both live through a restart of the server', async () => {
  await addPod('late', 'n1');
  await processes[0]?.kill();
  await removePod('late');
  await until(() => leads(1), soon('the second leads'));
  await until(async () => (await held()).join() === 'live', soon('the second frees what is lost'));
  expect((await lease())?.spec.leaseTransitions).toBe(1);

  await cluster.apiServer.kill();
  await cluster.startApiServer();
  await cluster.compact();
  await addPod('later', 'n1');
  await removePod('later');
  await until(async () => (await held()).join() === 'live', soon('it goes on after the restart'));
  processes[0]?.start();
  await until(async () => (await metric(0, 'margay_controllers_leader')) === 0, soon('the first is back, and waits'));
});

test('nothing was forbidden to the controllers', () => {
  const asked = askedBy(folder, 'margay-controllers');
  expect(asked.length).toBeGreaterThan(100);
  expect(refusals(asked)).toEqual([]);
});

test('with etcd as the datastore they copy namespaces, accounts, policies and slices of the live server', async () => {
  await cluster.apply(...objectsOf('margay-etcd.yaml'), {
    ...{ apiVersion: 'networking.k8s.io/v1', kind: 'NetworkPolicy', metadata: { name: 'closed' } },
    spec: { podSelector: {}, policyTypes: ['Ingress'] },
  });
  const etcd = await startEtcd();
  const config = { type: 'etcdv3', endpoints: [etcd.endpoint] } as const;
  const [copy, held, candidate] = [
    createEtcdStore(config, log),
    createEtcdStore(config, log),
    createEtcdKv(config, log),
  ];
  const file = await cluster.accountKubeconfig('kube-system', 'margay-controllers');
  const own = kubeconfigStore(file, true);
  const lease = new KvLease(candidate, 'margay-controllers');
  const running = await startControllers({ store: held, cluster: own, lease, env: {}, identity: 'copying' });
  try {
    const names = async () => [
      ...(await copy.list('Profile')).entries.map(({ key }) => key.name),
      ...(await copy.list('NetworkPolicy')).entries.map(({ key }) => key.name),
      ...(await copy.list('EndpointSlice')).entries.map(({ key }) => key.name),
      ...(await copy.list('Service')).entries.map(({ key }) => key.name),
    ];
    const wanted = ['kns.default', 'ksa.kube-system.margay-node', 'knp.default.closed', 'kubernetes'];
    await until(async () => {
      expect(await names()).toEqual(expect.arrayContaining(wanted));
      return true;
    }, soon('the copies'));
    await cluster.run(['delete', 'networkpolicy', 'closed']);
    await until(async () => !(await names()).includes('knp.default.closed'), soon('the copy goes with the policy'));
  } finally {
    await running.stop();
    lease.close();
    own.close();
    held.close();
    copy.close();
    await etcd.stop();
  }
  expect(refusals(askedBy(folder, 'margay-controllers'))).toEqual([]);
});
