import { isDeepStrictEqual } from 'node:util';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { InputError } from '../../src/base/errors.ts';
import { type Event, GoneError, type Key, type Store, type Value } from '../../src/datastore/store.ts';
import { parseCidr } from '../../src/model/address.ts';
import type { Block } from '../../src/model/ipam.ts';
import { until } from '../support/wait.ts';

/** A store under test, and what the suite does to it from outside. */
export interface Subject {
  readonly store: Store;
  /** Where keys and texts below are not etcd's, the subject translates them; what is exact to the byte is not asked. */
  readonly layout: 'etcd' | 'kubernetes' | 'kubernetes-v3';
  /** Stores a raw text as another client would. */
  plant(key: string, text: string): Promise<void>;
  /** The raw text, as another client would read it. */
  raw(key: string): Promise<string | undefined>;
  /** Forgets history up to now; absent where nobody can ask for that. */
  compact?(): Promise<void>;
  close(): Promise<void>;
}

const poolKey = (name: string) => ({ type: 'IPPool', name }) as const;

function pool(name: string, cidr = '10.65.0.0/16', more: object = {}): Value<'IPPool'> {
  const spec = { cidr, ...more };
  return { kind: 'IPPool', apiVersion: 'projectcalico.org/v3', metadata: { name }, spec } as Value<'IPPool'>;
}

const cidr = parseCidr('10.65.3.64/30');
const block: Block = {
  cidr,
  affinity: 'host:rack7-n3',
  affinity_claim_time: '2026-03-02T10:11:12Z',
  allocations: [0, null, null, null],
  unallocated: [1, 2, 3],
  attributes: [{ handle_id: 'k8s-pod-network.9c1f', secondary: { node: 'rack7-n3' } }],
  sequenceNumber: 1772446272000000001n,
  sequenceNumberForAllocation: { 0: 1772446272000000000n },
  deleted: false,
};

/** What every driver promises. */
export function storeContract(name: string, open: () => Promise<Subject>): void {
  describe(`store: ${name}`, () => {
    let subject: Subject;
    let store: Store;
    const ends: AbortController[] = [];
    beforeEach(async () => {
      subject = await open();
      store = subject.store;
    });
    afterEach(async () => {
      for (const end of ends.splice(0)) end.abort();
      await subject.close();
    });

    async function created<K extends 'IPPool'>(key: Key<K> & { type: K }, value: Value<K>) {
      const made = await store.create(key, value);
      if (made.outcome !== 'written') throw new Error(`create: ${made.outcome}`);
      return made.entry;
    }

    /** Collects a watch's events until the test ends. */
    function follow(types: Parameters<Store['watch']>[0], revision: string) {
      const end = new AbortController();
      ends.push(end);
      const seen: Event[] = [];
      const ended = (async () => {
        for await (const events of store.watch(types, revision, end.signal)) seen.push(...events);
      })();
      const outcome = ended.then(
        () => 'ended' as const,
        (thrown: unknown) => thrown,
      );
      return { seen, outcome, end };
    }

    test('create, read, update and delete by revision', async () => {
      const key = poolKey('a');
      expect(await store.get(key)).toBeUndefined();
      const first = await created(key, pool('a'));
      expect((await store.get(key))?.revision).toBe(first.revision);
      expect(await store.create(key, pool('a'))).toEqual({ outcome: 'conflict' });
      const second = await store.update(key, pool('a', '10.66.0.0/16'), first.revision);
      expect(second.outcome).toBe('written');
      expect(await store.update(key, pool('a'), first.revision)).toEqual({ outcome: 'conflict' });
      expect(await store.delete(key, first.revision)).toEqual({ outcome: 'conflict' });
      expect((await store.get(key))?.value.spec.cidr).toBe('10.66.0.0/16');
      expect(await store.delete(key)).toEqual({ outcome: 'written' });
      expect(await store.delete(key)).toEqual({ outcome: 'missing' });
      expect(await store.delete(key, first.revision)).toEqual({ outcome: 'missing' });
      expect(await store.update(key, pool('a'), first.revision)).toEqual({ outcome: 'missing' });
    });

    test('a new resource gets a uid and a time, keeps them, and never stores its revision', async () => {
      const { value } = await created(poolKey('a'), pool('a'));
      expect(value.metadata.uid).toMatch(/^[0-9a-f-]{36}$/);
      expect(value.metadata.creationTimestamp).toMatch(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$/);
      const read = await store.get(poolKey('a'));
      expect(read?.value.metadata.resourceVersion).toBe(read?.revision);
      if (read) await store.update(poolKey('a'), read.value, read.revision);
      const text = await subject.raw('/calico/resources/v3/projectcalico.org/ippools/a');
      expect(text).not.toContain('resourceVersion');
      if (subject.layout !== 'kubernetes') expect(JSON.parse(text ?? '').metadata.uid).toBe(value.metadata.uid);
    });

    test('sequence numbers beyond 2^53 stay exact', async () => {
      await store.create({ type: 'Block', cidr }, block);
      expect(await subject.raw('/calico/ipam/v2/assignment/ipv4/block/10.65.3.64-30')).toContain(
        `"sequenceNumber":1772446272000000001,"sequenceNumberForAllocation":{"0":1772446272000000000},${subject.layout === 'etcd' ? '"deleted":false}' : ''}`,
      );
      expect((await store.get({ type: 'Block', cidr }))?.value).toEqual(block);
    });

    test('fields of other versions survive a read and an update', async () => {
      const key = '/calico/resources/v3/projectcalico.org/ippools/a';
      const spec = { cidr: '10.0.0.0/16', fromTheFuture: { list: [1, 1772446272000000000] } };
      const text = JSON.stringify({ ...pool('a'), spec }).replace('1772446272000000000', '1772446272000000001');
      await subject.plant(key, text);
      const read = await store.get(poolKey('a'));
      if (!read) return expect.fail('nothing there');
      await store.update(poolKey('a'), { ...read.value, spec: { ...read.value.spec, disabled: true } }, read.revision);
      expect(await subject.raw(key)).toContain('"fromTheFuture":{"list":[1,1772446272000000001]}');
    });

    test('a list holds one type only, in order, and names what it cannot read', async () => {
      for (const name of ['b', 'a', 'c']) await created(poolKey(name), pool(name));
      await subject.plant('/calico/resources/v3/projectcalico.org/ippools/d', '{"kind":"IPPool"');
      await subject.plant('/calico/resources/v3/projectcalico.org/ippoolsx/e', '{}');
      const list = await store.list('IPPool');
      expect(list.entries.map(({ key }) => key.name)).toEqual(['a', 'b', 'c']);
      expect(list.invalid.map(({ key }) => key)).toEqual([poolKey('d')]);
      expect(list.invalid[0]?.error).toBeInstanceOf(InputError);
      await expect(store.get(poolKey('d'))).rejects.toThrow(InputError);
    });

    test('a list narrows to a host or a namespace, and to an earlier revision', async () => {
      const affinity = { state: 'confirmed', deleted: false } as const;
      for (const host of ['n1', 'n10']) await store.create({ type: 'BlockAffinity', host, cidr }, affinity);
      const narrow = await store.list('BlockAffinity', { host: 'n1' });
      expect(narrow.entries.map(({ key }) => key.host)).toEqual(['n1']);
      await store.delete({ type: 'BlockAffinity', host: 'n1', cidr });
      expect((await store.list('BlockAffinity', { host: 'n1' })).entries).toEqual([]);
      const before = await store.list('BlockAffinity', { revision: narrow.revision });
      expect(before.entries.map(({ key }) => key.host)).toEqual(['n1', 'n10']);
      expect(before.revision).toBe(narrow.revision);
      if (!subject.compact) return;
      await subject.compact();
      await expect(store.list('BlockAffinity', { revision: narrow.revision })).rejects.toThrow(GoneError);
    });

    test('a value that could not be read back is refused on writing', async () => {
      await expect(store.create(poolKey('a'), pool('a', 'nonsense'))).rejects.toThrow(InputError);
      const short = { ...block, allocations: [0] };
      await expect(store.create({ type: 'Block', cidr }, short)).rejects.toThrow(/allocations/);
      await expect(store.create(poolKey('a/b'), pool('a/b'))).rejects.toThrow(InputError);
      await expect(store.create(poolKey('b'), pool('a'))).rejects.toThrow(InputError);
    });

    test('a transaction says which write failed; none stands where it is atomic, else those before', async () => {
      const a = await created(poolKey('a'), pool('a'));
      const stale = await created(poolKey('s'), pool('s'));
      await store.update(poolKey('s'), pool('s', '10.9.0.0/16'), stale.revision);
      const refused = await store.transact([
        { op: 'create', key: poolKey('b'), value: pool('b') },
        { op: 'delete', key: poolKey('a'), revision: a.revision },
        { op: 'update', key: poolKey('s'), value: pool('s'), revision: stale.revision },
        { op: 'create', key: poolKey('c'), value: pool('c') },
      ]);
      const names = (await store.list('IPPool')).entries.map(({ key }) => key.name);
      if (store.atomic) {
        expect(refused).toEqual({ outcome: 'conflict', failed: 2 });
        expect(names).toEqual(['a', 's']);
      } else {
        const standing = [(await store.get(poolKey('b')))?.revision, undefined];
        expect(refused).toEqual({ outcome: 'conflict', failed: 2, standing });
        expect(names).toEqual(['b', 's']);
      }
    });

    test('a transaction gives the new revision of every write', async () => {
      const a = await created(poolKey('a'), pool('a'));
      const done = await store.transact([
        { op: 'create', key: poolKey('b'), value: pool('b') },
        { op: 'delete', key: poolKey('a'), revision: a.revision },
      ]);
      if (done.outcome !== 'written') return expect.fail(done.outcome);
      expect(done.revisions[1]).toBeUndefined();
      expect((await store.get(poolKey('b')))?.revision).toBe(done.revisions[0]);
      expect(await store.get(poolKey('a'))).toBeUndefined();
    });

    test('a watch gives every change after its revision, in order, of its types only', async () => {
      await created(poolKey('before'), pool('before'));
      const pools = await store.list('IPPool');
      const { revision } = await store.list('Block', { revision: pools.revision });
      const watch = follow(['IPPool', 'Block'], revision);
      const a = await created(poolKey('a'), pool('a'));
      await store.create({ type: 'Handle', id: 'h' }, { block: {}, deleted: false });
      await store.create({ type: 'Block', cidr }, block);
      await store.update(poolKey('a'), pool('a', '10.7.0.0/16'), a.revision);
      await subject.plant('/calico/resources/v3/projectcalico.org/ippools/bad', 'not JSON');
      await store.delete(poolKey('a'));
      await until(() => watch.seen.length >= 5, { within: 5000, what: 'five events' });
      const told = watch.seen.map((event) => [event.op, (event.op === 'delete' ? event : event.entry).key]);
      const ofBlock = ['set', { type: 'Block', cidr }];
      const ofPools = [
        ['set', poolKey('a')],
        ['set', poolKey('a')],
        ['invalid', poolKey('bad')],
        ['delete', poolKey('a')],
      ];
      expect(told).toContainEqual(ofBlock);
      if (store.atomic) expect(told.indexOf(told.find((each) => isDeepStrictEqual(each, ofBlock)) ?? [])).toBe(1);
      expect(told.filter((each) => !isDeepStrictEqual(each, ofBlock))).toEqual(ofPools);
      watch.end.abort();
      expect(await watch.outcome).toBe('ended');
    });

    test('a watch takes up after an earlier revision, and says so when that is compacted', async () => {
      const { revision } = await store.list('IPPool');
      for (let index = 0; index < 30; index++) await created(poolKey(`p${index}`), pool(`p${index}`));
      const late = follow(['IPPool'], revision);
      await until(() => late.seen.length === 30, { within: 5000, what: 'thirty events' });
      if (!subject.compact) return;
      await subject.compact();
      expect(await follow(['IPPool'], revision).outcome).toBeInstanceOf(GoneError);
      await created(poolKey('after'), pool('after'));
      await until(() => late.seen.length === 31, { within: 5000, what: 'the running watch goes on' });
    });

    test('a policy keeps its own name in an annotation that readers do not see', async () => {
      const key = { type: 'NetworkPolicy', namespace: 'shop', name: 'web' } as const;
      const value = {
        kind: 'NetworkPolicy',
        apiVersion: 'projectcalico.org/v3',
        metadata: { name: 'web', namespace: 'shop', annotations: { note: 'x' } },
        spec: {},
      } as Value<'NetworkPolicy'>;
      await store.create(key, value);
      const place = '/calico/resources/v3/projectcalico.org/networkpolicies/shop/';
      const text = JSON.parse((await subject.raw(`${place}web`)) ?? '');
      if (subject.layout === 'kubernetes-v3') {
        expect(text.metadata).toMatchObject({ name: 'web', annotations: { note: 'x' } });
        expect((await store.get(key))?.value.metadata.annotations).toEqual({ note: 'x' });
        return;
      }
      const own = text.metadata.annotations['projectcalico.org/metadata'];
      if (subject.layout === 'kubernetes') expect(JSON.parse(own)).toEqual({ name: 'web', annotations: { note: 'x' } });
      else expect(text.metadata.annotations).toEqual({ note: 'x', 'projectcalico.org/metadata': '{"name":"web"}' });
      expect((await store.get(key))?.value.metadata.annotations).toEqual({ note: 'x' });
      await subject.plant(
        `${place}default.old`,
        JSON.stringify({ ...value, metadata: { name: 'default.old', namespace: 'shop' } }),
      );
      const old = await store.get({ ...key, name: 'default.old' });
      expect(old?.value.metadata.name).toBe('old');
      if (old) await store.update(old.key, old.value, old.revision);
      expect(await subject.raw(`${place}default.old`)).toContain('{\\"name\\":\\"old\\"');
    });
  });
}
