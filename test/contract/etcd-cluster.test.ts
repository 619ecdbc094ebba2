import { Etcd3 } from 'etcd3';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { Backoff } from '../../src/base/backoff.ts';
import { systemClock } from '../../src/base/clock.ts';
import { createLog } from '../../src/base/log.ts';
import { createEtcdStore, type EtcdOptions } from '../../src/datastore/etcd.ts';
import { keyText, type Store, type Value } from '../../src/datastore/store.ts';
import { sync } from '../../src/datastore/syncer.ts';
import type { Update } from '../../src/datastore/update.ts';
import { startEtcd, startEtcdCluster, type TestEtcd } from '../support/etcd.ts';
import { startLossyRelay } from '../support/lossy-relay.ts';
import { until } from '../support/wait.ts';

const quiet = createLog('test', 'silent');
const soon = (what: string) => ({ within: 20_000, what });
const key = (name: string) => ({ type: 'IPPool', name }) as const;
const pool = (name: string) =>
  ({
    kind: 'IPPool',
    apiVersion: 'projectcalico.org/v3',
    metadata: { name },
    spec: { cidr: '10.0.0.0/16' },
  }) as Value<'IPPool'>;

const openAll = (members: readonly TestEtcd[], options: EtcdOptions = {}) =>
  createEtcdStore({ type: 'etcdv3', endpoints: members.map(({ endpoint }) => endpoint) }, quiet, options);

/** Follows pools; `known` is what its consumer has, `told` how. */
function follow(store: Store) {
  const end = new AbortController();
  const known = new Map<string, string>();
  const told: string[] = [];
  const lines: string[] = [];
  const consumer = (update: Update) => {
    if (update.op !== 'events') return void told.push(update.op);
    for (const event of update.events) {
      const text = keyText(event.op === 'delete' ? event.key : event.entry.key);
      told.push(`${event.op} ${text}`);
      if (event.op === 'delete') known.delete(text);
      else if (event.op === 'set') known.set(text, event.entry.revision);
    }
  };
  const log = createLog('test', 'info', { write: (line) => lines.push(line) });
  const { signal } = end;
  const backoff = new Backoff(5, 50);
  const done = sync({ store, types: ['IPPool'], consumer, log, clock: systemClock, signal, backoff });
  const stop = () => {
    end.abort();
    return done;
  };
  return { known, told, lines, stop };
}

/** The member that leads, as etcd says. */
async function leaderOf(members: readonly TestEtcd[]): Promise<TestEtcd> {
  for (const member of members) {
    const raw = new Etcd3({ hosts: member.endpoint });
    try {
      const { leader, header } = await raw.maintenance.status();
      if (leader === header.member_id) return member;
    } finally {
      raw.close();
    }
  }
  throw new Error('no member leads');
}

describe('three members', () => {
  let members: readonly TestEtcd[] = [];
  beforeAll(async () => {
    members = await startEtcdCluster(3);
  }, 60_000);
  afterAll(() => Promise.all(members.map((member) => member.stop())));

  test('the watched member dies, the leader dies, one hangs: writes go on and the syncer ends with the whole picture', async () => {
    const quick = { timeoutMs: 1000, probeMs: 100 };
    const store = openAll(members, quick);
    const writer = openAll([...members].reverse(), quick);
    const syncer = follow(store);
    let count = 0;
    const write = async (pools: number) => {
      for (const last = count + pools; count < last; count++) {
        const name = `p${count}`;
        await until(() => writer.create(key(name), pool(name)), soon('a write'));
        await until(() => syncer.known.has(keyText(key(name))), soon(`${name} at the syncer`));
      }
    };
    try {
      await until(() => syncer.told.includes('inSync'), soon('inSync'));
      await write(5);
      const [first] = members;
      await first?.kill();
      await write(5);
      await first?.restart();
      const leader = await until(() => leaderOf(members), soon('a leader'));
      await leader.kill();
      await write(5);
      await leader.restart();
      const hung = await until(() => leaderOf(members), soon('a leader again'));
      hung.freeze();
      await write(5);
      hung.thaw();
      await until(() => writer.delete(key('p7')).then(({ outcome }) => outcome !== 'conflict'), soon('a deletion'));
      const { entries } = await until(() => writer.list('IPPool'), soon('the list'));
      expect(entries).toHaveLength(count - 1);
      const same = () => entries.every((entry) => syncer.known.get(keyText(entry.key)) === entry.revision);
      await until(() => syncer.known.size === entries.length && same(), soon('the whole picture'));
      expect(syncer.told.filter((line) => line.startsWith('delete'))).toEqual(['delete IPPool/p7']);
    } finally {
      for (const member of members) member.thaw();
      await syncer.stop();
      store.close();
      writer.close();
    }
  });
});

describe('one member', () => {
  let etcd: TestEtcd;
  let raw: Etcd3;
  beforeAll(async () => {
    etcd = await startEtcd();
    raw = new Etcd3({ hosts: etcd.endpoint });
  });
  afterAll(async () => {
    raw?.close();
    await etcd?.stop();
  });

  const compact = async () => {
    const { header } = await raw.kv.range({ key: Buffer.from('x') });
    await raw.kv.compact({ revision: header.revision });
  };

  test('compacted away between list and watch: it lists again, and tells the difference only', async () => {
    const store = openAll([etcd]);
    let watches = 0;
    const behind: Store = Object.assign(Object.create(store), {
      watch: async function* (...request: Parameters<Store['watch']>) {
        if (watches++ === 0) {
          await store.delete(key('gone'));
          await store.create(key('new'), pool('new'));
          await compact();
        }
        yield* store.watch(...request);
      },
    });
    for (const name of ['gone', 'same']) await store.create(key(name), pool(name));
    const syncer = follow(behind);
    try {
      await until(() => syncer.told.filter((line) => line === 'listed').length === 2, soon('a second list'));
      expect(syncer.told).toEqual([
        ...['set IPPool/gone', 'set IPPool/same', 'listed', 'inSync'],
        ...['delete IPPool/gone', 'set IPPool/new', 'listed'],
      ]);
      expect(syncer.lines.some((line) => line.includes('listing again'))).toBe(true);
    } finally {
      await syncer.stop();
      await store.delete(key('same'));
      await store.delete(key('new'));
      store.close();
    }
  });

  test('a connection that the network lost is given up for a new one, by calls and by the watch', async () => {
    const relay = await startLossyRelay(etcd.endpoint);
    const endpoints = [relay.endpoint];
    const store = createEtcdStore({ type: 'etcdv3', endpoints }, quiet, { timeoutMs: 300, probeMs: 100 });
    const direct = openAll([etcd]);
    const syncer = follow(store);
    try {
      await until(() => syncer.told.includes('inSync'), soon('inSync'));
      for (const name of ['lost-once', 'lost-twice']) {
        expect(relay.lose()).toBeGreaterThan(0);
        await direct.create(key(name), pool(name));
        await until(() => syncer.known.has(keyText(key(name))), soon(`${name} at the syncer`));
      }
      relay.lose();
      await expect(store.list('IPPool')).rejects.toThrow(relay.endpoint);
      expect((await store.list('IPPool')).entries).toHaveLength(2);
    } finally {
      await syncer.stop();
      for (const name of ['lost-once', 'lost-twice']) await direct.delete(key(name));
      for (const each of [store, direct]) each.close();
      relay.close();
    }
  });

  test('1,201 keys in chunks of 500 are one moment, whatever is written meanwhile', async () => {
    const store = openAll([etcd]);
    const name = (at: number) => `n${String(at).padStart(4, '0')}`;
    const place = (at: number) => `/calico/resources/v3/projectcalico.org/ippools/${name(at)}`;
    const names = Array.from({ length: 1201 }, (_, at) => name(at));
    try {
      for (let from = 0; from < names.length; from += 100)
        await Promise.all(
          names.slice(from, from + 100).map((each, at) => raw.put(place(from + at)).value(JSON.stringify(pool(each)))),
        );
      expect((await store.list('IPPool')).entries.map(({ key }) => keyText(key))).toEqual(
        names.map((each) => `IPPool/${each}`),
      );
      const listing = store.list('IPPool');
      // From the far end, so that a list that did not hold on to its first revision would miss them.
      const removed = [1200, 1199, 1198, 600, 0].map((at) => store.delete(key(name(at))));
      const { entries, revision } = await listing;
      await Promise.all(removed);
      const then = await store.list('IPPool', { revision });
      expect(entries.map((entry) => keyText(entry.key))).toEqual(then.entries.map((entry) => keyText(entry.key)));
      expect((await store.list('IPPool')).entries).toHaveLength(1196);
      // The revision that is compacted last stays readable, and nothing may have been written since the list.
      await store.delete(key(name(1)));
      await expect(compact().then(() => store.list('IPPool', { revision }))).rejects.toThrow('compacted');
    } finally {
      store.close();
    }
  });
});
