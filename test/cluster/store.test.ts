import { afterAll, beforeAll } from 'vitest';
import { calicoGroup, v3Group } from '../../src/datastore/kubernetes/resources.ts';
import { storeContract } from '../contract/store.ts';
import { subjectBehind } from '../support/kubernetes/real.ts';
import { ControlPlane } from './control-plane.ts';
import { applyDefinitions, applyNativeDefinitions } from './definitions.ts';

/*
 * The store's contract on a live API server, in both forms of Calico's objects. A server without its cache of watches
 * answers from etcd's history, and so knows at once that it was compacted; one with it goes on with what it has seen.
 */

let cached: ControlPlane;
let direct: ControlPlane;
beforeAll(async () => {
  [cached, direct] = await Promise.all([
    ControlPlane.start(),
    ControlPlane.start({ apiServerOptions: ['--watch-cache=false'] }),
  ]);
  for (const cluster of [cached, direct]) {
    await applyDefinitions(cluster);
    await applyNativeDefinitions(cluster);
    await cluster.run(['create', 'namespace', 'margay-test']);
  }
});
afterAll(() => Promise.all([cached?.stop(), direct?.stop()]));

for (const group of [calicoGroup, v3Group] as const) {
  storeContract(`a live API server, ${group}`, () => subjectBehind(cached.adminKubeconfig, group));
  storeContract(`a live API server that forgets, ${group}`, async () => ({
    ...(await subjectBehind(direct.adminKubeconfig, group)),
    compact: () => direct.compact(),
  }));
}
