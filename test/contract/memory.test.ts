import { createMemoryStore } from '../../src/datastore/memory.ts';
import { storeContract } from './store.ts';

storeContract('memory', async () => {
  const store = createMemoryStore();
  return {
    store,
    layout: 'etcd',
    plant: async (key, text) => store.plant(key, text),
    raw: async (key) => store.dump().get(key),
    compact: async () => store.compact(),
    close: async () => store.close(),
  };
});
