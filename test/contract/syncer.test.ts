import { describe, expect, test } from 'vitest';
import { Backoff } from '../../src/base/backoff.ts';
import { systemClock } from '../../src/base/clock.ts';
import { createLog } from '../../src/base/log.ts';
import { createEtcdStore } from '../../src/datastore/etcd.ts';
import { createMemoryStore } from '../../src/datastore/memory.ts';
import {
  keyText,
  type Listing,
  type Store,
  StoreUnavailableError,
  type Type,
  type Value,
} from '../../src/datastore/store.ts';
import { sync } from '../../src/datastore/syncer.ts';
import type { Update } from '../../src/datastore/update.ts';
import { startEtcd } from '../support/etcd.ts';
import { ManualClock } from '../support/manual-clock.ts';
import { until } from '../support/wait.ts';

const key = (name: string) => ({ type: 'IPPool', name }) as const;

function pool(name: string, cidr = '10.0.0.0/16'): Value<'IPPool'> {
  const metadata = { name };
  return { kind: 'IPPool', apiVersion: 'projectcalico.org/v3', metadata, spec: { cidr } } as Value<'IPPool'>;
}

/** Runs a syncer beside the test, and keeps what its consumer would know. */
function start(store: Store, types: readonly Type[] = ['IPPool', 'Block']) {
  const end = new AbortController();
  const updates: Update[] = [];
  const lines: string[] = [];
  const known = new Map<string, string>();
  const log = createLog('test', 'debug', { write: (line) => lines.push(line) });
  const consumer = (update: Update) => {
    updates.push(update);
    if (update.op !== 'events') return;
    for (const event of update.events) {
      if (event.op === 'delete') known.delete(keyText(event.key));
      else known.set(keyText(event.entry.key), event.op === 'set' ? event.entry.revision : 'invalid');
    }
  };
  const backoff = new Backoff(5, 50);
  const done = sync({ store, types, consumer, log, clock: systemClock, signal: end.signal, backoff });
  const told = () =>
    updates.flatMap((update) =>
      update.op === 'events'
        ? update.events.map((event) => `${event.op} ${keyText(event.op === 'delete' ? event.key : event.entry.key)}`)
        : [update.op === 'connection' ? `${update.op} ${update.up}` : update.op],
    );
  const stop = () => {
    end.abort();
    return done;
  };
  return { updates, lines, known, told, stop };
}

const soon = (what: string) => ({ within: 10_000, what });

describe('syncer', () => {
  test('tells everything, then inSync once, then changes', async () => {
    const store = createMemoryStore();
    await store.create(key('a'), pool('a'));
    const syncer = start(store);
    await until(() => syncer.told().includes('inSync'), soon('inSync'));
    await store.create(key('b'), pool('b'));
    await store.delete(key('a'));
    await until(() => syncer.told().includes('delete IPPool/a'), soon('the deletion'));
    expect(syncer.told()).toEqual(['set IPPool/a', 'listed', 'inSync', 'set IPPool/b', 'delete IPPool/a']);
    await syncer.stop();
  });

  test('after a break it tells only the difference, and inSync no more', async () => {
    const store = createMemoryStore();
    for (const name of ['same', 'changed', 'gone']) await store.create(key(name), pool(name));
    const syncer = start(store);
    await until(() => syncer.told().includes('inSync'), soon('inSync'));
    const before = syncer.told().length;
    store.disconnect();
    await until(() => syncer.told().includes('connection false'), soon('the loss'));
    const place = '/calico/resources/v3/projectcalico.org/ippools/';
    store.plant(`${place}changed`, JSON.stringify(pool('changed', '10.1.0.0/16')));
    store.plant(`${place}gone`, undefined);
    store.plant(`${place}new`, JSON.stringify(pool('new')));
    store.compact();
    store.connect();
    await until(() => syncer.told().slice(before).includes('listed'), soon('the new object'));
    expect(syncer.told().slice(before)).toEqual([
      'connection false',
      'connection true',
      'delete IPPool/gone',
      'set IPPool/changed',
      'set IPPool/new',
      'listed',
    ]);
    await syncer.stop();
  });

  test('a list that fails for one type deletes nothing of any', async () => {
    const store = createMemoryStore();
    await store.create(key('a'), pool('a'));
    const syncer = start(store);
    await until(() => syncer.told().includes('inSync'), soon('inSync'));
    store.disconnect();
    await until(() => syncer.lines.filter((line) => line.includes('unreachable')).length > 3, soon('some attempts'));
    expect([...syncer.known.keys()]).toEqual(['IPPool/a']);
    expect(syncer.told().filter((line) => line === 'connection false')).toHaveLength(1);
    await syncer.stop();
  });

  test('a datastore that holds nothing at all, where there were nodes, was replaced: what is known stays', async () => {
    const store = createMemoryStore();
    const name = 'n1';
    const node = { kind: 'Node', apiVersion: 'projectcalico.org/v3', metadata: { name }, spec: {} } as Value<'Node'>;
    await store.create({ type: 'Node', name }, node);
    await store.create(key('a'), pool('a'));
    let replaced = false;
    const asked: Store = Object.assign(Object.create(store), {
      list: async (type: Type, options?: object) =>
        replaced ? { entries: [], invalid: [], revision: '1' } : store.list(type, options),
    });
    const syncer = start(asked, ['Node', 'IPPool']);
    await until(() => syncer.told().includes('inSync'), soon('inSync'));
    replaced = true;
    store.disconnect();
    await until(() => syncer.lines.some((line) => line.includes('it was replaced')), soon('the reason'));
    expect(syncer.told()).toContain('connection false');
    expect([...syncer.known.keys()].sort()).toEqual(['IPPool/a', 'Node/n1']);
    replaced = false;
    store.connect();
    await store.delete(key('a'));
    await until(() => syncer.told().includes('delete IPPool/a'), soon('the store of before'));
    expect([...syncer.known.keys()]).toEqual(['Node/n1']);
    await syncer.stop();
  });

  test('a datastore that is away is asked again within two seconds at the latest, however long that has been', async () => {
    const store = createMemoryStore();
    store.disconnect();
    store.list = () => Promise.reject(new StoreUnavailableError('away'));
    const clock = new ManualClock();
    const waits: unknown[] = [];
    const log = createLog('test', 'info', { write: (line) => waits.push(JSON.parse(line).retryMs) });
    const end = new AbortController();
    const done = sync({ store, types: ['IPPool'], consumer: () => undefined, log, clock, signal: end.signal });
    for (let attempt = 1; attempt <= 14; attempt++) {
      await until(() => waits.length === attempt && clock.armed > 0, soon(`attempt ${attempt}`));
      clock.advance(2000);
    }
    end.abort();
    await done;
    const late = waits.slice(6).map(Number);
    expect(Math.min(...late)).toBeGreaterThanOrEqual(1000);
    expect(Math.max(...late)).toBeLessThanOrEqual(2000);
  });

  test('what cannot be read is told as invalid, once, and set when it is mended', async () => {
    const store = createMemoryStore();
    const place = '/calico/resources/v3/projectcalico.org/ippools/a';
    store.plant(place, '{"kind":"IPPool"}');
    const syncer = start(store);
    await until(() => syncer.told().includes('inSync'), soon('inSync'));
    store.disconnect();
    await until(() => syncer.told().includes('connection false'), soon('the loss'));
    store.connect();
    await until(() => syncer.told().includes('connection true'), soon('the return'));
    store.plant(place, JSON.stringify(pool('a')));
    await until(() => syncer.told().includes('set IPPool/a'), soon('the mended value'));
    expect(syncer.told().filter((line) => line === 'invalid IPPool/a')).toHaveLength(1);
    await syncer.stop();
  });

  test('lists show one moment: what changes between two lists is not told twice or backwards', async () => {
    const store = createMemoryStore();
    await store.create(key('a'), pool('a'));
    const listed: (string | undefined)[] = [];
    const slow: Store = Object.assign(Object.create(store), {
      watch: (...request: Parameters<Store['watch']>) => store.watch(...request),
      list: async (type: Type, scope?: { revision?: string }): Promise<Listing<Type>> => {
        listed.push(scope?.revision);
        const found = await store.list(type, scope);
        await store.create(key(`during-${listed.length}`), pool(`during-${listed.length}`));
        return found;
      },
    });
    const syncer = start(slow, ['Block', 'IPPool']);
    await until(() => syncer.known.size === 3, soon('three pools'));
    expect(syncer.told()).toEqual(['set IPPool/a', 'listed', 'inSync', 'set IPPool/during-1', 'set IPPool/during-2']);
    expect(listed[1]).toBeDefined();
    await syncer.stop();
  });

  test('an error of the consumer is a defect and ends it', async () => {
    const store = createMemoryStore();
    const consumer = () => {
      throw new TypeError('defect');
    };
    const log = createLog('test', 'silent');
    const { signal } = new AbortController();
    await expect(sync({ store, types: ['IPPool'], consumer, log, clock: systemClock, signal })).rejects.toThrow(
      'defect',
    );
  });

  test('an etcd that is down at first, dies, and is compacted meanwhile: nothing is missed', async () => {
    const etcd = await startEtcd();
    const config = { type: 'etcdv3', endpoints: [etcd.endpoint] } as const;
    const log = createLog('test', 'silent');
    await etcd.kill();
    const store = createEtcdStore(config, log);
    const writer = createEtcdStore(config, log);
    const syncer = start(store);
    try {
      await until(() => syncer.lines.some((line) => line.includes(etcd.endpoint)), soon('a line naming the endpoint'));
      await etcd.restart();
      await until(() => syncer.told().includes('inSync'), soon('inSync'));
      for (let index = 0; index < 20; index++) {
        await until(() => writer.create(key(`p${index}`), pool(`p${index}`)), soon('a write'));
        if (index % 7 === 3) await etcd.restart();
      }
      await writer.delete(key('p5'));
      const { entries } = await writer.list('IPPool');
      expect(entries).toHaveLength(19);
      const same = () => entries.every((entry) => syncer.known.get(keyText(entry.key)) === entry.revision);
      await until(() => syncer.known.size === entries.length && same(), soon('the whole picture, and nothing else'));
    } finally {
      await syncer.stop();
      store.close();
      writer.close();
      await etcd.stop();
    }
  });
});
