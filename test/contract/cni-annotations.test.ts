import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { systemClock } from '../../src/base/clock.ts';
import { createLog } from '../../src/base/log.ts';
import { CniHandler } from '../../src/cni/handler.ts';
import { createMemoryStore } from '../../src/datastore/memory.ts';
import { type Entry, type Store, StoreUnavailableError, type Value } from '../../src/datastore/store.ts';
import { Ipam } from '../../src/ipam/allocator.ts';
import { FakeKernel } from '../../src/kernel/fake.ts';
import { apiVersion } from '../../src/model/resource.ts';
import { poolValue } from '../support/ipam.ts';
import { startCluster, type TestCluster } from '../support/kubernetes/cluster.ts';
import { FakeFelix, fakePods, run } from '../unit/cni/fakes.ts';

/*
 * What a pod, its namespace and the cluster say about its addresses, at ADD: with the Kubernetes API as the datastore,
 * and beside a datastore of its own, where the endpoint is written with the pod's labels from the start.
 */

const log = createLog('test', 'silent');
const calico = 'cni.projectcalico.org/';
let cluster: TestCluster;
let store: Store;
let felix: FakeFelix;
let handler: CniHandler;
let kernel: FakeKernel;
/** What the network configuration says of addresses past IPAM. */
let bare = false;

beforeEach(async () => {
  cluster = await startCluster();
  await cluster.api.create('nodes', { metadata: { name: 'n1' }, spec: {} });
  await cluster.api.create('namespaces', { metadata: { name: 'shop', labels: { team: 'shop' } } });
});
afterEach(() => {
  bare = false;
  return cluster.close();
});

async function begin(kind: 'kubernetes' | 'own'): Promise<void> {
  store = kind === 'kubernetes' ? cluster.open() : createMemoryStore();
  const facts = kind === 'kubernetes' ? store : cluster.open({ ownOnly: true });
  await store.create({ type: 'IPPool', name: 'four' }, poolValue('four', '10.65.0.0/28', { blockSize: 29 }));
  await store.create({ type: 'IPPool', name: 'six' }, poolValue('six', 'fd65::/123', { blockSize: 125 }));
  kernel = new FakeKernel();
  felix = new FakeFelix();
  handler = new CniHandler({
    ...{ store, nodename: 'n1', netlink: kernel.host, openPod: fakePods(kernel), felix, log, clock: systemClock },
    ipam: new Ipam({ store, node: 'n1', clock: systemClock, log }),
    ...(facts.podFacts && { podFacts: facts.podFacts.bind(facts) }),
    config: { mtu: 1450, interfacePrefix: 'cali', families: [4] },
  });
}

async function add(name: string, annotations: Readonly<Record<string, string>> = {}, namespace = 'shop') {
  await cluster.api.create('pods', {
    metadata: { name, namespace, labels: { app: name }, annotations },
    spec: {
      ...{ nodeName: 'n1', serviceAccountName: 'till' },
      containers: [{ name: 'c', ports: [{ name: 'http', containerPort: 80 }] }],
    },
  });
  return verb('ADD', name, namespace);
}

async function verb(command: string, name: string, namespace = 'shop', prevResult?: unknown) {
  const netns = `/run/netns/${name}`;
  if (!kernel.namespaces.has(netns)) kernel.addNamespace(netns);
  const args = `IgnoreUnknown=1;K8S_POD_NAMESPACE=${namespace};K8S_POD_NAME=${name}`;
  const conf = {
    ...(bare && { feature_control: { ip_addrs_no_ipam: true } }),
    ...(prevResult !== undefined && { prevResult }),
  };
  return run({ handler }, command, { container: `c-${name}`, netns, env: { CNI_ARGS: args }, conf });
}

const addressesIn = ({ answer }: Awaited<ReturnType<typeof verb>>) =>
  ((answer['ips'] ?? []) as { address: string }[]).map(({ address }) => address);

async function reserve(...reservedCIDRs: string[]): Promise<void> {
  const value: Value<'IPReservation'> = {
    kind: 'IPReservation',
    apiVersion,
    metadata: { name: 'r' },
    spec: { reservedCIDRs },
  };
  expect(await store.create({ type: 'IPReservation', name: 'r' }, value)).toMatchObject({ outcome: 'written' });
}

async function endpointOf(pod: string): Promise<Entry<'WorkloadEndpoint'> | undefined> {
  return store.get({ type: 'WorkloadEndpoint', namespace: 'shop', name: `n1-k8s-${pod}-eth0` });
}

describe.each(['kubernetes', 'own'] as const)('%s', (kind) => {
  beforeEach(() => begin(kind));

  test('an address by annotation, a reserved one too, once; the next pods get others', async () => {
    await reserve('10.65.0.8/29');
    expect(addressesIn(await add('fixed', { [`${calico}ipAddrs`]: '["10.65.0.9"]' }))).toEqual(['10.65.0.9/32']);
    const second = await add('second', { [`${calico}ipAddrs`]: '["10.65.0.9"]' });
    expect(second).toMatchObject({
      exitCode: 1,
      answer: { code: 11, msg: expect.stringContaining('k8s-pod-network.c-fixed') },
    });
    const rest: string[] = [];
    for (let index = 0; index < 8; index++) rest.push(...addressesIn(await add(`p${index}`)));
    expect(rest.sort()).toEqual(Array.from({ length: 8 }, (_, at) => `10.65.0.${at}/32`));
    expect(await add('late')).toMatchObject({ exitCode: 1, answer: { code: 101 } });
    expect(await verb('DEL', 'fixed')).toMatchObject({ exitCode: 0 });
    expect(addressesIn(await verb('ADD', 'second'))).toEqual(['10.65.0.9/32']);
  });

  test('pools and families of a pod, else of its namespace; pools that select namespaces', async () => {
    await store.create(
      { type: 'IPPool', name: 'a-team' },
      poolValue('a-team', '10.66.0.0/28', { blockSize: 29, namespaceSelector: "team == 'shop'" }),
    );
    await cluster.api.create('namespaces', {
      metadata: { name: 'bank', annotations: { [`${calico}ipFamilies`]: '["IPv4","IPv6"]' } },
    });
    expect(addressesIn(await add('p0'))).toEqual([expect.stringMatching(/^10\.66\./)]);
    expect(addressesIn(await add('p1', { [`${calico}ipv4pools`]: '["four"]' }))).toEqual([
      expect.stringMatching(/^10\.65\./),
    ]);
    const both = addressesIn(await add('p2', { [`${calico}ipv4pools`]: '["a-team"]' }, 'bank'));
    expect(both).toEqual([expect.stringMatching(/^10\.66\./), expect.stringMatching(/^fd65:/)]);
    expect(addressesIn(await add('p3', {}, 'bank'))[0]).toMatch(/^10\.65\./);
    expect(await add('p4', { [`${calico}ipv4pools`]: '["gone"]' })).toMatchObject({ exitCode: 1, answer: { code: 7 } });
    expect(await add('p5', { [`${calico}ipAddrs`]: '["192.0.2.1"]' })).toMatchObject({
      ...{ exitCode: 1, answer: { code: 7, msg: expect.stringContaining('192.0.2.1') } },
    });
    expect(await endpointOf('p5')).toBeUndefined();
  });

  test('an address past IPAM: nothing is taken of a pool, CHECK stands, and DEL frees nothing', async () => {
    bare = true;
    const annotated = (address: string) => ({ [`${calico}ipAddrsNoIpam`]: `["${address}"]` });
    const given = await add('bare', annotated('192.0.2.9'));
    expect(addressesIn(given)).toEqual(['192.0.2.9/32']);
    expect((await verb('ADD', 'bare')).answer).toEqual(given.answer);
    expect((await endpointOf('bare'))?.value.spec.ipNetworks).toEqual(['192.0.2.9/32']);
    expect(felix.programmed).toHaveLength(2);
    expect(await verb('CHECK', 'bare', 'shop', given.answer)).toMatchObject({ exitCode: 0 });
    expect((await store.list('Block')).entries).toEqual([]);
    expect((await store.list('Handle')).entries).toEqual([]);
    const [pooled] = addressesIn(await add('pooled'));
    const thief = await add('thief', annotated(pooled?.split('/')[0] ?? ''));
    expect(thief).toMatchObject({ exitCode: 1, answer: { code: 11, msg: expect.stringContaining('c-pooled') } });
    expect(await endpointOf('thief')).toBeUndefined();
    expect(addressesIn(await add('twin', annotated('192.0.2.9')))).toEqual(['192.0.2.9/32']);
    for (const name of ['bare', 'thief', 'twin']) expect(await verb('DEL', name)).toMatchObject({ exitCode: 0 });
    expect(await endpointOf('bare')).toBeUndefined();
    const blocks = (await store.list('Block')).entries.map(({ value }) =>
      value.allocations.filter((at) => at !== null),
    );
    expect(blocks.map(({ length }) => length)).toEqual([1]);
    bare = false;
    expect(await add('unasked', annotated('192.0.2.9'))).toMatchObject({
      ...{ exitCode: 1, answer: { code: 7, msg: expect.stringContaining('feature_control.ip_addrs_no_ipam') } },
    });
  });

  test('labels, account, ports and limits stand in the endpoint from the start; without Kubernetes ADD is for later', async () => {
    await add('p0', { 'qos.projectcalico.org/ingressBandwidth': '10M', secret: 'x' });
    const value = (await endpointOf('p0'))?.value;
    expect(value).toMatchObject({
      metadata: {
        labels: { app: 'p0', 'projectcalico.org/namespace': 'shop', 'projectcalico.org/serviceaccount': 'till' },
        annotations: { 'qos.projectcalico.org/ingressBandwidth': '10M' },
      },
      spec: {
        serviceAccountName: 'till',
        profiles: ['kns.shop', 'ksa.shop.till'],
        ports: [{ name: 'http', port: 80 }],
      },
    });
    expect(value?.metadata.annotations).not.toHaveProperty('secret');
    expect(await verb('ADD', 'unheard')).toMatchObject({ exitCode: 1, answer: { code: 11 } });
    const end = cluster.api.fault(/^GET/, { status: 503, reason: 'ServiceUnavailable' });
    expect(await verb('ADD', 'p1')).toMatchObject({ exitCode: 1, answer: { code: 11 } });
    end();
  });
});

test('a reader of pods that is refused says so', async () => {
  await begin('own');
  cluster.api.rules = [];
  const facts = cluster.open({ ownOnly: true });
  await expect(facts.podFacts?.('shop', 'p')).rejects.toThrow(StoreUnavailableError);
});
