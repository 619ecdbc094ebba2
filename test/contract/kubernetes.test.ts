import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseJson } from '../../src/datastore/json.ts';
import { kubeconfig, objectOfText, placeOfEtcdKey, startCluster } from '../support/kubernetes/cluster.ts';
import { v3Resources } from '../support/kubernetes/objects.ts';
import { subjectBehind } from '../support/kubernetes/real.ts';
import { type Subject, storeContract } from './store.ts';

/*
 * The contract on the test API server, by a service account and by a kubeconfig; and on a real cluster that
 * MARGAY_TEST_KUBECONFIG names, where expiry cannot be asked for and is left out.
 */

/** A store on a cluster with Calico's definitions in a group, which the store finds out. */
async function inCluster(layout: 'kubernetes' | 'kubernetes-v3'): Promise<Subject> {
  const v3 = layout === 'kubernetes-v3';
  const group = v3 ? 'projectcalico.org' : 'crd.projectcalico.org';
  const cluster = await startCluster(v3 ? { resources: v3Resources } : {});
  const { api } = cluster;
  await api.create('namespaces', { metadata: { name: 'shop' } });
  return {
    // Small chunks, so that lists take several calls.
    store: cluster.open({ chunk: 2 }),
    layout,
    plant: async (key, text) => {
      const place = placeOfEtcdKey(key, group);
      if (place) await api.create(place.id, objectOfText(place.name, place.namespace, text, parseJson));
    },
    raw: async (key) => {
      const place = placeOfEtcdKey(key, group);
      return place && (await api.storage.kv.get(`/registry/${place.id}/${place.namespace}/${place.name}`))?.value;
    },
    compact: async () => api.compact(),
    close: () => cluster.close(),
  };
}

storeContract('Kubernetes', () => inCluster('kubernetes'));
storeContract('Kubernetes with native definitions', () => inCluster('kubernetes-v3'));

const real = process.env['MARGAY_TEST_KUBECONFIG'];
if (real) storeContract('a real cluster', () => subjectBehind(real));

storeContract('Kubernetes by a kubeconfig', async () => {
  const directory = await mkdtemp(join(tmpdir(), 'margay-kubeconfig-'));
  const cluster = await startCluster();
  await cluster.api.create('namespaces', { metadata: { name: 'margay-test' } });
  cluster.api.tokens = new Set(['secret']);
  const file = join(directory, 'config');
  await writeFile(file, kubeconfig(cluster.api.url, { token: 'secret' }));
  const clear = async () => {
    await cluster.close();
    await rm(directory, { recursive: true, force: true });
  };
  const subject = await subjectBehind(file).catch(async (thrown: unknown) => {
    await clear();
    throw thrown;
  });
  return {
    ...subject,
    compact: async () => cluster.api.compact(),
    close: async () => {
      await subject.close();
      await clear();
    },
  };
});
