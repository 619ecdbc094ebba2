import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { EnvironmentError, InputError } from '../../src/base/errors.ts';
import { createLog } from '../../src/base/log.ts';
import { createKubernetesStore } from '../../src/datastore/kubernetes/store.ts';
import { type Event, GoneError, type Store, StoreUnavailableError } from '../../src/datastore/store.ts';
import { poolValue } from '../support/ipam.ts';
import { kubeconfig, startCluster, type TestCluster } from '../support/kubernetes/cluster.ts';
import { TestApiServer } from '../support/kubernetes/server.ts';
import { until } from '../support/wait.ts';

/* An API server that refuses, hangs, breaks off, restarts and forgets. */

const key = (name: string) => ({ type: 'IPPool', name }) as const;
const log = createLog('test', 'silent');
let cluster: TestCluster;
let store: Store;
const ends: AbortController[] = [];
beforeEach(async () => {
  cluster = await startCluster();
  store = cluster.open();
  await store.create(key('a'), poolValue('a', '10.0.0.0/16'));
});
afterEach(async () => {
  for (const end of ends.splice(0)) end.abort();
  await cluster.close();
});

function follow(from: Store, revision: string) {
  const end = new AbortController();
  ends.push(end);
  const seen: Event[] = [];
  const outcome = (async () => {
    for await (const events of from.watch(['IPPool'], revision, end.signal)) seen.push(...events);
  })().then(
    () => 'ended' as const,
    (thrown: unknown) => thrown,
  );
  return { seen, outcome };
}

describe('answers that say no', () => {
  test.each([
    [403, 'Forbidden'],
    [500, 'InternalError'],
    [429, 'TooManyRequests'],
  ])('%i %s is an unavailable store, never an empty one', async (status, reason) => {
    cluster.api.fault('/ippools', { status, reason });
    await expect(store.list('IPPool')).rejects.toThrow(StoreUnavailableError);
    await expect(store.get(key('a'))).rejects.toThrow(new RegExp(`${status}.*${reason}`));
    await expect(store.create(key('b'), poolValue('b', '10.1.0.0/16'))).rejects.toThrow(StoreUnavailableError);
    await expect(store.delete(key('a'))).rejects.toThrow(StoreUnavailableError);
  });

  test('a server that says when to come again is asked again then', async () => {
    cluster.api.fault('/ippools', { status: 429, reason: 'TooManyRequests', retryAfter: 0.1 }, 2);
    expect((await store.list('IPPool')).entries).toHaveLength(1);
    expect(cluster.api.requests.filter((line) => line.startsWith('GET') && line.includes('ippools?'))).toHaveLength(3);
    cluster.api.fault('/ippools', { status: 429, reason: 'TooManyRequests', retryAfter: 3600 });
    await expect(store.get(key('a'))).rejects.toThrow(/429/);
  });

  test('what the server’s validation refuses is an InputError that names the field', async () => {
    await expect(store.create(key('UPPER'), poolValue('UPPER', '10.1.0.0/16'))).rejects.toThrow(
      expect.objectContaining({ field: 'metadata.name' }),
    );
    await expect(store.create(key('UPPER'), poolValue('UPPER', '10.1.0.0/16'))).rejects.toThrow(InputError);
  });

  test('definitions that are not installed are asked for', async () => {
    cluster.api.resources.delete('ippools.crd.projectcalico.org');
    await expect(store.list('IPPool')).rejects.toThrow(/CRDs/);
    await expect(store.get(key('a'))).rejects.toThrow(StoreUnavailableError);
  });
});

describe('a connection that breaks', () => {
  test('a write whose answer is lost is an unavailable store, and was carried out', async () => {
    cluster.api.fault(/^POST/, 'lose', 1);
    await expect(store.create(key('b'), poolValue('b', '10.1.0.0/16'))).rejects.toThrow(StoreUnavailableError);
    expect(await store.create(key('b'), poolValue('b', '10.1.0.0/16'))).toEqual({ outcome: 'conflict' });
  });

  test('a server that does not answer is given up on in time', async () => {
    const hasty = cluster.open({ timeoutMs: 100, listTimeoutMs: 100 });
    await hasty.get(key('a'));
    cluster.api.fault('/ippools', 'hang');
    await expect(hasty.get(key('a'))).rejects.toThrow(StoreUnavailableError);
    await expect(hasty.list('IPPool')).rejects.toThrow(StoreUnavailableError);
  });

  test('a stopped server fails calls at once and works again when it is back', async () => {
    await cluster.api.stop();
    expect(await store.get(key('a')).catch((thrown: unknown) => thrown)).toBeInstanceOf(StoreUnavailableError);
    await expect(store.get(key('a'))).rejects.toThrow(StoreUnavailableError);
    await cluster.api.start();
    expect((await store.get(key('a')))?.value.spec.cidr).toBe('10.0.0.0/16');
  });

  test('a closed store answers no more', async () => {
    store.close();
    await expect(store.get(key('a'))).rejects.toThrow(StoreUnavailableError);
  });
});

describe('lists in chunks', () => {
  test('a token that expires between two chunks begins the list anew', async () => {
    const chunked = cluster.open({ chunk: 2 });
    for (const name of ['b', 'c', 'd', 'e']) await store.create(key(name), poolValue(name, '10.0.0.0/16'));
    const first = () => cluster.api.requests.filter((line) => line.includes('limit=2') && !line.includes('continue='));
    cluster.api.fault('continue=', { status: 410, reason: 'Expired' }, 2);
    expect((await chunked.list('IPPool')).entries).toHaveLength(5);
    expect(first()).toHaveLength(3);
  });
});

describe('watches', () => {
  test('end and begin again without a gap, and follow bookmarks over a compaction', async () => {
    const brief = cluster.open({ watchSeconds: 1 });
    const { revision } = await brief.list('IPPool');
    const watch = follow(brief, revision);
    const watches = () => cluster.api.requests.filter((line) => line.includes('ippools?watch=true'));
    // Others' changes move the counter; the bookmark tells the watch so.
    for (let index = 0; index < 10; index++) await cluster.api.create('nodes', { metadata: { name: `n${index}` } });
    const newest = (await store.list('Node')).revision.slice('nodes='.length);
    await until(() => watches().length > 1 && watches().at(-1)?.includes(`resourceVersion=${newest}&`), {
      within: 10_000,
      what: 'a watch from the newest revision',
    });
    cluster.api.compact();
    cluster.api.cut();
    await cluster.open().create(key('b'), poolValue('b', '10.1.0.0/16'));
    await until(() => watch.seen.length === 1, { within: 5000, what: 'the new pool' });
  });

  test('a server that restarts is found again by the running watch', async () => {
    const { revision } = await store.list('IPPool');
    const watch = follow(store, revision);
    await until(() => cluster.api.requests.some((line) => line.includes('watch=true')), {
      within: 5000,
      what: 'a watch',
    });
    await cluster.api.restart();
    await cluster.open().create(key('b'), poolValue('b', '10.1.0.0/16'));
    await until(() => watch.seen.length === 1, { within: 5000, what: 'the new pool' });
  });

  test('one that stays away ends the watch', async () => {
    const { revision } = await store.list('IPPool');
    const watch = follow(store, revision);
    await until(() => cluster.api.requests.some((line) => line.includes('watch=true')), {
      within: 5000,
      what: 'a watch',
    });
    await cluster.api.stop();
    expect(await watch.outcome).toBeInstanceOf(StoreUnavailableError);
  });

  test('a server that goes silent is found out', async () => {
    const wary = cluster.open({ probeMs: 50, timeoutMs: 200 });
    const { revision } = await wary.list('IPPool');
    const watch = follow(wary, revision);
    await until(() => cluster.api.requests.includes('GET /version'), { within: 5000, what: 'a question' });
    cluster.api.fault('/version', 'hang');
    expect(await watch.outcome).toBeInstanceOf(StoreUnavailableError);
  });

  test('a revision that was never listed is a defect, an expired one is gone', async () => {
    const watch = store.watch(['IPPool', 'Node'], (await store.list('IPPool')).revision, new AbortController().signal);
    await expect(watch[Symbol.asyncIterator]().next()).rejects.toThrow(/nodes is to be watched, but was not listed/);
    const { revision } = await store.list('IPPool');
    await store.create(key('b'), poolValue('b', '10.1.0.0/16'));
    cluster.api.compact();
    expect(await follow(store, revision).outcome).toBeInstanceOf(GoneError);
  });
});

describe('credentials', () => {
  test('a token that is replaced is read again when the old one is refused', async () => {
    cluster.api.tokens = new Set(['token-1']);
    expect(await store.get(key('a'))).toBeDefined();
    await writeFile(join(cluster.directory, 'token'), 'token-2');
    cluster.api.tokens = new Set(['token-2']);
    expect(await store.get(key('a'))).toBeDefined();
    cluster.api.tokens = new Set(['token-3']);
    await expect(store.get(key('a'))).rejects.toThrow(/401/);
    await rm(join(cluster.directory, 'token'));
    await expect(store.get(key('a')), 'the known token stays').rejects.toThrow(StoreUnavailableError);
  });

  test('no service account is an error of the environment', async () => {
    const access = { by: 'serviceAccount', server: cluster.api.url, directory: '/does/not/exist' } as const;
    const lost = createKubernetesStore({ type: 'kubernetes', access, interfacePrefix: 'cali' }, log);
    await expect(lost.get(key('a'))).rejects.toThrow(EnvironmentError);
  });

  test('a kubeconfig: TLS by its authority, a token, and a client certificate’s refusal of strangers', async () => {
    const directory = await mkdtemp(join(tmpdir(), 'margay-kubeconfig-'));
    const file = (name: string) => join(directory, name);
    const subject = ['-subj', '/CN=api', '-addext', 'subjectAltName=IP:127.0.0.1'];
    const request = [
      'req',
      '-x509',
      '-newkey',
      'ec',
      '-pkeyopt',
      'ec_paramgen_curve:prime256v1',
      '-nodes',
      '-days',
      '2',
    ];
    execFileSync('openssl', [...request, ...subject, '-keyout', file('key'), '-out', file('cert')], {
      stdio: 'ignore',
    });
    const [key_, cert] = [readFileSync(file('key'), 'utf8'), readFileSync(file('cert'), 'utf8')];
    const api = await new TestApiServer({ tls: { key: key_, cert } }).start();
    const open = async (text: string) => {
      await writeFile(file('config'), text);
      const access = { by: 'kubeconfig', files: [file('config')] } as const;
      return createKubernetesStore({ type: 'kubernetes', access, interfacePrefix: 'cali' }, log);
    };
    const stores: Store[] = [];
    try {
      api.tokens = new Set(['secret']);
      const data = Buffer.from(cert).toString('base64');
      const good = await open(kubeconfig(api.url, { token: 'secret' }, { 'certificate-authority-data': data }));
      stores.push(good);
      expect((await good.list('IPPool')).entries).toEqual([]);
      const unknown = await open(kubeconfig(api.url, { token: 'secret' }));
      stores.push(unknown);
      await expect(unknown.list('IPPool')).rejects.toThrow(StoreUnavailableError);
      const nobody = await open(kubeconfig(api.url, {}, { 'certificate-authority-data': data }));
      stores.push(nobody);
      await expect(nobody.list('IPPool')).rejects.toThrow(/401/);
      const broken = await open('{');
      stores.push(broken);
      await expect(broken.list('IPPool')).rejects.toThrow(EnvironmentError);
    } finally {
      for (const each of stores) each.close();
      await api.stop();
      await rm(directory, { recursive: true, force: true });
    }
  });
});
