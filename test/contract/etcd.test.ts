import { connect, createServer, type Server, type Socket } from 'node:net';
import { Etcd3 } from 'etcd3';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { createLog } from '../../src/base/log.ts';
import { createEtcdStore } from '../../src/datastore/etcd.ts';
import { type Event, StoreUnavailableError, type Value } from '../../src/datastore/store.ts';
import { startEtcd, type TestEtcd } from '../support/etcd.ts';
import { until } from '../support/wait.ts';
import { type Subject, storeContract } from './store.ts';

const log = createLog('test', 'silent');
let etcd: TestEtcd;
beforeAll(async () => {
  etcd = await startEtcd();
});
afterAll(() => etcd.stop());

/** A store whose keys begin with `namespace`, in an etcd that another cluster's keys lie in, too. */
async function inEtcd(namespace: string): Promise<Subject> {
  const raw = new Etcd3({ hosts: etcd.endpoint });
  await raw.delete().all();
  if (namespace !== '') await raw.put('/calico/resources/v3/projectcalico.org/ippools/other').value('{}');
  const config = { type: 'etcdv3', endpoints: [etcd.endpoint], ...(namespace && { namespace }) } as const;
  // Small chunks, so that lists take several calls.
  const store = createEtcdStore(config, log, { chunk: 2 });
  return {
    store,
    layout: 'etcd',
    plant: async (key, text) => void (await raw.put(namespace + key).value(text)),
    raw: async (key) => (await raw.get(namespace + key).string()) ?? undefined,
    compact: async () => {
      const { header } = await raw.kv.range({ key: Buffer.from('x') });
      await raw.kv.compact({ revision: header.revision });
    },
    close: async () => {
      store.close();
      raw.close();
    },
  };
}

storeContract('etcd', () => inEtcd(''));
storeContract('etcd with a namespace', () => inEtcd('/tenants/a'));

const key = { type: 'IPPool', name: 'a' } as const;
const value = {
  kind: 'IPPool',
  apiVersion: 'projectcalico.org/v3',
  metadata: { name: 'a' },
  spec: { cidr: '10.0.0.0/16' },
} as Value<'IPPool'>;

test('a status with a TTL goes by itself, one without stays; both lie where Calico looks for them', async () => {
  const raw = new Etcd3({ hosts: etcd.endpoint });
  const store = createEtcdStore({ type: 'etcdv3', endpoints: [etcd.endpoint], namespace: '/tenants/a' }, log);
  try {
    const place = '/tenants/a/calico/felix/v2/no-region/host/n1';
    await store.report?.('n1', 'last_reported_status', { uptime: 1 });
    await store.report?.('n1', 'status', { uptime: 2 }, 1);
    expect(await raw.get(`${place}/status`).json()).toEqual({ uptime: 2 });
    await until(async () => (await raw.get(`${place}/status`)) === null, {
      within: 20_000,
      what: 'the end of the lease',
    });
    expect(await raw.get(`${place}/last_reported_status`).json()).toEqual({ uptime: 1 });
    expect((await store.list('Node')).invalid).toEqual([]);
  } finally {
    store.close();
    raw.close();
  }
});

describe('an etcd that fails', () => {
  test('calls name the endpoint while it is down, and work again at once when it is back', async () => {
    const own = await startEtcd();
    const store = createEtcdStore({ type: 'etcdv3', endpoints: [own.endpoint] }, log);
    try {
      const made = await store.create(key, value);
      expect(made.outcome).toBe('written');
      await own.kill();
      const failed = await store.get(key).catch((thrown: unknown) => thrown);
      expect(failed).toBeInstanceOf(StoreUnavailableError);
      expect(String(failed)).toContain(own.endpoint);
      await expect(store.transact([{ op: 'create', key: { ...key, name: 'b' }, value }])).rejects.toThrow();
      await own.restart();
      expect((await store.get(key))?.value.spec.cidr).toBe('10.0.0.0/16');
    } finally {
      store.close();
      await own.stop();
    }
  });

  test('a watch ends with an error when etcd dies, and when it only stops answering', async () => {
    const own = await startEtcd();
    const store = createEtcdStore({ type: 'etcdv3', endpoints: [own.endpoint] }, log, { timeoutMs: 500, probeMs: 100 });
    const end = new AbortController();
    const watch = async (revision: string, seen: Event[]) => {
      for await (const events of store.watch(['IPPool'], revision, end.signal)) seen.push(...events);
    };
    try {
      const seen: Event[] = [];
      const first = watch((await store.list('IPPool')).revision, seen).catch((thrown: unknown) => thrown);
      await store.create(key, value);
      await until(() => seen.length === 1, { within: 5000, what: 'the first event' });
      own.freeze();
      expect(await first).toBeInstanceOf(StoreUnavailableError);
      own.thaw();
      const { revision } = await until(() => store.list('IPPool'), { within: 5000, what: 'a list after the thaw' });
      const second = watch(revision, seen).catch((thrown: unknown) => thrown);
      await store.delete(key);
      await until(() => seen.length === 2, { within: 5000, what: 'the second event' });
      await own.kill();
      expect(await second).toBeInstanceOf(StoreUnavailableError);
    } finally {
      end.abort();
      store.close();
      await own.stop();
    }
  });

  test('with several members, reads and transactions go on with one that answers', async () => {
    const down = 'http://127.0.0.1:1';
    const store = createEtcdStore({ type: 'etcdv3', endpoints: [down, etcd.endpoint] }, log);
    try {
      const name = `member-${process.pid}`;
      const made = await store.create({ ...key, name }, { ...value, metadata: { name } });
      expect(made.outcome).toBe('written');
      expect(await store.delete({ ...key, name })).toEqual({ outcome: 'written' });
    } finally {
      store.close();
    }
  });

  test('a transaction whose answer was lost counts as written when the other member shows that it was', async () => {
    const lossy = await startLossyProxy(etcd.endpoint);
    const store = createEtcdStore({ type: 'etcdv3', endpoints: [lossy.endpoint, etcd.endpoint] }, log);
    try {
      const name = `lossy-${process.pid}`;
      await store.get({ ...key, name });
      lossy.loseAnswers();
      const made = await store.create({ ...key, name }, { ...value, metadata: { name } });
      if (made.outcome !== 'written') return expect.fail(made.outcome);
      expect(lossy.lost()).toBeGreaterThan(0);
      expect((await store.get({ ...key, name }))?.revision).toBe(made.entry.revision);
      await store.delete({ ...key, name });
    } finally {
      store.close();
      lossy.close();
    }
  });
});

/** A way to etcd on which, from `loseAnswers` on, requests arrive but the connection breaks before the answer. */
async function startLossyProxy(endpoint: string) {
  const { hostname, port } = new URL(endpoint);
  const sockets = new Set<Socket>();
  let losing = false;
  let lost = 0;
  const server: Server = createServer((near) => {
    const far = connect(Number(port), hostname);
    for (const socket of [near, far]) {
      sockets.add(socket);
      socket.on('error', () => socket.destroy());
      socket.on('close', () => sockets.delete(socket));
    }
    near.on('data', (bytes) => far.write(bytes));
    near.on('close', () => far.destroy());
    far.on('close', () => near.destroy());
    far.on('data', (bytes) => {
      // A data frame (type 0) of the answer; frames of the protocol itself pass.
      if (!losing || !hasDataFrame(bytes)) return void near.write(bytes);
      lost++;
      near.destroy();
    });
  });
  await new Promise<void>((done) => server.listen(0, '127.0.0.1', done));
  const address = server.address();
  if (address === null || typeof address === 'string') throw new Error('no port');
  return {
    endpoint: `http://127.0.0.1:${address.port}`,
    loseAnswers: () => {
      losing = true;
    },
    lost: () => lost,
    close: () => {
      server.close();
      for (const socket of sockets) socket.destroy();
    },
  };
}

/** Whether a chunk that begins with an HTTP/2 frame holds a data or headers frame. RFC 9113 §4.1. */
function hasDataFrame(bytes: Buffer): boolean {
  for (let at = 0; at + 9 <= bytes.length; at += 9 + bytes.readUIntBE(at, 3)) {
    const type = bytes[at + 3];
    if (type === 0 || type === 1) return true;
  }
  return false;
}
