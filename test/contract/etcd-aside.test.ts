import { Etcd3 } from 'etcd3';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { systemClock } from '../../src/base/clock.ts';
import { createLog } from '../../src/base/log.ts';
import { AsideKv } from '../../src/datastore/aside/kv.ts';
import { openStoreAside } from '../../src/datastore/aside/open.ts';
import { KvStore } from '../../src/datastore/kv-store.ts';
import { GoneError, StoreUnavailableError } from '../../src/datastore/store.ts';
import { startEtcd, type TestEtcd } from '../support/etcd.ts';
import { until } from '../support/wait.ts';
import { type Subject, storeContract } from './store.ts';

const log = createLog('test', 'silent');
let etcd: TestEtcd;
let kv: AsideKv;
beforeAll(async () => {
  etcd = await startEtcd();
  // Small chunks, so that lists take several calls.
  kv = new AsideKv(configOf(etcd.endpoint), systemClock, log, { chunk: 2 });
});
afterAll(async () => {
  kv.close();
  await etcd.stop();
});

const configOf = (...endpoints: string[]) => ({ type: 'etcdv3', endpoints }) as const;

/** One thread serves all the stores of this file: it takes a while to start. */
class Lasting extends KvStore {
  override close(): void {
    // Its thread is the file's.
  }
}

storeContract('etcd by way of a thread', async (): Promise<Subject> => {
  const raw = new Etcd3({ hosts: etcd.endpoint });
  await raw.delete().all();
  return {
    store: new Lasting(kv, () => systemClock.wall()),
    layout: 'etcd',
    plant: async (key, text) => void (await raw.put(key).value(text)),
    raw: async (key) => (await raw.get(key).string()) ?? undefined,
    compact: async () => {
      const { header } = await raw.kv.range({ key: Buffer.from('x') });
      await raw.kv.compact({ revision: header.revision });
    },
    close: async () => raw.close(),
  };
});

describe('etcd by way of a thread', () => {
  test('a list of more entries than go over at once is whole and in order', async () => {
    const keys = Array.from({ length: 1201 }, (_, i) => `/many/${String(i).padStart(5, '0')}`);
    for (let at = 0; at < keys.length; at += 100) {
      const writes = keys
        .slice(at, at + 100)
        .map((key) => ({ op: 'put', key, value: key, expect: { is: 'absent' } }) as const);
      expect((await kv.commit(writes)).committed).toBe(true);
    }
    const { entries } = await kv.range('/many/');
    expect(entries.map(({ key }) => key)).toEqual(keys);
  });

  test('a watcher that takes its time loses nothing, however much has come meanwhile', async () => {
    const first = await kv.commit([{ op: 'put', key: '/slow', value: '0', expect: { is: 'absent' } }]);
    if (!first.committed) throw new Error('not written');
    const end = new AbortController();
    const seen: string[] = [];
    const events = kv.watch('/slow', first.revision, end.signal)[Symbol.asyncIterator]();
    const raw = new Etcd3({ hosts: etcd.endpoint });
    try {
      for (let value = 1; value <= 600; value++) await raw.put('/slow').value(value);
      while (seen.length < 600)
        for (const event of (await events.next()).value ?? []) if (event.op === 'put') seen.push(event.entry.value);
    } finally {
      end.abort();
      raw.close();
    }
    expect(seen).toEqual(Array.from({ length: 600 }, (_, i) => String(i + 1)));
    expect(await events.next()).toEqual({ value: undefined, done: true });
  });

  test('errors keep their class and say what they said', async () => {
    await expect(kv.range('/', '999999999')).rejects.toBeInstanceOf(GoneError);
    const nobody = openStoreAside(configOf('http://127.0.0.1:1'), log, { timeoutMs: 500 });
    try {
      const failure = nobody.get({ type: 'Node', name: 'n1' });
      await expect(failure).rejects.toBeInstanceOf(StoreUnavailableError);
      await expect(failure).rejects.toThrow('http://127.0.0.1:1');
    } finally {
      nobody.close();
    }
    await expect(nobody.get({ type: 'Node', name: 'n1' })).rejects.toThrow('closed');
  });

  test('what the thread has to say is in the log of the process, at its level', async () => {
    const lines: string[] = [];
    const told = createLog('felix', 'warn', { write: (line) => lines.push(line) });
    const store = openStoreAside(configOf('http://127.0.0.1:1', etcd.endpoint), told, { timeoutMs: 2000 });
    try {
      await store.get({ type: 'Node', name: 'n1' });
      await until(() => lines.some((line) => line.includes('etcd member failed')), {
        within: 10_000,
        what: 'the line',
      });
      expect(JSON.parse(lines[0] ?? '')).toMatchObject({
        level: 'warn',
        name: 'felix',
        endpoint: 'http://127.0.0.1:1',
      });
    } finally {
      store.close();
    }
  });
});

/** Answers a `get` of `good`, and dies of any other. */
const mortal = `
  import { parentPort } from 'node:worker_threads';
  parentPort.on('message', ({ id, key }) => {
    if (key !== 'good') throw new Error('of ' + key);
    parentPort.postMessage({ type: 'done', id, result: { of: 'get', entry: { key, value: 'v', revision: '1' } } });
  });
`;

test('a thread that dies fails what it was asked, says so, and is started again after a pause', async () => {
  const lines: string[] = [];
  const told = createLog('felix', 'info', { write: (line) => lines.push(line) });
  const program = { url: new URL(`data:text/javascript,${encodeURIComponent(mortal)}`) };
  const own = new AsideKv(configOf('http://127.0.0.1:1'), systemClock, told, {}, program);
  try {
    expect(await own.get('good')).toMatchObject({ value: 'v' });
    const watch = own.watch('good', '1', new AbortController().signal)[Symbol.asyncIterator]();
    const [first, second] = await Promise.allSettled([own.get('bad'), watch.next()]);
    for (const one of [first, second]) {
      expect(one.status).toBe('rejected');
      expect((one as PromiseRejectedResult).reason).toBeInstanceOf(StoreUnavailableError);
    }
    await expect(own.get('good')).rejects.toThrow('starts again in');
    expect(lines.join('')).toContain('the datastore thread ended');
    await until(() => own.get('good'), { within: 10_000, what: 'an answer of the new thread' });
  } finally {
    own.close();
  }
});
