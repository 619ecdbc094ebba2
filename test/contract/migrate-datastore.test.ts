import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Etcd3 } from 'etcd3';
import { afterAll, afterEach, beforeAll, beforeEach, expect, test, vi } from 'vitest';
import { createLog } from '../../src/base/log.ts';
import { datastoreCommand } from '../../src/cli/datastore.ts';
import { codeOf, messageOf } from '../../src/cli/exit.ts';
import { parseArguments } from '../../src/cli/parse.ts';
import { createEtcdStore } from '../../src/datastore/etcd.ts';
import type { Store, Value } from '../../src/datastore/store.ts';
import { endpointName } from '../../src/model/endpoint-name.ts';
import { type Kind, parseResource } from '../../src/model/kinds.ts';
import { startEtcd, type TestEtcd } from '../support/etcd.ts';
import { ipamOf, poolValue } from '../support/ipam.ts';
import { kubeconfig, startCluster, type TestCluster } from '../support/kubernetes/cluster.ts';

/* `margayctl datastore migrate` between a real etcd and an API server: nothing is lost, nothing is overwritten. */

let etcd: TestEtcd;
let cluster: TestCluster;
let folder: string;
let file: string;
let here: Store;
let there: Store;
const { signal } = new AbortController();

beforeAll(async () => {
  etcd = await startEtcd();
});
afterAll(() => etcd.stop());

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'margay-migrate-'));
  file = join(folder, 'dump');
  cluster = await startCluster();
  const path = join(folder, 'kubeconfig');
  await writeFile(path, kubeconfig(cluster.api.url));
  vi.stubEnv('ETCD_ENDPOINTS', etcd.endpoint);
  vi.stubEnv('KUBECONFIG', path);
  vi.stubEnv('DATASTORE_TYPE', 'etcdv3');
  here = createEtcdStore({ type: 'etcdv3', endpoints: [etcd.endpoint] }, createLog('test', 'silent'));
  there = cluster.open();
});
afterEach(async () => {
  vi.unstubAllEnvs();
  here.close();
  await withEtcd((client) => client.delete().all());
  await cluster.close();
  await rm(folder, { recursive: true, force: true });
});

async function withEtcd(action: (client: Etcd3) => unknown): Promise<void> {
  const client = new Etcd3({ hosts: etcd.endpoint });
  try {
    await action(client);
  } finally {
    client.close();
  }
}

/** Runs `margayctl datastore migrate …` on the datastore of a type. */
async function migrate(type: 'etcdv3' | 'kubernetes', ...words: string[]) {
  vi.stubEnv('DATASTORE_TYPE', type);
  let out = '';
  let warnings = '';
  const writes = [
    vi.spyOn(process.stdout, 'write').mockImplementation((text) => {
      out += String(text);
      return true;
    }),
    vi.spyOn(process.stderr, 'write').mockImplementation((text) => {
      warnings += String(text);
      return true;
    }),
  ];
  try {
    await parseArguments(datastoreCommand(), ['node', 'datastore', 'migrate', ...words]);
    return { code: 0, out, warnings, error: '' };
  } catch (thrown) {
    return { code: codeOf(thrown), out, warnings, error: messageOf(thrown) };
  } finally {
    for (const write of writes) write.mockRestore();
  }
}

async function put(kind: Kind, name: string, spec: object, more: object = {}): Promise<void> {
  const { namespace } = more as { readonly namespace?: string };
  const value = parseResource(kind, {
    ...{ kind, apiVersion: 'projectcalico.org/v3' },
    ...{ metadata: { name, ...more }, spec },
  });
  const key = { type: kind, name, ...(namespace && { namespace }) };
  await here.create(key as { type: 'Node'; name: string }, value as Value<'Node'>);
}

/** A node that etcd knows under another name than Kubernetes, two pods on it, and every class of objects once. */
async function fill(): Promise<void> {
  await here.create({ type: 'IPPool', name: 'p' }, poolValue('p', '10.65.0.0/24', { blockSize: 28 }));
  const bgp = { ipv4Address: '192.0.2.7/24', asNumber: 64777 };
  await put('Node', 'n1', { bgp, orchRefs: [{ orchestrator: 'k8s', nodeName: 'node-1' }] });
  await put('FelixConfiguration', 'node.n1', { defaultEndpointToHostAction: 'Return' });
  await put('ClusterInformation', 'default', { clusterGUID: 'f00d', datastoreReady: true });
  await put('Tier', 'web', { order: 5 });
  await put('NetworkPolicy', 'a', { tier: 'web', selector: "x == 'y'" }, { namespace: 'shop', labels: { l: '1' } });
  await put('NetworkPolicy', 'knp.default.b', { selector: 'all()' }, { namespace: 'shop' });
  await put('Profile', 'kns.shop', { labelsToApply: { 'pcns.team': 'a' } });
  await here.create({ type: 'IpamConfig' }, { strict_affinity: true, auto_allocate_blocks: true });
  for (const pod of ['cart', 'till']) {
    const request = { handle: `net.c-${pod}`, families: [4] as const, attributes: { namespace: 'shop', pod } };
    const [given] = await ipamOf(here, 'n1').assign(request, signal);
    const addresses = { ipNetworks: [given?.cidr], mac: '02:00:00:00:00:01', containerID: `c-${pod}` };
    const endpoint = { orchestrator: 'k8s', node: 'n1', pod, endpoint: 'eth0', interfaceName: `cali${pod}` };
    await put(
      'WorkloadEndpoint',
      endpointName('n1', pod, 'eth0'),
      { ...endpoint, ...addresses },
      { namespace: 'shop' },
    );
  }
}

/** What Kubernetes has by itself: the node, the namespace and the pods with the addresses that they run with. */
async function kubernetesHas(pods: readonly string[]): Promise<void> {
  await cluster.api.create('namespaces', { metadata: { name: 'shop' } });
  await cluster.api.create('nodes', { metadata: { name: 'node-1' } });
  for (const pod of pods) {
    const name = endpointName('n1', pod, 'eth0');
    const found = await here.get({ type: 'WorkloadEndpoint', namespace: 'shop', name });
    const podIP = found?.value.spec.ipNetworks[0]?.replace('/32', '');
    await cluster.api.create('pods', {
      metadata: { name: pod, namespace: 'shop' },
      ...{ spec: { nodeName: 'node-1', containers: [] }, status: { podIP, podIPs: [{ ip: podIP }] } },
    });
  }
}

test('from etcd to the Kubernetes API: addresses, nodes and resources, under the names of Kubernetes', async () => {
  await fill();
  await withEtcd((client) => client.put('/calico/resources/v3/projectcalico.org/livemigrations/shop/vm').value('{}'));
  await kubernetesHas(['cart', 'till']);
  expect(await migrate('etcdv3', 'export', '-f', file)).toMatchObject({
    code: 1,
    error: expect.stringContaining('not locked'),
  });
  expect(await migrate('etcdv3', 'lock')).toMatchObject({ code: 0, out: 'the datastore is locked\n' });
  expect(await migrate('etcdv3', 'lock')).toMatchObject({ code: 0, out: 'the datastore was locked\n' });
  const exported = await migrate('etcdv3', 'export', '-f', file);
  expect(exported).toMatchObject({ code: 0, warnings: expect.stringContaining('livemigrations/shop/vm') });

  const imported = await migrate('kubernetes', 'import', '-f', file);
  expect(imported).toMatchObject({ code: 0, out: expect.stringMatching(/created.*completed.*left/) });
  expect((await there.get({ type: 'ClusterInformation', name: 'default' }))?.value.spec).toMatchObject({
    ...{ clusterGUID: 'f00d', datastoreReady: false },
  });
  const { entries: blocks } = await there.list('Block');
  expect(blocks.map(({ value }) => value.affinity)).toEqual(['host:node-1']);
  expect((await here.list('Block')).entries[0]?.value.sequenceNumber).toBe(blocks[0]?.value.sequenceNumber);
  expect((await there.get({ type: 'Node', name: 'node-1' }))?.value.spec.bgp).toMatchObject({
    ...{ ipv4Address: '192.0.2.7/24', asNumber: 64777 },
  });
  const name = endpointName('node-1', 'cart', 'eth0');
  const endpoint = await there.get({ type: 'WorkloadEndpoint', namespace: 'shop', name });
  expect(endpoint?.value.spec).toMatchObject({ containerID: 'c-cart', mac: '02:00:00:00:00:01' });
  expect((await ipamOf(there, 'node-1').byHandle('net.c-cart')).map(({ cidr }) => cidr)).toEqual(
    endpoint?.value.spec.ipNetworks,
  );

  expect(await migrate('etcdv3', 'check', '--with', 'kubernetes')).toMatchObject({ code: 0, out: 'no difference\n' });
  expect(await migrate('kubernetes', 'unlock')).toMatchObject({ code: 0, out: 'the datastore is unlocked\n' });
});

test('an import that is run again changes nothing; one that would change something is told', async () => {
  await fill();
  await kubernetesHas(['cart']);
  await migrate('etcdv3', 'lock');
  await migrate('etcdv3', 'export', '-f', file);
  const end = cluster.api.fault('POST /apis/crd.projectcalico.org/v1/ipamhandles', { status: 503 });
  expect(await migrate('kubernetes', 'import', '-f', file)).toMatchObject({ code: 3 });
  end();
  const rest = await migrate('kubernetes', 'import', '-f', file);
  expect(rest).toMatchObject({ code: 0, out: expect.stringMatching(/till.*Kubernetes has no such Pod/) });
  const again = await migrate('kubernetes', 'import', '-f', file, '-o', 'json');
  const outcomes = (JSON.parse(again.out) as { outcome: string }[]).map(({ outcome }) => outcome);
  expect(new Set(outcomes)).toEqual(new Set(['unchanged', 'left']));

  const pool = await there.get({ type: 'IPPool', name: 'p' });
  if (!pool) throw new Error('no pool');
  await there.update(
    { type: 'IPPool', name: 'p' },
    { ...pool.value, spec: { ...pool.value.spec, natOutgoing: true } },
    pool.revision,
  );
  const conflict = await migrate('kubernetes', 'import', '-f', file);
  expect(conflict.code).toBe(1);
  expect(conflict.out).toMatch(/^conflict +IPPool\/p +spec\.natOutgoing +false +true$/m);
  const differs = await migrate('kubernetes', 'check', '-f', file);
  expect(differs.code).toBe(1);
  expect(differs.out).toMatch(/^IPPool\/p +spec\.natOutgoing +false +true$/m);
  expect(differs.out).toMatch(/^WorkloadEndpoint\/shop\/node--1-k8s-till-eth0 +- +present +-$/m);
  const forced = await migrate('kubernetes', 'import', '-f', file, '--overwrite');
  expect(forced).toMatchObject({ code: 0, out: expect.stringContaining('1 replaced') });
});

test('and back: pods, profiles and policies of Kubernetes become objects in etcd', async () => {
  await fill();
  await kubernetesHas(['cart', 'till']);
  await cluster.api.create('networkpolicies.networking.k8s.io', {
    ...{ metadata: { name: 'b', namespace: 'shop' }, spec: { podSelector: {}, policyTypes: ['Ingress'] } },
  });
  await migrate('etcdv3', 'lock');
  await migrate('etcdv3', 'export', '-f', file);
  await migrate('kubernetes', 'import', '-f', file);
  await withEtcd((client) => client.delete().all());
  expect(await migrate('kubernetes', 'export', '-f', file)).toMatchObject({ code: 0 });
  expect(await migrate('etcdv3', 'import', '-f', file)).toMatchObject({ code: 0 });
  expect(await migrate('etcdv3', 'check', '-f', file)).toMatchObject({ code: 0, out: 'no difference\n' });
  const name = endpointName('node-1', 'cart', 'eth0');
  expect(await here.get({ type: 'WorkloadEndpoint', namespace: 'shop', name })).toBeDefined();
  const policy = { type: 'NetworkPolicy', namespace: 'shop', name: 'knp.default.b' } as const;
  expect((await here.get(policy))?.value.spec.types).toEqual(['Ingress']);
  expect((await readFile(file, 'utf8')).match(/^===$/gm)).toHaveLength(2);
});

test('wrong words and files are usage errors, and nothing is written', async () => {
  await writeFile(file, 'kind: IPPool\n');
  expect(await migrate('etcdv3', 'import', '-f', file)).toMatchObject({
    code: 2,
    error: expect.stringContaining('==='),
  });
  expect(await migrate('etcdv3', 'import', '-f', `${file}x`)).toMatchObject({ code: 2 });
  expect(await migrate('etcdv3', 'check')).toMatchObject({ code: 2 });
  expect(await migrate('etcdv3', 'check', '--with', 'etcdv3')).toMatchObject({ code: 2 });
  expect(await migrate('etcdv3', 'export', '-f', join(folder, 'no', 'where'))).toMatchObject({ code: 1 });
  expect((await here.list('ClusterInformation')).entries).toEqual([]);
});
