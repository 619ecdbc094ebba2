import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from 'vitest';
import { createLog } from '../../../src/base/log.ts';
import { createEtcdKv, createEtcdStore } from '../../../src/datastore/etcd.ts';
import { KvLease } from '../../../src/datastore/lease.ts';
import type { KeyOf, Store, Type } from '../../../src/datastore/store.ts';
import { hostCidr, parseIp } from '../../../src/model/address.ts';
import { parseResource } from '../../../src/model/kinds.ts';
import { type RunningControllers, startControllers } from '../../support/controllers.ts';
import { startEtcd, type TestEtcd } from '../../support/etcd.ts';
import { ipamOf, nodeValue, poolValue } from '../../support/ipam.ts';
import { startCluster, type TestCluster } from '../../support/kubernetes/cluster.ts';
import { until } from '../../support/wait.ts';

/* The controllers between a Kubernetes without Calico's definitions and a real etcd. */

const log = createLog('test', 'silent');
const soon = { within: 20_000, every: 50 };

let etcd: TestEtcd;
let cluster: TestCluster;
let store: Store;
let running: { stop(): Promise<void> }[];

beforeAll(async () => {
  etcd = await startEtcd();
});
afterAll(() => etcd.stop());

beforeEach(async () => {
  running = [];
  cluster = await startCluster({ resources: [] });
  store = createEtcdStore({ type: 'etcdv3', endpoints: [etcd.endpoint] }, log);
});
afterEach(async () => {
  await Promise.allSettled(running.map((each) => each.stop()));
  for (const type of [
    'WorkloadEndpoint',
    'Profile',
    'NetworkPolicy',
    'Node',
    'IPPool',
    'Block',
    'BlockAffinity',
    'Handle',
    'BGPPeer',
    'Service',
  ] as const)
    for (const { key } of (await store.list<Type>(type)).entries) await store.delete(key as KeyOf<Type>);
  store.close();
  await cluster.close();
});

async function start(identity: string, env: Readonly<Record<string, string>> = {}): Promise<RunningControllers> {
  const config = { type: 'etcdv3', endpoints: [etcd.endpoint] } as const;
  const lease = new KvLease(createEtcdKv(config, log), 'margay-controllers');
  const own = createEtcdStore(config, log);
  const made = await startControllers({
    ...{ store: own, cluster: cluster.open({ ownOnly: true }), lease, identity },
    env: { RECONCILER_PERIOD: '1s', ...env },
  });
  running.push({
    stop: () =>
      made.stop().finally(() => {
        lease.close();
        own.close();
      }),
  });
  return made;
}

const policy = (port: number) => ({
  metadata: { name: 'web', namespace: 'default' },
  spec: { podSelector: { matchLabels: { app: 'web' } }, policyTypes: ['Ingress'], ingress: [{ ports: [{ port }] }] },
});

async function profiles(): Promise<string[]> {
  return (await store.list('Profile')).entries.map(({ key }) => key.name).sort();
}

test('namespaces, accounts, policies and pods’ labels come to etcd, change and go', async () => {
  const { api } = cluster;
  await api.create('namespaces', { metadata: { name: 'shop', labels: { tier: 'front' } } });
  await api.create('serviceaccounts', { metadata: { name: 'till', namespace: 'shop' } });
  await api.create('networkpolicies.networking.k8s.io', policy(80));
  await store.create(
    { type: 'Profile', name: 'own' },
    parseResource('Profile', {
      kind: 'Profile',
      apiVersion: 'projectcalico.org/v3',
      metadata: { name: 'own' },
      spec: {},
    }),
  );
  await start('a');
  await until(async () => (await profiles()).join() === 'kns.default,kns.kube-system,kns.shop,ksa.shop.till,own', {
    ...soon,
    what: 'profiles',
  });
  const key = { type: 'NetworkPolicy', namespace: 'default', name: 'knp.default.web' } as const;
  const portsOf = async () =>
    (await store.get(key))?.value.spec.ingress?.flatMap(({ destination }) => destination?.ports ?? []);
  await until(async () => (await portsOf())?.join() === '80', { ...soon, what: 'the policy' });

  await api.change(
    'networkpolicies.networking.k8s.io',
    'web',
    (now) => ({ ...now, ...policy(443), metadata: now.metadata }),
    'default',
  );
  await until(async () => (await portsOf())?.join() === '443', { ...soon, what: 'the changed policy' });
  await store.delete({ type: 'Profile', name: 'kns.shop' });
  await until(async () => (await profiles()).includes('kns.shop'), { ...soon, what: 'a copy deleted by hand' });

  await api.storage.delete(api.resource('networkpolicies.networking.k8s.io'), 'default', 'web', {});
  await api.storage.delete(api.resource('serviceaccounts'), 'shop', 'till', {});
  await until(async () => (await store.get(key)) === undefined, { ...soon, what: 'the policy to go' });
  await until(async () => (await profiles()).join() === 'kns.default,kns.kube-system,kns.shop,own', {
    ...soon,
    what: 'the account to go',
  });
});

test('a pod’s labels and ports are there before its address is known to Kubernetes', async () => {
  const pod = {
    metadata: { name: 'web', namespace: 'default', labels: { app: 'web' } },
    spec: { nodeName: 'n1', containers: [{ ports: [{ name: 'http', containerPort: 8080 }] }] },
  };
  await cluster.api.create('pods', pod);
  await start('a');
  const key = { type: 'WorkloadEndpoint', namespace: 'default', name: 'n1-k8s-web-eth0' } as const;
  const spec = {
    ...{ orchestrator: 'k8s', node: 'n1', pod: 'web', endpoint: 'eth0', interfaceName: 'cali1', containerID: 'c1' },
    ...{ ipNetworks: [hostCidr(parseIp('10.65.0.5'))], profiles: ['kns.default'] },
  };
  const metadata = { name: key.name, namespace: 'default' };
  await store.create(
    key,
    parseResource('WorkloadEndpoint', { kind: key.type, apiVersion: 'projectcalico.org/v3', metadata, spec }),
  );
  const found = await until(
    async () => {
      const entry = await store.get(key);
      return entry?.value.metadata.labels?.['app'] === 'web' && entry.value;
    },
    { ...soon, what: 'labels' },
  );
  expect(found.metadata.labels).toMatchObject({ 'projectcalico.org/serviceaccount': 'default' });
  expect(found.spec).toMatchObject({ ...spec, profiles: ['kns.default', 'ksa.default.default'] });
  expect(found.spec.ports).toMatchObject([{ name: 'http', port: 8080 }]);
});

test('a node that Kubernetes no longer has leaves nothing behind; one that it never had stays', async () => {
  const { signal } = new AbortController();
  await store.create({ type: 'IPPool', name: 'p' }, poolValue('p', '10.65.0.0/24', { blockSize: 28 }));
  for (const name of ['n1', 'n2']) {
    await cluster.api.create('nodes', { metadata: { name, labels: { rack: name } }, spec: {} });
    await store.create(
      { type: 'Node', name },
      nodeValue(name, { orchRefs: [{ nodeName: name, orchestrator: 'k8s' }] }),
    );
  }
  await store.create({ type: 'Node', name: 'outside' }, nodeValue('outside'));
  const peer = { kind: 'BGPPeer', apiVersion: 'projectcalico.org/v3', metadata: { name: 'tor2' } };
  await store.create(
    { type: 'BGPPeer', name: 'tor2' },
    parseResource('BGPPeer', { ...peer, spec: { node: 'n2', peerIP: '192.0.2.1', asNumber: 64512 } }),
  );
  for (const node of ['n1', 'n2', 'outside']) {
    const attributes = { namespace: 'default', pod: `p-${node}` };
    const key = { type: 'WorkloadEndpoint', namespace: 'default', name: `${node}-k8s-p--${node}-eth0` } as const;
    const [given] = await ipamOf(store, node).assign({ handle: `net.${node}`, families: [4], attributes }, signal);
    if (given === undefined) throw new Error('no address was given');
    await cluster.api.create('pods', {
      metadata: { name: `p-${node}`, namespace: 'default' },
      spec: { nodeName: node },
    });
    const spec = {
      ...{ orchestrator: 'k8s', node, pod: `p-${node}`, endpoint: 'eth0', interfaceName: `cali${node}` },
      ipNetworks: [given.cidr],
    };
    const metadata = { name: key.name, namespace: 'default' };
    await store.create(
      key,
      parseResource('WorkloadEndpoint', { kind: key.type, apiVersion: 'projectcalico.org/v3', metadata, spec }),
    );
  }
  await start('a');
  const rackOf = async () => (await store.get({ type: 'Node', name: 'n2' }))?.value.metadata.labels?.['rack'];
  await until(async () => (await rackOf()) === 'n2', { ...soon, what: 'the labels of the node' });

  await cluster.api.storage.delete(cluster.api.resource('nodes'), '', 'n2', {});
  const hosts = async () =>
    (await store.list('BlockAffinity')).entries
      .map(({ key }) => key.host)
      .sort()
      .join();
  await until(async () => (await hosts()) === 'n1,outside', { ...soon, what: 'the blocks of n2 to be freed' });
  const names = async (type: 'Node' | 'WorkloadEndpoint' | 'BGPPeer') =>
    (await store.list(type)).entries.map(({ key }) => key.name).sort();
  expect(await names('Node')).toEqual(['n1', 'outside']);
  expect(await names('BGPPeer')).toEqual([]);
  expect(await names('WorkloadEndpoint')).toEqual(['n1-k8s-p--n1-eth0', 'outside-k8s-p--outside-eth0']);
  await until(async () => (await store.list('Handle')).entries.length === 2, { ...soon, what: 'the handle to go' });
});

test('an API that answers nothing, or refuses, takes nothing away', async () => {
  await cluster.api.create('namespaces', { metadata: { name: 'shop' } });
  const controllers = await start('a');
  await until(async () => (await profiles()).includes('kns.shop'), { ...soon, what: 'the profile' });
  const before = await profiles();
  await cluster.api.stop();
  await until(async () => (await controllers.probe('/readiness')) === 503, { ...soon, what: 'the loss to be told' });
  cluster.api.fault('namespaces', { status: 403, reason: 'Forbidden' });
  await cluster.api.restart();
  await until(() => cluster.api.requests.filter((line) => line.includes('namespaces?limit')).length > 2, {
    ...soon,
    what: 'lists',
  });
  expect(await profiles()).toEqual(before);
});
