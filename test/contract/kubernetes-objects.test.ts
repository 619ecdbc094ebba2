import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { systemClock } from '../../src/base/clock.ts';
import { createLog } from '../../src/base/log.ts';
import { createKubernetesStore } from '../../src/datastore/kubernetes/store.ts';
import { keyText, type Store, StoreUnavailableError, type Value } from '../../src/datastore/store.ts';
import { releaseAffinity } from '../../src/ipam/affinity.ts';
import { parseCidr } from '../../src/model/address.ts';
import { ipamOf } from '../support/ipam.ts';
import { startCluster, type TestCluster } from '../support/kubernetes/cluster.ts';
import { Followers } from '../support/kubernetes/followers.ts';
import {
  calicoResources,
  custom,
  type TestObject,
  type TestResource,
  v3Resources,
} from '../support/kubernetes/objects.ts';
import { until } from '../support/wait.ts';

/* Which of Kubernetes' own objects are read, in which versions, and which of Calico's definitions are used. */

let cluster: TestCluster;
let store: Store;
const followers = new Followers();
beforeEach(async () => {
  cluster = await startCluster();
  store = cluster.open();
  await cluster.api.create('namespaces', { metadata: { name: 'shop', labels: { team: 'a' } } });
});
afterEach(async () => {
  followers.stop();
  await cluster.close();
});

const crd = (plural: string) => `${plural}.crd.projectcalico.org`;
const follow = (type: Parameters<Store['list']>[0], from: Store = store) => followers.follow(type, from);

const cidr = parseCidr('10.65.3.64/30');

describe('Kubernetes’ own objects', () => {
  test('are read as what stands for them, and not written', async () => {
    const { api } = cluster;
    await api.create('serviceaccounts', { metadata: { name: 'till', namespace: 'shop', labels: { role: 'x' } } });
    await api.create('networkpolicies.networking.k8s.io', {
      ...{ metadata: { name: 'web', namespace: 'shop' }, spec: { podSelector: {}, policyTypes: ['Ingress'] } },
    });
    await api.create('services', {
      ...{ metadata: { name: 'web', namespace: 'shop' }, spec: { type: 'ClusterIP', clusterIP: '10.96.0.1' } },
    });
    await api.create('endpointslices.discovery.k8s.io', {
      metadata: { name: 'web-1', namespace: 'shop', labels: { 'kubernetes.io/service-name': 'web' } },
      ...{
        addressType: 'IPv4',
        endpoints: [{ addresses: ['10.65.0.1'], nodeName: 'n-1', conditions: { ready: true } }],
      },
    });
    const profiles = (await store.list('Profile')).entries.map(({ key, value }) => [
      key.name,
      value.spec.labelsToApply,
    ]);
    expect(profiles).toContainEqual([
      'kns.shop',
      { 'pcns.team': 'a', 'pcns.kubernetes.io/metadata.name': 'shop', 'pcns.projectcalico.org/name': 'shop' },
    ]);
    expect(profiles).toContainEqual(['ksa.shop.till', { 'pcsa.role': 'x', 'pcsa.projectcalico.org/name': 'till' }]);
    const policy = { type: 'NetworkPolicy', namespace: 'shop', name: 'knp.default.web' } as const;
    expect((await store.get(policy))?.value.spec).toMatchObject({ tier: 'default', order: 1000, types: ['Ingress'] });
    expect((await store.list('Service')).entries[0]?.value.spec.clusterIPs).toEqual(['10.96.0.1']);
    expect((await store.list('EndpointSlice', { namespace: 'shop' })).entries[0]?.value.spec.service).toBe('web');
    expect((await store.list('EndpointSlice', { namespace: 'default' })).entries).toEqual([]);
    expect((await store.get({ type: 'Profile', name: 'ksa.shop.till' }))?.value.metadata.uid).toMatch(/-/);
    expect(await store.get({ type: 'Profile', name: 'odd' })).toBeUndefined();
    await expect(store.delete(policy)).rejects.toThrow(/kubectl/);
  });

  test('EndpointSlices of a server before 1.21 are read in the version that it has', async () => {
    const { api } = cluster;
    const id = 'endpointslices.discovery.k8s.io';
    api.resources.set(id, { ...api.resource(id), version: 'v1beta1' });
    const metadata = { namespace: 'shop', labels: { 'kubernetes.io/service-name': 'web' } };
    const endpoint = { addresses: ['10.65.0.1'], conditions: { ready: true } };
    const topology = { 'kubernetes.io/hostname': 'n-1', 'topology.kubernetes.io/zone': 'a' };
    const addressType = 'IPv4';
    await api.create(id, {
      metadata: { name: 'web-1', ...metadata },
      ...{ addressType, endpoints: [{ ...endpoint, topology }] },
    });
    await api.create(id, { metadata: { name: 'web-2', ...metadata }, addressType, endpoints: [null] });
    const { entries, invalid, revision } = await store.list('EndpointSlice');
    expect(entries.map(({ value }) => value.spec)).toMatchObject([
      { service: 'web', addressType, endpoints: [{ ...endpoint, nodeName: 'n-1' }] },
    ]);
    expect(invalid).toMatchObject([{ key: { name: 'web-2' } }]);
    const end = new AbortController();
    const seen = (async () => {
      for await (const [event] of store.watch(['EndpointSlice'], revision, end.signal)) if (event) return event;
      return undefined;
    })();
    await api.create(id, {
      metadata: { name: 'web-3', ...metadata },
      ...{ addressType, endpoints: [{ ...endpoint, nodeName: 'n-2' }] },
    });
    expect(await seen).toMatchObject({ entry: { value: { spec: { endpoints: [{ nodeName: 'n-2' }] } } } });
    end.abort();
    expect((await store.get({ type: 'EndpointSlice', namespace: 'shop', name: 'web-1' }))?.value.spec.service).toBe(
      'web',
    );
  });

  test('a cluster may lack the definitions that older releases of Calico lack', async () => {
    for (const plural of [
      'tiers',
      'stagednetworkpolicies',
      'stagedglobalnetworkpolicies',
      'stagedkubernetesnetworkpolicies',
    ])
      cluster.api.resources.delete(crd(plural));
    for (const type of [
      'Tier',
      'StagedNetworkPolicy',
      'StagedGlobalNetworkPolicy',
      'StagedKubernetesNetworkPolicy',
    ] as const)
      expect(await store.list(type)).toMatchObject({ entries: [], invalid: [] });
    cluster.api.resources.delete(crd('globalnetworkpolicies'));
    await expect(store.list('GlobalNetworkPolicy')).rejects.toThrow(StoreUnavailableError);
  });

  test('cluster policies of either version are listed and watched; a rule that cannot be understood is closed alone', async () => {
    for (const [version, kind, plural] of [
      ['v1alpha1', 'AdminNetworkPolicy', 'adminnetworkpolicies'],
      ['v1alpha1', 'BaselineAdminNetworkPolicy', 'baselineadminnetworkpolicies'],
      ['v1alpha2', 'ClusterNetworkPolicy', 'clusternetworkpolicies'],
    ] as const)
      cluster.api.resources.set(
        `${plural}.policy.networking.k8s.io`,
        custom('policy.networking.k8s.io', version, kind, plural),
      );
    const seen = await follow('GlobalNetworkPolicy');
    const make = (plural: string, name: string, spec: NonNullable<TestObject['spec']>) =>
      cluster.api.create(`${plural}.policy.networking.k8s.io`, { metadata: { name }, spec });
    const subject = { namespaces: {} };
    const from = [{ namespaces: {} }];
    await make('adminnetworkpolicies', 'a', { priority: 1, subject, ingress: [{ action: 'Pass', from }] });
    await make('baselineadminnetworkpolicies', 'default', { subject, egress: [{ action: 'Deny', to: from }] });
    await make('clusternetworkpolicies', 'c', {
      tier: 'Admin',
      priority: 2,
      subject,
      egress: [
        { action: 'Accept', to: [{ domainNames: ['a.b'] }] },
        { action: 'Accept', to: from },
        { action: 'Deny', to: [{ domainNames: ['a.b'] }] },
      ],
    });
    await make('clusternetworkpolicies', 'wrong', { tier: 'Admin', priority: 2000, subject: { pods: {} } });
    const { entries, invalid } = await store.list('GlobalNetworkPolicy');
    expect(entries.map(({ key, value: { spec } }) => [key.name, spec.tier, spec.order]).sort()).toEqual([
      ['kanp.a', 'kube-admin', 1],
      ['kbanp.default', 'kube-baseline', 1001],
      ['kcnp.c', 'kube-admin', 2],
    ]);
    expect(invalid.map(({ key }) => keyText(key))).toEqual(['GlobalNetworkPolicy/kcnp.wrong']);
    const closed = await store.get({ type: 'GlobalNetworkPolicy', name: 'kcnp.c' });
    expect(closed?.value.spec.egress?.map(({ action, destination }) => [action, destination !== undefined])).toEqual([
      ['Allow', true],
      ['Deny', false],
    ]);
    expect(closed?.value.metadata.annotations).toEqual({
      'margay.io/problems': expect.stringContaining('spec.egress[0].to[0].domainNames'),
    });
    await until(() => seen.length === 4, { within: 5000, what: 'the events of all four' });
    expect(seen.sort()).toEqual([
      'invalid GlobalNetworkPolicy/kcnp.wrong',
      'set GlobalNetworkPolicy/kanp.a',
      'set GlobalNetworkPolicy/kbanp.default',
      'set GlobalNetworkPolicy/kcnp.c',
    ]);
  });

  test('an API that is installed later is found, and its objects are listed', async () => {
    const found = cluster.open({ absentMs: 20 });
    const seen = await follow('GlobalNetworkPolicy', found);
    const resource = custom('policy.networking.k8s.io', 'v1alpha1', 'AdminNetworkPolicy', 'adminnetworkpolicies');
    cluster.api.resources.set('adminnetworkpolicies.policy.networking.k8s.io', resource);
    await until(() => seen.some((text) => text.includes('GoneError')), { within: 5000, what: 'the end of the watch' });
    await cluster.api.create('adminnetworkpolicies.policy.networking.k8s.io', {
      metadata: { name: 'a' },
      spec: { priority: 1, subject: { namespaces: {} }, ingress: [{ action: 'Deny', from: [{ namespaces: {} }] }] },
    });
    expect((await found.list('GlobalNetworkPolicy')).entries.map(({ key }) => key.name)).toEqual(['kanp.a']);
  });
});

describe('which definitions', () => {
  const pool = { type: 'IPPool', name: 'p' } as const;
  const value = { kind: 'IPPool', apiVersion: 'projectcalico.org/v3', metadata: { name: 'p' } } as const;

  async function groupOf(resources: readonly TestResource[], group?: 'projectcalico.org'): Promise<string | undefined> {
    const other = await startCluster({ resources });
    try {
      const config = { ...other.config, ...(group && { group }) };
      const opened = createKubernetesStore(config, createLog('test', 'silent'));
      try {
        await opened.create(pool, { ...value, spec: { cidr: '10.9.0.0/24' } } as Value<'IPPool'>);
        const posted = other.api.requests.find((line) => line.startsWith('POST'));
        return posted?.split('/')[2];
      } finally {
        opened.close();
      }
    } finally {
      await other.close();
    }
  }

  test('the native ones where they are alone, or are asked for; the storage form wherever it is', async () => {
    expect(await groupOf(v3Resources)).toBe('projectcalico.org');
    expect(await groupOf([...v3Resources, ...calicoResources])).toBe('crd.projectcalico.org');
    expect(await groupOf([...v3Resources, ...calicoResources], 'projectcalico.org')).toBe('projectcalico.org');
  });

  test('a server without any may be given them later; one that refuses to tell has the storage form', async () => {
    const other = await startCluster({ resources: [] });
    const late = other.open();
    try {
      await expect(late.list('IPPool')).rejects.toThrow(StoreUnavailableError);
      for (const each of v3Resources) other.api.resources.set(`${each.plural}.${each.group}`, each);
      expect((await late.list('IPPool')).entries).toEqual([]);
    } finally {
      await other.close();
    }
    const end = cluster.api.fault('GET /apis/crd.projectcalico.org/v1', { status: 403, reason: 'Forbidden' }, 1);
    expect((await cluster.open().list('IPPool')).entries).toEqual([]);
    end();
  });

  test('IPAM works on the native ones: settings, blocks, affinities found by label, deletion by a mark', async () => {
    const other = await startCluster({ resources: v3Resources });
    try {
      const opened = other.open();
      await opened.create(pool, { ...value, spec: { cidr: '10.9.0.0/28', blockSize: 30 } } as Value<'IPPool'>);
      await opened.create({ type: 'IpamConfig' }, { strict_affinity: true, auto_allocate_blocks: true });
      const ipam = ipamOf(opened, 'n1');
      const request = { handle: 'Net.One', families: [4] as const, attributes: {} };
      const [given] = await ipam.assign(request, new AbortController().signal);
      const settings = await opened.get({ type: 'IPAMConfiguration', name: 'default' });
      expect(settings?.value.spec).toMatchObject({ strictAffinity: true, autoAllocateBlocks: true });
      expect((await opened.list('BlockAffinity', { host: 'n1' })).entries).toHaveLength(1);
      expect((await opened.list('Handle')).entries.map(({ key }) => key.id)).toEqual(['Net.One']);
      await ipam.release({ handle: 'Net.One' });
      await releaseAffinity(
        { store: opened, clock: systemClock, log: createLog('test', 'silent') },
        'n1',
        given?.block ?? cidr,
      );
      for (const type of ['Block', 'BlockAffinity', 'Handle'] as const)
        expect((await opened.list(type)).entries, type).toEqual([]);
      expect(other.api.requests.filter((line) => line.includes('crd.projectcalico.org'))).toHaveLength(1);
    } finally {
      await other.close();
    }
  });
});
