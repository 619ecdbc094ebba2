import { expect, test } from 'vitest';
import { DatastoreGate } from '../../../src/cni/gate.ts';
import { createMemoryStore } from '../../../src/datastore/memory.ts';

const key = { type: 'ClusterInformation', name: 'default' } as const;
const value = (datastoreReady: boolean) =>
  ({
    kind: 'ClusterInformation',
    apiVersion: 'projectcalico.org/v3',
    metadata: { name: 'default' },
    spec: { datastoreReady },
  }) as const;

function setUp() {
  const store = createMemoryStore();
  return { store, gate: new DatastoreGate(store) };
}

test('without a ClusterInformation the datastore is ready', () => setUp().gate.requireReady());

test('unfed, it reads the store', async () => {
  const { store, gate } = setUp();
  await store.create(key, value(false));
  await expect(gate.requireReady()).rejects.toMatchObject({ code: 11 });
});

test('fed, it goes by the updates and reads nothing', async () => {
  const { store, gate } = setUp();
  gate.consume({ op: 'events', events: [{ op: 'set', entry: { key, value: value(false), revision: '1' } }] });
  gate.consume({ op: 'inSync' });
  await expect(gate.requireReady()).rejects.toMatchObject({ code: 11 });
  gate.consume({ op: 'events', events: [{ op: 'delete', key }] });
  await store.create(key, value(false));
  await gate.requireReady();
});

test('while the connection is lost it reads, so that an unreachable store is told as such', async () => {
  const { store, gate } = setUp();
  gate.consume({ op: 'inSync' });
  gate.consume({ op: 'connection', up: false });
  store.disconnect();
  await expect(gate.requireReady()).rejects.toMatchObject({ name: 'StoreUnavailableError' });
  gate.consume({ op: 'connection', up: true });
  await gate.requireReady();
  await expect(gate.requireReachable()).rejects.toMatchObject({ name: 'StoreUnavailableError' });
});

test('STATUS and DEL ask no store that is known to be away', async () => {
  const { store, gate } = setUp();
  gate.consume({ op: 'inSync' });
  gate.consume({ op: 'connection', up: false });
  store.get = () => expect.fail('asked');
  await expect(gate.requireReachable()).rejects.toMatchObject({ name: 'StoreUnavailableError' });
  await expect(gate.requireReadyNow()).rejects.toMatchObject({ name: 'StoreUnavailableError' });
});
