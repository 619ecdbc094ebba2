import { afterAll, beforeAll, expect, test } from 'vitest';
import { createLog } from '../../src/base/log.ts';
import { createEtcdStore } from '../../src/datastore/etcd.ts';
import { type Store, StoreUnavailableError } from '../../src/datastore/store.ts';
import type { Assignment } from '../../src/ipam/allocator.ts';
import { startEtcd, type TestEtcd } from '../support/etcd.ts';
import { ipamOf, poolValue } from '../support/ipam.ts';
import { until } from '../support/wait.ts';

let etcd: TestEtcd;
beforeAll(async () => {
  etcd = await startEtcd();
});
afterAll(() => etcd.stop());

test('nodes on a real etcd that is killed between never share an address, and nothing leaks', async () => {
  const stores: Store[] = [];
  const open = () => {
    const store = createEtcdStore({ type: 'etcdv3', endpoints: [etcd.endpoint] }, createLog('test', 'silent'));
    stores.push(store);
    return store;
  };
  const store = open();
  const { signal } = new AbortController();
  const pool = poolValue('p', '10.65.0.0/26', { blockSize: 29 });
  await store.create({ type: 'IPPool', name: 'p' }, pool);
  const nodes = ['n1', 'n2', 'n3'].map((name) => ipamOf(open(), name));
  const held = new Map<string, string>();
  const handles: string[] = [];

  const assignAll = async (round: number) => {
    const work = nodes.flatMap((ipam, at) =>
      Array.from({ length: 8 }, async (): Promise<[string, Assignment[]]> => {
        const handle = `net.${round}-${at}-${handles.length}`;
        handles.push(handle);
        const request = { handle, families: [4] as const, attributes: {} };
        const given = await ipam.assign(request, signal).catch((thrown: unknown) => {
          if (thrown instanceof StoreUnavailableError) return [];
          throw thrown;
        });
        return [handle, given];
      }),
    );
    for (const [handle, given] of await Promise.all(work))
      for (const { address } of given) {
        expect(held.get(address), `${address} is given twice`).toBeUndefined();
        held.set(address, handle);
      }
  };

  try {
    await assignAll(1);
    expect(held.size).toBe(24);
    const during = assignAll(2);
    await etcd.restart();
    await during;
    await until(() => store.list('Handle'), { within: 10_000, what: 'etcd answers again' });
    for (const [address, handle] of held)
      expect((await nodes[0]?.byHandle(handle))?.map((assignment) => assignment.address)).toContain(address);
    for (const handle of handles) await nodes[2]?.release({ handle });
    expect((await store.list('Handle')).entries).toEqual([]);
    for (const { value } of (await store.list('Block')).entries)
      expect(value.allocations.every((index) => index === null)).toBe(true);
  } finally {
    for (const each of stores) each.close();
  }
});
