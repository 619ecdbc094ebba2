import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { parseAllDocuments } from 'yaml';
import { createLog } from '../../../src/base/log.ts';
import { createKubernetesLease } from '../../../src/datastore/kubernetes/lease.ts';
import type { Store } from '../../../src/datastore/store.ts';
import type { Ip } from '../../../src/model/address.ts';
import { parseResource } from '../../../src/model/kinds.ts';
import { type RunningControllers, startControllers } from '../../support/controllers.ts';
import { ipamOf, poolValue } from '../../support/ipam.ts';
import { startCluster, type TestCluster } from '../../support/kubernetes/cluster.ts';
import { until } from '../../support/wait.ts';

/* The controllers on the Kubernetes API, by the rights that the manifest gives them. */

const log = createLog('test', 'silent');
const soon = { within: 20_000, every: 50 };
const { signal } = new AbortController();

let cluster: TestCluster;
let store: Store;
let running: RunningControllers[];

beforeEach(async () => {
  running = [];
  cluster = await startCluster();
  store = cluster.open();
  await store.create({ type: 'IPPool', name: 'p' }, poolValue('p', '10.65.0.0/24', { blockSize: 28 }));
  await configure({ reconcilerPeriod: '1s', leakGracePeriod: '2s' });
  for (const name of ['n1', 'n2']) await addNode(name);
});
afterEach(async () => {
  await Promise.allSettled(running.map((each) => each.stop()));
  await cluster.close();
});

async function addNode(name: string): Promise<void> {
  const annotations = { 'projectcalico.org/IPv4Address': `192.0.2.${name.slice(1)}/24` };
  await cluster.api.create('nodes', { metadata: { name, annotations, labels: { rack: name } }, spec: {} });
}

async function configure(node: object): Promise<void> {
  const key = { type: 'KubeControllersConfiguration', name: 'default' } as const;
  const value = parseResource('KubeControllersConfiguration', {
    ...{ kind: key.type, apiVersion: 'projectcalico.org/v3', metadata: { name: key.name } },
    spec: { controllers: { node } },
  });
  const found = await store.get(key);
  if (found) await store.update(key, value, found.revision);
  else await store.create(key, value);
}

/** A pod with an address, as the plugin leaves it. */
async function addPod(name: string, node: string): Promise<Ip> {
  const request = {
    handle: `k8s-pod-network.c-${name}`,
    families: [4] as const,
    attributes: { namespace: 'default', pod: name },
  };
  const [given] = await ipamOf(store, node).assign(request, signal);
  if (!given) throw new Error('no address was given');
  const annotations = { 'cni.projectcalico.org/podIP': given.cidr, 'cni.projectcalico.org/podIPs': given.cidr };
  const metadata = { name, namespace: 'default', annotations };
  await cluster.api.create('pods', { metadata, spec: { nodeName: node, containers: [] } });
  return given.address;
}

async function removePod(name: string): Promise<void> {
  await cluster.api.storage.delete(cluster.api.resource('pods'), 'default', name, {});
}

async function start(identity: string): Promise<RunningControllers> {
  const text = readFileSync(join(import.meta.dirname, '../../../deploy/margay.yaml'), 'utf8');
  const objects = parseAllDocuments(text).map((each) => each.toJS());
  const rules = objects.filter(({ kind, metadata }) => kind.endsWith('Role') && metadata.name === 'margay-controllers');
  cluster.api.rules = rules.flatMap((role) => role.rules);
  const lease = createKubernetesLease(cluster.config, { namespace: 'kube-system', name: 'margay-controllers' }, log);
  const made = await startControllers({ store: cluster.open(), lease, env: {}, identity });
  running.push({ ...made, stop: () => made.stop().finally(() => lease.close()) });
  return made;
}

/** Addresses that are held, and of whom blocks are, as the tests' own client sees it with all rights. */
async function state(): Promise<{ held: number; owners: string[]; handles: string[] }> {
  const { api } = cluster;
  const { rules } = api;
  api.rules = undefined;
  try {
    const blocks = (await store.list('Block')).entries.map(({ value }) => value);
    return {
      held: blocks.flatMap(({ allocations }) => allocations.filter((each) => each !== null)).length,
      owners: (await store.list('BlockAffinity')).entries.map(({ key }) => key.host).sort(),
      handles: (await store.list('Handle')).entries.map(({ key }) => key.id.replace('k8s-pod-network.', '')).sort(),
    };
  } finally {
    api.rules = rules;
  }
}

async function hostEndpoints(): Promise<string[]> {
  const { entries } = await cluster.api.storage.list(cluster.api.resource('hostendpoints.crd.projectcalico.org'), '');
  return entries.map(({ object }) => object.metadata.name).sort();
}

test('what a departed node and lost pods left is freed, and nothing that lives', async () => {
  await addPod('live', 'n1');
  await addPod('lost', 'n1');
  await addPod('away', 'n2');
  const controllers = await start('a');
  await until(async () => (await controllers.metric('ipam_allocations_per_node{node="n1"}')) === 2, {
    ...soon,
    what: 'an audit',
  });
  expect(await controllers.probe('/readiness')).toBe(200);
  expect(await controllers.probe('/liveness')).toBe(200);

  await removePod('away');
  await cluster.api.storage.delete(cluster.api.resource('nodes'), '', 'n2', {});
  await until(async () => (await state()).held === 2, { ...soon, what: 'the addresses of n2 to be freed' });
  await until(async () => (await state()).owners.join() === 'n1', { ...soon, what: 'the blocks of n2 to be freed' });

  await removePod('lost');
  await until(async () => (await state()).held === 1, { ...soon, what: 'the lost address to be freed' });
  expect(await state()).toEqual({ held: 1, owners: ['n1'], handles: ['c-live'] });
  expect(await controllers.metric('ipam_allocations_gc_reclamations{node="n1"}')).toBe(1);
  expect(await controllers.metric('margay_controllers_leader')).toBe(1);
});

test('a node that is deleted and made again under its name keeps what its new pods have, and loses what the old had', async () => {
  await configure({ reconcilerPeriod: '1s', leakGracePeriod: '1s' });
  await addPod('old', 'n2');
  await addPod('elsewhere', 'n1');
  const controllers = await start('a');
  await until(async () => (await controllers.metric('ipam_allocations_per_node{node="n2"}')) === 1, {
    ...soon,
    what: 'an audit',
  });
  await removePod('old');
  await cluster.api.storage.delete(cluster.api.resource('nodes'), '', 'n2', {});
  await addNode('n2');
  const fresh = await addPod('fresh', 'n2');
  await until(async () => (await state()).handles.join() === 'c-elsewhere,c-fresh', {
    ...soon,
    what: 'the old address to be freed',
  });
  expect(await ipamOf(store, 'n2').byHandle('k8s-pod-network.c-fresh')).toMatchObject([{ address: fresh }]);
  expect((await state()).held).toBe(2);
});

test('nothing is freed where the grace period is none', async () => {
  await configure({ reconcilerPeriod: '1s', leakGracePeriod: '0s' });
  await addPod('lost', 'n1');
  await removePod('lost');
  const controllers = await start('a');
  const found = 'margay_ipam_findings{problem="leak"}';
  await until(async () => (await controllers.metric(found)) === 1, { ...soon, what: 'the leak to be found' });
  expect(await state()).toMatchObject({ held: 1 });
});

test('host endpoints come and go with the setting and the nodes, and another process goes on', async () => {
  const first = await start('a');
  await configureWithAllRights({ hostEndpoint: { autoCreate: 'Enabled' } });
  await until(async () => (await hostEndpoints()).join() === 'n1-auto-hep,n2-auto-hep', {
    ...soon,
    what: 'host endpoints',
  });
  const second = await start('b');
  await first.stop();
  await cluster.api.storage.delete(cluster.api.resource('nodes'), '', 'n2', {});
  await until(async () => (await hostEndpoints()).join() === 'n1-auto-hep', {
    ...soon,
    what: 'one to go with its node',
  });
  expect(await second.metric('margay_controllers_leader')).toBe(1);
  await configureWithAllRights({ hostEndpoint: { autoCreate: 'Disabled' } });
  await until(async () => (await hostEndpoints()).length === 0, { ...soon, what: 'host endpoints to go' });
});

async function configureWithAllRights(node: object): Promise<void> {
  const { rules } = cluster.api;
  cluster.api.rules = undefined;
  await configure(node).finally(() => {
    cluster.api.rules = rules;
  });
}
