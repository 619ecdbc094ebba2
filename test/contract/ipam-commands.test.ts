import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Etcd3 } from 'etcd3';
import { afterAll, afterEach, beforeAll, beforeEach, expect, test, vi } from 'vitest';
import { createLog } from '../../src/base/log.ts';
import { codeOf, messageOf } from '../../src/cli/exit.ts';
import { ipamCommand } from '../../src/cli/ipam.ts';
import { parseArguments } from '../../src/cli/parse.ts';
import { createEtcdStore } from '../../src/datastore/etcd.ts';
import type { Store } from '../../src/datastore/store.ts';
import type { Audit } from '../../src/ipam/audit.ts';
import { type Ip, parseCidr } from '../../src/model/address.ts';
import { apiVersion } from '../../src/model/resource.ts';
import { startEtcd, type TestEtcd } from '../support/etcd.ts';
import { endpointValue, ipamOf, nodeValue, poolValue } from '../support/ipam.ts';
import { kubeconfig, startCluster } from '../support/kubernetes/cluster.ts';

/* `margayctl ipam` on a real etcd: each repair that `check` names is run as it is printed, and leaves nothing to find. */

let etcd: TestEtcd;
let store: Store;
const { signal } = new AbortController();

beforeAll(async () => {
  etcd = await startEtcd();
});
afterAll(() => etcd.stop());

beforeEach(async () => {
  vi.stubEnv('DATASTORE_TYPE', 'etcdv3');
  vi.stubEnv('ETCD_ENDPOINTS', etcd.endpoint);
  store = createEtcdStore({ type: 'etcdv3', endpoints: [etcd.endpoint] }, createLog('test', 'silent'));
  await store.create({ type: 'IPPool', name: 'p' }, poolValue('p', '10.65.0.0/28', { blockSize: 29 }));
  await store.create({ type: 'Node', name: 'n1' }, nodeValue('n1'));
});

afterEach(async () => {
  vi.unstubAllEnvs();
  await clear();
  store.close();
});

const types = ['WorkloadEndpoint', 'IPPool', 'Node', 'Block', 'BlockAffinity', 'Handle', 'IpamConfig'] as const;

async function clear(): Promise<void> {
  for (const type of [...types, 'IPReservation'] as const)
    for (const { key } of (await store.list(type)).entries) await store.delete(key as Parameters<Store['delete']>[0]);
}

async function ctl(line: string): Promise<{ readonly code: number; readonly out: string; readonly error: string }> {
  let out = '';
  const write = vi.spyOn(process.stdout, 'write').mockImplementation((text) => {
    out += String(text);
    return true;
  });
  try {
    await parseArguments(ipamCommand(), ['node', 'ipam', ...line.split(' ')]);
    return { code: 0, out, error: '' };
  } catch (thrown) {
    return { code: codeOf(thrown), out, error: messageOf(thrown) };
  } finally {
    write.mockRestore();
  }
}

/** An address for pod `shop/<pod>` on n1, with its endpoint. */
async function addPod(pod: string): Promise<Ip> {
  const request = { handle: `net.c-${pod}`, families: [4] as const, attributes: { namespace: 'shop', pod } };
  const [given] = await ipamOf(store, 'n1').assign(request, signal);
  if (!given) throw new Error('no address was given');
  const key = { type: 'WorkloadEndpoint', namespace: 'shop', name: `w-${pod}` } as const;
  await store.create(key, endpointValue(pod, 'n1', [given.address]));
  return given.address;
}

async function check(): Promise<Audit & { readonly code: number }> {
  const { code, out } = await ctl('check -o json');
  return { code, ...(JSON.parse(out) as Audit) };
}

async function repair(problems: readonly string[]): Promise<void> {
  const { code, findings } = await check();
  expect(code).toBe(1);
  expect(findings.map(({ problem }) => problem)).toEqual(problems);
  for (const finding of findings) {
    const { code, error } = await ctl(finding.repair.replace(/^margayctl ipam /, ''));
    expect([code, error], finding.repair).toEqual([0, '']);
  }
  expect(await ctl('check')).toMatchObject({ code: 0, out: expect.stringContaining('nothing is wrong') });
}

test('show: pools, blocks, one address, and those within a prefix', async () => {
  const address = await addPod('a');
  const block = (await store.list('Block')).entries[0]?.key.cidr ?? '';
  expect((await ctl('show')).out).toMatch(/^p +10\.65\.0\.0\/28 +16 +1 \(7%\) +0 +0 +0 +15 +1$/m);
  expect((await ctl('show --blocks')).out).toMatch(new RegExp(`^${block} +n1 +p +8 +1 +0 +0 +0 +7$`, 'm'));
  expect((await ctl('show --blocks --cidr 10.66.0.0/16')).out).toBe('no blocks\n');
  expect((await ctl(`show --cidr ${block}`)).out).toMatch(new RegExp(`^${address} +n1 +${block} +shop/a on n1`, 'm'));
  expect(JSON.parse((await ctl(`show --ip ${address} -o json`)).out)).toMatchObject({
    ...{ state: 'held', block, affinity: 'host:n1', pool: 'p', handle: 'net.c-a', usedBy: ['shop/a on n1'] },
    attributes: { namespace: 'shop', pod: 'a', node: 'n1' },
  });
  expect((await ctl('show --ip 10.66.0.1')).out).toMatch(/state: +in no block/);
  expect(await ctl('show --ip ten')).toMatchObject({ code: 2, error: expect.stringContaining('--ip') });
  expect(await ctl('show --blocks -o xml')).toMatchObject({ code: 2, error: expect.stringContaining('--output') });
});

test('show: what an IPReservation keeps back, inside and outside blocks, and what of it is in use', async () => {
  const address = await addPod('a');
  const spec = { reservedCIDRs: ['10.65.0.0/29', '10.65.0.9', '10.66.0.0/16'] };
  const reservation = { kind: 'IPReservation', apiVersion, metadata: { name: 'kept' }, spec } as const;
  await store.create({ type: 'IPReservation', name: 'kept' }, { ...reservation, spec: { ...spec } });
  const inFirst = address < '10.65.0.8';
  expect((await ctl('show')).out).toMatch(
    new RegExp(`^p +10\\.65\\.0\\.0/28 +16 +1 \\(7%\\) +0 +0 +${inFirst ? '8 +7' : '9 +6'} +1$`, 'm'),
  );
  expect((await ctl('show --blocks')).out).toMatch(inFirst ? / 8 +1 +0 +0 +7 +0$/m : / 8 +1 +0 +0 +1 +6$/m);
  expect((await ctl('show --ip 10.65.0.9')).out).toMatch(/reserved by: +kept/);
  expect((await ctl('show --ip 10.65.0.10')).out).not.toContain('reserved');
  expect(await check()).toMatchObject({ code: 0, findings: [] });
});

test('check: a leak and an orphaned handle, each with the repair that mends it', async () => {
  await addPod('a');
  await addPod('b');
  expect(await check()).toMatchObject({ code: 0, addresses: 2, findings: [] });
  await store.delete({ type: 'WorkloadEndpoint', namespace: 'shop', name: 'w-a' });
  const handle = { block: { '10.65.0.0/29': 1 }, deleted: false };
  await store.create({ type: 'Handle', id: 'net.old' }, handle);
  await repair(['leak', 'orphanedHandle']);
  expect((await store.list('Handle')).entries.map(({ key }) => key.id)).toEqual(['net.c-b']);
});

test('check: an address younger than the grace is no leak', async () => {
  const address = await addPod('a');
  const { entries } = await store.list('Block');
  for (const { key, value, revision } of entries) {
    const at = new Date().toISOString().replace('T', ' ').replace('Z', ' +0000 UTC');
    const attributes = (value.attributes ?? []).map((each) => ({
      ...each,
      secondary: { ...each.secondary, timestamp: at },
    }));
    await store.update(key, { ...value, attributes, sequenceNumber: value.sequenceNumber + 1n }, revision);
  }
  await store.delete({ type: 'WorkloadEndpoint', namespace: 'shop', name: 'w-a' });
  expect(await ctl('check --grace 3600')).toMatchObject({ code: 0 });
  expect(await ctl('check --grace 0')).toMatchObject({ code: 1, out: expect.stringContaining(`leak      ${address}`) });
  expect(await ctl('check --grace soon')).toMatchObject({ code: 2 });
});

test('check: what is wrong between blocks and affinities, each with the repair that mends it', async () => {
  await addPod('a');
  const [owned] = (await store.list('BlockAffinity')).entries;
  if (!owned) throw new Error('no affinity');
  await store.delete({ type: 'BlockAffinity', host: 'n1', cidr: owned.key.cidr });
  const lost = { type: 'BlockAffinity', host: 'n1', cidr: parseCidr('10.66.0.0/29') } as const;
  await store.create(lost, { state: 'pending', deleted: false });
  await repair(['affinityWithoutBlock', 'blockWithoutAffinity']);
  const affinity = async () => (await store.list('BlockAffinity')).entries[0];
  const kept = { key: { host: 'n1', cidr: owned.key.cidr }, value: { state: 'confirmed' } };
  const breakOff = async () => {
    const found = await affinity();
    await store.update(owned.key, { state: 'pendingDeletion', deleted: false }, found?.revision ?? '');
  };
  expect(await affinity()).toMatchObject(kept);
  await breakOff();
  await repair(['unfinishedAffinity']);
  expect(await affinity()).toMatchObject(kept);
  await store.delete({ type: 'WorkloadEndpoint', namespace: 'shop', name: 'w-a' });
  expect(await ctl('release --handle net.c-a')).toMatchObject({ code: 0 });
  await breakOff();
  await repair(['unfinishedAffinity']);
  expect((await store.list('Block')).entries).toEqual([]);
});

test('check: what a node that is gone leaves behind is released', async () => {
  await addPod('a');
  await store.delete({ type: 'Node', name: 'n1' });
  await store.delete({ type: 'WorkloadEndpoint', namespace: 'shop', name: 'w-a' });
  await repair(['leak', 'orphanedAffinity']);
  for (const type of ['Block', 'BlockAffinity', 'Handle'] as const)
    expect((await store.list(type)).entries).toEqual([]);
});

test('release: never an address in use unless forced, never of another holder', async () => {
  const address = await addPod('a');
  const refused = { code: 1, error: `${address} is used by shop/a on n1; --force frees it still` };
  expect(await ctl(`release --ip ${address}`)).toMatchObject(refused);
  expect(await ctl('release --handle net.c-a')).toMatchObject(refused);
  expect(await ctl(`release --ip ${address} --handle net.c-b --force`)).toMatchObject({
    code: 1,
    error: `${address} is held by net.c-a, not by net.c-b`,
  });
  expect(await check()).toMatchObject({ code: 0, addresses: 1 });
  expect(await ctl(`release --ip ${address} --force -o json`)).toMatchObject({ code: 0 });
  expect((await check()).findings).toMatchObject([
    { problem: 'unallocated', subject: address, repair: 'kubectl delete pod -n shop a' },
  ]);
  expect(await ctl(`release --ip ${address}`)).toMatchObject({ code: 1, error: `nobody holds ${address}` });
  expect(await ctl('release --handle net.none')).toMatchObject({ code: 1, error: 'there is no handle net.none' });
  for (const line of ['release', 'release --block 10.65.0.0/29', 'release --force', 'release --ip 10.65.0'])
    expect(await ctl(line), line).toMatchObject({ code: 2 });
});

test('configure: strict affinity and the limit of blocks, which nodes then keep', async () => {
  const config = async () => (await store.get({ type: 'IpamConfig' }))?.value;
  expect((await ctl('configure')).out).toMatch(/strictAffinity +false\nautoAllocateBlocks +true\n/);
  expect(await config()).toBe(undefined);
  expect(await ctl('configure --strictaffinity true --max-blocks-per-host 1')).toMatchObject({ code: 0 });
  expect(await config()).toEqual({ strict_affinity: true, auto_allocate_blocks: true, maxBlocksPerHost: 1 });
  for (let at = 0; at < 8; at++) await addPod(`p${at}`);
  await expect(addPod('more')).rejects.toThrow('this node owns 1 blocks, the limit');
  const { code, error } = await ctl('configure --strictaffinity false');
  expect([code, error]).toEqual([2, expect.stringContaining('--max-blocks-per-host: 1')]);
  expect(JSON.parse((await ctl('configure --strictaffinity false --max-blocks-per-host 0 -o json')).out)).toEqual({
    ...{ strictAffinity: false, autoAllocateBlocks: true, maxBlocksPerHost: 0, ipCooldownSeconds: 0 },
  });
  expect(await config()).toEqual({ auto_allocate_blocks: true });
  await addPod('more');
  for (const line of ['--strictaffinity yes', '--max-blocks-per-host -1', '--max-blocks-per-host 3'])
    expect(await ctl(`configure ${line}`), line).toMatchObject({ code: 2 });
});

test('what cannot be read is named, and may use what is to be released', async () => {
  const address = await addPod('a');
  await store.delete({ type: 'WorkloadEndpoint', namespace: 'shop', name: 'w-a' });
  const raw = new Etcd3({ hosts: etcd.endpoint });
  const key = '/calico/resources/v3/projectcalico.org/workloadendpoints/shop/w-a';
  try {
    await raw.put(key).value('{"spec":7}');
    const { code, findings, unjudged } = await check();
    expect([code, unjudged]).toEqual([1, 1]);
    expect(findings).toMatchObject([{ problem: 'unreadable', subject: 'WorkloadEndpoint/shop/w-a' }]);
    expect(await ctl('show')).toMatchObject({ code: 1, out: expect.stringContaining('10.65.0.0/28') });
    const refused = 'WorkloadEndpoint/shop/w-a cannot be read and may use it; --force frees it still';
    expect(await ctl(`release --ip ${address}`)).toMatchObject({ code: 1, error: refused });
    expect(await ctl(`release --ip ${address} --force`)).toMatchObject({ code: 0, out: `${address}: released\n` });
  } finally {
    await raw.delete().key(key);
    raw.close();
  }
});

test('the same on the Kubernetes API', async () => {
  const cluster = await startCluster();
  const directory = await mkdtemp(join(tmpdir(), 'margay-ipam-'));
  try {
    await writeFile(join(directory, 'kubeconfig'), kubeconfig(cluster.api.url, { token: 'token-1' }));
    vi.stubEnv('DATASTORE_TYPE', 'kubernetes');
    vi.stubEnv('KUBECONFIG', join(directory, 'kubeconfig'));
    const other = cluster.open();
    await cluster.api.create('nodes', { metadata: { name: 'n1' } });
    await other.create({ type: 'IPPool', name: 'p' }, poolValue('p', '10.65.0.0/28', { blockSize: 29 }));
    const request = { handle: 'net.c-a', families: [4] as const, attributes: { namespace: 'shop', pod: 'a' } };
    await ipamOf(other, 'n1').assign(request, signal);
    await other.create({ type: 'Handle', id: 'net.Old' }, { block: {}, deleted: false });
    expect((await ctl('show')).out).toMatch(/^p +10\.65\.0\.0\/28 +16 +1 \(7%\)/m);
    await repair(['leak', 'orphanedHandle']);
    expect(await ctl('configure --strictaffinity true')).toMatchObject({ code: 0 });
    expect((await other.get({ type: 'IpamConfig' }))?.value.strict_affinity).toBe(true);
  } finally {
    await cluster.close();
    await rm(directory, { recursive: true, force: true });
  }
});

test('split: smaller pools in the place of one, its blocks and addresses as they were', async () => {
  const address = await addPod('a');
  expect(await ctl('split 2 --name p')).toMatchObject({ code: 1, error: expect.stringContaining('not locked') });
  const spec = { datastoreReady: false };
  const metadata = { name: 'default' };
  const locked = { kind: 'ClusterInformation', apiVersion: 'projectcalico.org/v3', metadata, spec } as const;
  await store.create({ type: 'ClusterInformation', name: 'default' }, locked);
  try {
    for (const [line, code] of [
      ...([
        ['split 3 --name p', 2],
        ['split 4 --name p', 2],
        ['split x --name p', 2],
      ] as const),
      ...([
        ['split 2 --name q', 2],
        ['split 2', 2],
        ['split 2 --cidr 10.65.0.0/27', 2],
      ] as const),
    ])
      expect(await ctl(line), line).toMatchObject({ code });
    expect(await ctl('split 2 --cidr 10.65.0.0/28')).toMatchObject({ code: 0 });
    const { entries } = await store.list('IPPool');
    expect(entries.map(({ key, value }) => [key.name, value.spec.cidr, value.spec.blockSize])).toEqual([
      ['split-p-0', '10.65.0.0/29', 29],
      ['split-p-1', '10.65.0.8/29', 29],
    ]);
    expect(await ctl('audit')).toMatchObject({ code: 0 });
    expect((await ctl(`show --ip ${address}`)).out).toMatch(/pool: +split-p-/);
  } finally {
    await store.delete({ type: 'ClusterInformation', name: 'default' });
  }
});
