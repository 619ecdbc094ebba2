import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { parseAllDocuments } from 'yaml';
import { createLog } from '../../../src/base/log.ts';
import { createEtcdKv, createEtcdStore } from '../../../src/datastore/etcd.ts';
import { createKubernetesLease } from '../../../src/datastore/kubernetes/lease.ts';
import { KvLease } from '../../../src/datastore/lease.ts';
import type { KeyOf, Store, Type } from '../../../src/datastore/store.ts';
import { heldIn } from '../../../src/ipam/audit-index.ts';
import { loadBalancer } from '../../../src/model/ipam.ts';
import { parseResource } from '../../../src/model/kinds.ts';
import { apiVersion } from '../../../src/model/resource.ts';
import { startControllers } from '../../support/controllers.ts';
import { startEtcd, type TestEtcd } from '../../support/etcd.ts';
import { poolValue } from '../../support/ipam.ts';
import { startCluster, type TestCluster } from '../../support/kubernetes/cluster.ts';
import type { TestObject } from '../../support/kubernetes/objects.ts';
import { until } from '../../support/wait.ts';

/* Addresses of services of type LoadBalancer, in both datastores, by the rights that the manifests give. */

const log = createLog('test', 'silent');
const soon = { within: 20_000, every: 50 };

let etcd: TestEtcd;
let cluster: TestCluster;
let store: Store;
let closing: (() => unknown)[];

beforeAll(async () => {
  etcd = await startEtcd();
});
afterAll(() => etcd.stop());
afterEach(async () => {
  for (const close of closing.reverse()) await close();
});

async function begin(kind: 'kubernetes' | 'etcd'): Promise<void> {
  closing = [];
  cluster = await startCluster(kind === 'etcd' ? { resources: [] } : {});
  closing.push(() => cluster.close());
  const config = { type: 'etcdv3', endpoints: [etcd.endpoint] } as const;
  store = kind === 'etcd' ? createEtcdStore(config, log) : cluster.open();
  if (kind === 'etcd') closing.push(clear);
  await pool('services', '192.0.2.0/28', { blockSize: 30 });
  await pool('asked', '198.51.100.0/30', { blockSize: 31, assignmentMode: 'Manual' });
  await pool('six', '2001:db8::/124', { blockSize: 126 });
  const namespaceSelector = "team == 'bank' && projectcalico.org/name == 'bank'";
  await pool('bank', '203.0.113.0/30', { blockSize: 31, namespaceSelector });
  await store.create({ type: 'IPPool', name: 'pods' }, poolValue('pods', '10.65.0.0/24', { blockSize: 28 }));
  // From here on by the rights of the controllers.
  const lease =
    kind === 'etcd'
      ? new KvLease(createEtcdKv(config, log), 'margay-controllers')
      : createKubernetesLease(cluster.config, { namespace: 'kube-system', name: 'margay-controllers' }, log);
  cluster.api.rules = rulesOf(kind === 'etcd' ? 'margay-etcd.yaml' : 'margay.yaml');
  const running = await startControllers({
    ...{ store, lease, identity: 'one', env: { RECONCILER_PERIOD: '1s' } },
    ...(kind === 'etcd' && { cluster: cluster.open({ ownOnly: true }) }),
  });
  closing.push(() => running.stop().finally(() => lease.close()));
}

async function clear(): Promise<void> {
  for (const scope of [{}, { host: loadBalancer }])
    for (const type of ['IPPool', 'Block', 'BlockAffinity', 'Handle', 'Service', 'Profile'] as const)
      for (const { key } of (await store.list<Type>(type, scope)).entries) await store.delete(key as KeyOf<Type>);
  store.close();
}

async function pool(name: string, cidr: string, more: object): Promise<void> {
  const spec = { cidr, allowedUses: ['LoadBalancer'], ...more };
  const value = parseResource('IPPool', { kind: 'IPPool', apiVersion, metadata: { name }, spec });
  await store.create({ type: 'IPPool', name }, value);
}

async function addService(
  name: string,
  annotations: Readonly<Record<string, string>> = {},
  spec: object = {},
  namespace = 'default',
) {
  const named = Object.entries(annotations).map(([key, text]) => [`projectcalico.org/${key}`, text]);
  await cluster.api.create('services', {
    metadata: { name, namespace, annotations: Object.fromEntries(named) },
    spec: { type: 'LoadBalancer', clusterIPs: ['10.96.0.9'], ports: [{ port: 80 }], ...spec },
  });
}

async function change(name: string, patch: (found: TestObject) => TestObject): Promise<void> {
  await cluster.api.change('services', name, patch, 'default');
}

async function remove(name: string): Promise<void> {
  await cluster.api.storage.delete(cluster.api.resource('services'), 'default', name, {});
}

/** The rights of the controllers that a manifest gives. */
function rulesOf(file: string) {
  const text = readFileSync(join(import.meta.dirname, '../../../deploy', file), 'utf8');
  const objects = parseAllDocuments(text).map((each) => each.toJS());
  const roles = objects.filter(({ kind, metadata }) => kind.endsWith('Role') && metadata.name === 'margay-controllers');
  return roles.flatMap((role) => role.rules);
}

async function ingressOf(name: string, namespace = 'default'): Promise<string[]> {
  const { status = {} } = await cluster.api.storage.get(cluster.api.resource('services'), namespace, name);
  const { loadBalancer: told } = status as { loadBalancer?: { ingress?: { ip: string }[] } };
  return (told?.ingress ?? []).map(({ ip }) => ip);
}

/** Addresses that are held, with their services. */
async function held(): Promise<string[]> {
  const blocks = (await store.list('Block')).entries.map(({ value }) => value);
  return blocks
    .flatMap(heldIn)
    .map(({ attributes: { service, type, node } }) => `${service} ${type}${node === undefined ? '' : ' on a node'}`)
    .sort();
}

describe.each(['kubernetes', 'etcd'] as const)('%s', (kind) => {
  beforeEach(() => begin(kind));

  test('services get addresses, keep them, and give them back', async () => {
    await addService('web');
    await addService('both', {}, { clusterIPs: ['10.96.0.10', 'fd00::10'] });
    await addService('plain', {}, { type: 'ClusterIP' });
    await addService('other', {}, { loadBalancerClass: 'else' });
    await until(async () => (await ingressOf('both')).length === 2, { ...soon, what: 'two addresses' });
    await until(async () => (await ingressOf('web')).length === 1, { ...soon, what: 'an address' });
    const [web = ''] = await ingressOf('web');
    expect([web, ...(await ingressOf('both'))]).toEqual([
      ...[
        expect.stringMatching(/^192\.0\.2\./),
        expect.stringMatching(/^192\.0\.2\./),
        expect.stringMatching(/^2001:/),
      ],
    ]);
    expect(await held()).toEqual(['both LoadBalancer', 'both LoadBalancer', 'web LoadBalancer']);
    const affinities = (await store.list('BlockAffinity', { host: loadBalancer })).entries;
    expect(affinities.map(({ key, value }) => [key.host, value.state])).toEqual([
      [loadBalancer, 'confirmed'],
      [loadBalancer, 'confirmed'],
    ]);
    expect((await store.list('BlockAffinity')).entries).toEqual([]);
    expect((await store.list('Block')).entries.map(({ value }) => value.affinity)).toEqual([
      loadBalancer,
      loadBalancer,
    ]);

    await change('web', (found) => ({ ...found, spec: { ...found.spec, type: 'ClusterIP' } }));
    await until(async () => (await ingressOf('web')).length === 0, { ...soon, what: 'an empty status' });
    await remove('both');
    await until(async () => (await held()).length === 0, { ...soon, what: 'free addresses' });
    // On the Kubernetes API the handle goes after what it held.
    await until(async () => (await store.list('Handle')).entries.length === 0, { ...soon, what: 'no handle' });
    expect([await ingressOf('plain'), await ingressOf('other')]).toEqual([[], []]);
  });

  test('addresses and pools that are asked for, by annotations that change; a full pool waits for room', async () => {
    await addService('web', { loadBalancerIPs: '["192.0.2.9"]' });
    await until(async () => (await ingressOf('web'))[0] === '192.0.2.9', { ...soon, what: 'the address' });
    await addService('rival', { loadBalancerIPs: '["192.0.2.9"]' });
    for (let index = 0; index < 5; index++) await addService(`a${index}`, { ipv4pools: '["asked"]' });
    const asked = async () => (await Promise.all([0, 1, 2, 3, 4].map((at) => ingressOf(`a${at}`)))).flat().sort();
    await until(async () => (await asked()).length === 4, { ...soon, what: 'a full pool' });
    expect(await asked()).toEqual([0, 1, 2, 3].map((last) => `198.51.100.${last}`));
    expect(await ingressOf('rival')).toEqual([]);
    await change('web', (found) => ({
      ...found,
      metadata: { ...found.metadata, annotations: { 'projectcalico.org/loadBalancerIPs': '["192.0.2.10"]' } },
    }));
    await until(async () => (await ingressOf('web'))[0] === '192.0.2.10', { ...soon, what: 'another address' });
    await until(async () => (await ingressOf('rival'))[0] === '192.0.2.9', { ...soon, what: 'what was freed' });
    await remove('a0');
    await remove('a1');
    await until(async () => (await ingressOf('a4')).length === 1, { ...soon, what: 'room for the last' });
    await until(async () => (await held()).length === 5, { ...soon, what: 'five addresses held' });
  });

  test('a pool that selects namespaces is for the services in these', async () => {
    await cluster.api.create('namespaces', { metadata: { name: 'bank', labels: { team: 'bank' } } });
    await addService('inside', {}, {}, 'bank');
    await addService('outside');
    await until(async () => (await ingressOf('inside', 'bank')).length === 1, { ...soon, what: 'an address inside' });
    await until(async () => (await ingressOf('outside')).length === 1, { ...soon, what: 'an address outside' });
    expect(await ingressOf('inside', 'bank')).toEqual([expect.stringMatching(/^203\.0\.113\./)]);
    expect(await ingressOf('outside')).toEqual([expect.stringMatching(/^192\.0\.2\./)]);
  });
});
