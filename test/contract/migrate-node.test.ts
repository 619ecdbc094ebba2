import { afterEach, beforeEach, expect, test } from 'vitest';
import { systemClock } from '../../src/base/clock.ts';
import { createLog } from '../../src/base/log.ts';
import type { Store } from '../../src/datastore/store.ts';
import { FakeNetlink } from '../../src/kernel/fake.ts';
import { applyPlan } from '../../src/migrate/host-local/apply.ts';
import type { InPod } from '../../src/migrate/host-local/pair.ts';
import type { Plan } from '../../src/migrate/host-local/plan.ts';
import { emptyRecord } from '../../src/migrate/host-local/record.ts';
import { rollBack } from '../../src/migrate/host-local/rollback.ts';
import { TakenError } from '../../src/migrate/host-local/take.ts';
import { parseCidr, parseIp } from '../../src/model/address.ts';
import { endpointName } from '../../src/model/endpoint-name.ts';
import { ipamOf } from '../support/ipam.ts';
import { startCluster, type TestCluster } from '../support/kubernetes/cluster.ts';

/* A node's pods taken over with the Kubernetes API as the datastore: the endpoint is the Pod, which is annotated. */

const address = parseIp('10.244.9.5');
const block = parseCidr('10.244.9.0/26');
const handle = 'k8s-pod-network.c-web';
const name = endpointName('n9', 'web', 'eth0');
const key = { type: 'WorkloadEndpoint', namespace: 'shop', name } as const;

const pair = { hostDevice: 'vethweb', hostMac: '02:00:00:00:00:02', podMac: '02:00:00:00:00:01' };
const plan: Plan = {
  ...{ node: 'n9', network: 'k8s-pod-network', restarts: [], obstacles: [], notes: [] },
  pools: [
    { name: 'podcidr-n9', cidr: parseCidr('10.244.9.0/24'), blockSize: 26, nodeSelector: 'all()', exists: false },
  ],
  blocks: [{ cidr: block, owned: false }],
  addresses: [{ address, block, handle, namespace: 'shop', pod: 'web' }],
  pods: [
    {
      ...{ namespace: 'shop', pod: 'web', containerId: 'c-web', ifName: 'eth0', netns: '/run/netns/a' },
      ...{ addresses: [address], endpoint: name, device: 'cali0', pair: { ...pair, podAddresses: [], podRoutes: [] } },
    },
  ],
};

let cluster: TestCluster;
let store: Store;
let deps: Parameters<typeof applyPlan>[2];

beforeEach(async () => {
  cluster = await startCluster();
  store = cluster.open();
  await cluster.api.create('namespaces', { metadata: { name: 'shop' } });
  await cluster.api.create('nodes', { metadata: { name: 'n9' } });
  await cluster.api.create('pods', {
    ...{ metadata: { name: 'web', namespace: 'shop' }, spec: { nodeName: 'n9', containers: [] } },
    status: { podIP: address, podIPs: [{ ip: address }] },
  });
  const host = new FakeNetlink();
  host.addLink({ index: 7, name: 'vethweb', mtu: 1500, up: true, kind: 'veth', mac: pair.hostMac });
  // The pod's own side is the kernel's, and tried there.
  const inPod: InPod = () => undefined as never;
  const scene = { store, clock: systemClock, log: createLog('test', 'silent') };
  const { signal } = new AbortController();
  deps = { scene, host, inPod, note: async () => undefined, done: () => undefined, signal, vxlan: false };
});
afterEach(() => cluster.close());

async function annotations(): Promise<Record<string, string>> {
  const { api } = cluster;
  return (await api.storage.get(api.resource('pods'), 'shop', 'web')).metadata.annotations ?? {};
}

test('the Pod is annotated, its address held, the pool made last; rollback leaves nothing of it', async () => {
  const record = await applyPlan(plan, emptyRecord('n9'), deps);
  expect(await annotations()).toMatchObject({
    ...{ 'cni.projectcalico.org/containerID': 'c-web', 'cni.projectcalico.org/podIP': `${address}/32` },
  });
  expect((await store.get(key))?.value.spec).toMatchObject({ containerID: 'c-web', mac: pair.podMac });
  expect(await ipamOf(store, 'n9').byHandle(handle)).toMatchObject([{ address, block, pool: 'podcidr-n9' }]);
  expect(deps.host.link('cali0')).toMatchObject({ index: 7, up: true });
  const posts = cluster.api.requests.filter((line) => line.startsWith('POST')).map((line) => line.split('/').at(-1));
  expect(posts).toEqual(['blockaffinities', 'ipamblocks', 'ipamhandles', 'ippools']);

  expect(await applyPlan(plan, record, deps).catch((thrown: unknown) => thrown)).toBeInstanceOf(TakenError);
  const again = { ...plan, pools: plan.pools.map((each) => ({ ...each, exists: true })) };
  expect(await applyPlan(again, record, deps)).toEqual(record);

  const ipam = ipamOf(store, 'n9');
  await rollBack(record, { ...deps, release: (requests) => ipam.releaseAddresses(requests) });
  for (const type of ['IPPool', 'Block', 'BlockAffinity', 'Handle', 'WorkloadEndpoint'] as const)
    expect((await store.list(type)).entries, type).toEqual([]);
  expect(deps.host.link('vethweb')).toMatchObject({ index: 7, mac: pair.hostMac });
});

test('what another holds is not taken, and nothing is written over', async () => {
  const ipam = ipamOf(store, 'n9');
  const spec = { cidr: '10.244.9.0/26', blockSize: 26 };
  const metadata = { name: 'p' };
  await store.create({ type: 'IPPool', name: 'p' }, {
    kind: 'IPPool',
    apiVersion: 'projectcalico.org/v3',
    metadata,
    spec,
  } as never);
  for (let at = 0; at < 6; at++)
    await ipam.assign({ handle: `other.${at}`, families: [4], attributes: {} }, new AbortController().signal);
  await expect(applyPlan(plan, emptyRecord('n9'), deps)).rejects.toThrow('10.244.9.5 is held by other.5');
  expect((await ipam.byHandle('other.5')).map((each) => each.address)).toEqual([address]);
  await cluster.api.change(
    'pods',
    'web',
    (pod) => ({ ...pod, metadata: { ...pod.metadata, annotations: { 'cni.projectcalico.org/containerID': 'newer' } } }),
    'shop',
  );
  await expect(applyPlan(plan, emptyRecord('n9'), deps)).rejects.toThrow(/is of container newer/);
});
