import { afterAll, beforeAll, test } from 'vitest';
import { createLog } from '../../src/base/log.ts';
import { createEtcdStore } from '../../src/datastore/etcd.ts';
import type { Store } from '../../src/datastore/store.ts';
import { startEtcd, type TestEtcd } from '../support/etcd.ts';
import { playOutage } from '../support/ipam-outage.ts';
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
  try {
    await playOutage(open, async (during) => {
      await etcd.restart();
      await during;
      const store = open();
      await until(() => store.list('Handle'), { within: 10_000, what: 'etcd answers again' });
    });
  } finally {
    for (const each of stores) each.close();
  }
});
