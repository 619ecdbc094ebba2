import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { InputError } from '../../src/base/errors.ts';
import { keyText, type Store, StoreUnavailableError, type Value } from '../../src/datastore/store.ts';
import { parseCidr } from '../../src/model/address.ts';
import { startCluster, type TestCluster } from '../support/kubernetes/cluster.ts';
import { Followers } from '../support/kubernetes/followers.ts';
import type { TestObject } from '../support/kubernetes/objects.ts';
import { until } from '../support/wait.ts';

/* What lies where in the Kubernetes API, and how others' changes are seen. */

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

async function stored(id: string, name: string, namespace = ''): Promise<TestObject> {
  return cluster.api.storage.get(cluster.api.resource(id), namespace, name);
}

async function pod(
  name: string,
  more: { spec?: object; status?: object; annotations?: Record<string, string>; metadata?: object } = {},
) {
  const { annotations, spec, status, metadata } = more;
  return cluster.api.create('pods', {
    metadata: {
      ...{ name, namespace: 'shop', labels: { app: 'cart', 'pcns.x': 'y' }, ...(annotations && { annotations }) },
      ...metadata,
    },
    spec: { nodeName: 'n-1', serviceAccountName: 'till', containers: [{ name: 'c' }], ...spec },
    ...(status && { status: { ...status } }),
  });
}

const endpoint = (name: string) =>
  ({ type: 'WorkloadEndpoint', namespace: 'shop', name: `n--1-k8s-${name.replaceAll('-', '--')}-eth0` }) as const;

function endpointOf(name: string, ipNetworks: string[], containerID = 'c1'): Value<'WorkloadEndpoint'> {
  return {
    kind: 'WorkloadEndpoint',
    apiVersion: 'projectcalico.org/v3',
    metadata: { name: endpoint(name).name, namespace: 'shop' },
    spec: {
      ...{ orchestrator: 'k8s', node: 'n-1', pod: name, endpoint: 'eth0', containerID, profiles: [] },
      ...{ ipNetworks, interfaceName: 'cali0', mac: '02:00:00:00:00:01' },
    },
  };
}

describe('IPAM', () => {
  test('a block, its affinity, a handle and the settings as Calico has them', async () => {
    await store.create(
      { type: 'Block', cidr },
      {
        ...{
          cidr,
          affinity: 'host:n1',
          affinity_claim_time: '2026-03-02T10:11:12Z',
          allocations: [null, null, null, null],
        },
        ...{ unallocated: [0, 1, 2, 3], attributes: null, sequenceNumber: 1772446272000000001n },
        ...{ sequenceNumberForAllocation: {}, deleted: false },
      },
    );
    expect((await stored(crd('ipamblocks'), '10-65-3-64-30')).spec).toEqual({
      ...{
        cidr,
        affinity: 'host:n1',
        affinityClaimTime: '2026-03-02T10:11:12Z',
        allocations: [null, null, null, null],
      },
      ...{ unallocated: [0, 1, 2, 3], attributes: [], sequenceNumber: 1772446272000000001n },
      ...{ sequenceNumberForAllocation: {}, deleted: false, strictAffinity: false },
    });
    await store.create({ type: 'BlockAffinity', host: 'rack7-n3', cidr }, { state: 'pending', deleted: false });
    const affinity = await stored(crd('blockaffinities'), 'rack7-n3-10-65-3-64-30');
    expect(affinity.spec).toEqual({ state: 'pending', node: 'rack7-n3', type: 'host', cidr, deleted: 'false' });
    expect(affinity.metadata.labels).toEqual({
      'projectcalico.org/affinity-type': 'host',
      'projectcalico.org/ip-version': '4',
      'projectcalico.org/hostname-hash': '74G264FOU7KGOPSBXO5WDDHKTBOHJ35JJKQ7LRB5WECWK6BL3GSA',
    });
    await store.create({ type: 'Handle', id: 'Net.9C1f' }, { block: { [cidr]: 1 }, deleted: false });
    expect((await stored(crd('ipamhandles'), 'net.9c1f')).spec).toEqual({
      ...{ handleID: 'Net.9C1f', block: { [cidr]: 1 }, deleted: false },
    });
    expect((await store.list('Handle')).entries[0]?.key).toEqual({ type: 'Handle', id: 'Net.9C1f' });
    await store.create({ type: 'IpamConfig' }, { strict_affinity: true, maxBlocksPerHost: 4 });
    const spec = { strictAffinity: true, autoAllocateBlocks: false, maxBlocksPerHost: 4 };
    expect((await stored(crd('ipamconfigs'), 'default')).spec).toEqual(spec);
    expect((await store.get({ type: 'IpamConfig' }))?.value).toMatchObject({ strict_affinity: true });
    expect((await store.get({ type: 'IPAMConfiguration', name: 'default' }))?.value.spec).toMatchObject(spec);
  });

  test('a deletion that broke off counts as done, and the next reader or writer finishes it', async () => {
    const key = { type: 'Handle', id: 'net.a' } as const;
    const value = { block: {}, deleted: false };
    const mark = () =>
      cluster.api.change(crd('ipamhandles'), 'net.a', (found) => ({
        ...found,
        spec: { ...found.spec, deleted: true },
      }));
    await store.create(key, value);
    const seen = await follow('Handle');
    await mark();
    expect((await store.list('Handle')).entries).toEqual([]);
    await until(() => seen.includes('delete Handle/net.a'), { within: 5000, what: 'the deletion' });
    expect(await store.get(key)).toBeUndefined();
    await expect(stored(crd('ipamhandles'), 'net.a')).rejects.toThrow('not found');
    await store.create(key, value);
    await mark();
    expect((await store.create(key, value)).outcome).toBe('written');
    await mark();
    expect(await store.delete(key)).toEqual({ outcome: 'missing' });
  });

  test('a marked block that changed again is not removed', async () => {
    const key = { type: 'Handle', id: 'net.a' } as const;
    await store.create(key, { block: {}, deleted: false });
    const end = cluster.api.fault(/^DELETE/, { status: 500 });
    await expect(store.delete(key)).rejects.toThrow(StoreUnavailableError);
    end();
    const revived = await cluster.api.change(crd('ipamhandles'), 'net.a', (found) => ({
      ...found,
      spec: { ...found.spec, deleted: false },
    }));
    expect((await store.get(key))?.revision).toBe(revived.metadata.resourceVersion);
  });

  test('a node labels the affinities that an old version left it', async () => {
    const spec = { state: 'confirmed', node: 'n1', cidr, deleted: 'false' };
    await cluster.api.create(crd('blockaffinities'), { metadata: { name: 'n1-10-65-3-64-30' }, spec });
    const other = { ...spec, node: 'n2', cidr: '10.65.3.68/30' };
    await cluster.api.create(crd('blockaffinities'), { metadata: { name: 'n2-10-65-3-68-30' }, spec: other });
    expect((await store.list('BlockAffinity', { host: 'n1' })).entries.map(({ key }) => key.cidr)).toEqual([cidr]);
    const labelled = await stored(crd('blockaffinities'), 'n1-10-65-3-64-30');
    expect(labelled.metadata.labels?.['projectcalico.org/affinity-type']).toBe('host');
    expect((await stored(crd('blockaffinities'), 'n2-10-65-3-68-30')).metadata.labels).toBeUndefined();
  });
});

describe('nodes', () => {
  test('Calico’s data lies in annotations, written with the right to the status alone', async () => {
    await cluster.api.create('nodes', {
      metadata: { name: 'n-1', labels: { zone: 'a' }, annotations: { 'projectcalico.org/labels': '{"rack":"7"}' } },
      spec: { podCIDRs: ['10.0.0.0/24'] },
      status: {
        addresses: [
          { type: 'InternalIP', address: '192.0.2.7' },
          { type: 'Hostname', address: 'n-1' },
        ],
      },
    });
    const end = cluster.api.fault(/^(PUT|PATCH|POST) \/api\/v1\/nodes\/n-1($|\?)/, {
      status: 403,
      reason: 'Forbidden',
    });
    const read = await store.get({ type: 'Node', name: 'n-1' });
    if (!read) return expect.fail('no node');
    expect(read.value.metadata.labels).toEqual({ zone: 'a', rack: '7' });
    const bgp = { asNumber: 65001, ipv4Address: '192.0.2.7/24' };
    const spec = { ...read.value.spec, bgp, ipv4VXLANTunnelAddr: '10.65.0.1', addresses: [] };
    const metadata = { ...read.value.metadata, annotations: { 'margay.io/note': 'x' } };
    const done = await store.update(read.key, { ...read.value, metadata, spec }, read.revision);
    if (done.outcome !== 'written') return expect.fail(done.outcome);
    expect(done.entry.value.metadata.annotations).toEqual({ 'margay.io/note': 'x' });
    const { annotations } = (await stored('nodes', 'n-1')).metadata;
    expect(annotations).toEqual({
      'projectcalico.org/annotations': '{"margay.io/note":"x"}',
      'projectcalico.org/labels': '{"rack":"7"}',
      'projectcalico.org/IPv4Address': '192.0.2.7/24',
      'projectcalico.org/ASNumber': '65001',
      'projectcalico.org/IPv4VXLANTunnelAddr': '10.65.0.1',
    });
    expect(done.entry.value.spec).toMatchObject({
      bgp,
      addresses: [
        { address: '192.0.2.7/24', type: 'CalicoNodeIP' },
        { address: '192.0.2.7', type: 'InternalIP' },
      ],
    });
    const { ipv4VXLANTunnelAddr: _, ...without } = done.entry.value.spec;
    await store.update(read.key, { ...done.entry.value, spec: without }, done.entry.revision);
    expect((await stored('nodes', 'n-1')).metadata.annotations).not.toHaveProperty(
      'projectcalico.org/IPv4VXLANTunnelAddr',
    );
    end();
  });

  test('the kubelet’s reports wake nobody and cause no conflict; what matters does', async () => {
    await cluster.api.create('nodes', { metadata: { name: 'n-1' }, spec: {} });
    const seen = await follow('Node');
    const read = await store.get({ type: 'Node', name: 'n-1' });
    if (!read) return expect.fail('no node');
    const report = (at: number) =>
      cluster.api.change('nodes', 'n-1', (found) => ({ ...found, status: { conditions: [{ at }] } }));
    for (const at of [1, 2, 3]) await report(at);
    const value = { ...read.value, spec: { ...read.value.spec, ipv4VXLANTunnelAddr: '10.65.0.1' } };
    expect((await store.update(read.key, value, read.revision)).outcome).toBe('written');
    for (const at of [4, 5]) await report(at);
    expect(await store.update(read.key, read.value, read.revision)).toEqual({ outcome: 'conflict' });
    await cluster.api.create('nodes', { metadata: { name: 'n-2' }, spec: {} });
    await until(() => seen.includes('set Node/n-2'), { within: 5000, what: 'the second node' });
    expect(seen).toEqual(['set Node/n-1', 'set Node/n-1', 'set Node/n-2']);
  });

  test('nodes are Kubernetes’ to make and remove', async () => {
    const value = { kind: 'Node', apiVersion: 'projectcalico.org/v3', metadata: { name: 'x' }, spec: {} } as const;
    await expect(store.create({ type: 'Node', name: 'x' }, value)).rejects.toThrow(/a Node that Kubernetes has/);
    await expect(store.delete({ type: 'Node', name: 'x' })).rejects.toThrow(InputError);
  });
});

describe('endpoints', () => {
  test('a pod becomes an endpoint by its annotations, and ends as one when they are emptied', async () => {
    await pod('cart-7d9');
    const key = endpoint('cart-7d9');
    const seen = await follow('WorkloadEndpoint');
    expect(await store.get(key)).toBeUndefined();
    const made = await store.create(key, endpointOf('cart-7d9', ['10.65.3.64/32', 'fd00::1/128']));
    if (made.outcome !== 'written') return expect.fail(made.outcome);
    expect((await stored('pods', 'cart-7d9', 'shop')).metadata.annotations).toEqual({
      'cni.projectcalico.org/podIP': '10.65.3.64/32',
      'cni.projectcalico.org/podIPs': '10.65.3.64/32,fd00::1/128',
      'cni.projectcalico.org/containerID': 'c1',
      'cni.margay.io/mac': '02:00:00:00:00:01',
    });
    expect(made.entry.value).toMatchObject({
      metadata: {
        labels: {
          app: 'cart',
          'projectcalico.org/namespace': 'shop',
          'projectcalico.org/orchestrator': 'k8s',
          'projectcalico.org/serviceaccount': 'till',
        },
      },
      spec: {
        ...{ node: 'n-1', pod: 'cart-7d9', endpoint: 'eth0', containerID: 'c1', mac: '02:00:00:00:00:01' },
        ...{ profiles: ['kns.shop', 'ksa.shop.till'], interfaceName: 'cali6672f9163e3' },
        ipNetworks: ['10.65.3.64/32', 'fd00::1/128'],
      },
    });
    expect(made.entry.value.metadata.labels).not.toHaveProperty('pcns.x');
    expect(await store.create(key, endpointOf('cart-7d9', ['10.65.3.65/32']))).toEqual({ outcome: 'conflict' });
    await cluster.api.change(
      'pods',
      'cart-7d9',
      (found) => ({ ...found, status: { phase: 'Running', podIP: '10.65.3.64' } }),
      'shop',
    );
    expect(await store.delete(key, made.entry.revision), 'the kubelet’s report is no conflict').toEqual({
      outcome: 'written',
    });
    expect(await store.get(key)).toBeUndefined();
    expect((await stored('pods', 'cart-7d9', 'shop')).metadata.annotations).toMatchObject({
      'cni.projectcalico.org/podIP': '',
      'cni.projectcalico.org/containerID': 'c1',
    });
    expect(await store.delete(key)).toEqual({ outcome: 'missing' });
    await until(() => seen.length >= 2, { within: 5000, what: 'two events' });
    expect(seen).toEqual([`set ${keyText(key)}`, `delete ${keyText(key)}`]);
  });

  test('which pods are endpoints', async () => {
    const ip = { podIPs: [{ ip: '10.1.0.1' }], podIP: '10.1.0.1' };
    await pod('status-only', { status: { ...ip, phase: 'Running' } });
    await pod('host', { status: ip, spec: { hostNetwork: true } });
    await pod('unscheduled', { spec: { nodeName: '' } });
    await pod('finished', { status: { ...ip, phase: 'Succeeded' } });
    // Told to end, it runs until its grace period is over; what took the network down says that the address is free.
    const ending = { deletionTimestamp: '2026-01-01T00:00:00Z', deletionGracePeriodSeconds: 30 };
    await pod('ending', { metadata: ending, status: { ...ip, phase: 'Running' } });
    const released = { 'cni.projectcalico.org/podIP': '', 'cni.projectcalico.org/podIPs': '' };
    await pod('ended', { metadata: ending, annotations: released, status: { ...ip, phase: 'Running' } });
    await pod('no-address');
    await pod('hostile', { annotations: { 'cni.projectcalico.org/podIPs': '10.1.0.1/32,;rm -rf /' } });
    const { entries, invalid } = await store.list('WorkloadEndpoint');
    expect(entries.map(({ value }) => value.spec.pod).sort()).toEqual(['ending', 'status-only']);
    expect(entries[0]?.value.spec.ipNetworks).toEqual(['10.1.0.1/32']);
    expect(invalid.map(({ key }) => keyText(key))).toEqual([keyText(endpoint('hostile'))]);
  });

  test('an endpoint without its pod, or on another node, is refused by name', async () => {
    await expect(store.create(endpoint('gone'), endpointOf('gone', ['10.1.0.1/32']))).rejects.toThrow(
      /a Pod that Kubernetes has/,
    );
    await pod('host', { spec: { hostNetwork: true } });
    await expect(store.create(endpoint('host'), endpointOf('host', ['10.1.0.1/32']))).rejects.toThrow(InputError);
  });
});
