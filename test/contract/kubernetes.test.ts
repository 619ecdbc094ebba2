import { parseJson } from '../../src/datastore/json.ts';
import { objectOfText, placeOfEtcdKey, startCluster } from '../support/kubernetes/cluster.ts';
import { storeContract } from './store.ts';

storeContract('Kubernetes', async () => {
  const cluster = await startCluster();
  const { api } = cluster;
  await api.create('namespaces', { metadata: { name: 'shop' } });
  return {
    // Small chunks, so that lists take several calls.
    store: cluster.open({ chunk: 2 }),
    layout: 'kubernetes',
    plant: async (key, text) => {
      const place = placeOfEtcdKey(key);
      if (!place) return;
      await api.create(place.id, objectOfText(place.name, place.namespace, text, parseJson));
    },
    raw: async (key) => {
      const place = placeOfEtcdKey(key);
      return place && (await api.storage.kv.get(`/registry/${place.id}/${place.namespace}/${place.name}`))?.value;
    },
    compact: async () => api.compact(),
    close: () => cluster.close(),
  };
});
