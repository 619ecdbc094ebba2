import { afterAll, beforeAll } from 'vitest';
import { apiContract } from '../contract/kubernetes-api.ts';
import { until } from '../support/wait.ts';
import { ControlPlane } from './control-plane.ts';
import { applyDefinitions } from './definitions.ts';

/* What the test's own API server is held to, of a live one: where they differ, the test's own is wrong. */

let cluster: ControlPlane;
let count = 0;
beforeAll(async () => {
  cluster = await ControlPlane.start();
  await applyDefinitions(cluster);
});
afterAll(() => cluster?.stop());

apiContract('a live server', async () => {
  const namespace = `own-${count++}`;
  await cluster.run(['create', 'namespace', namespace]);
  const account = () => cluster.get('-n', namespace, 'serviceaccount', 'default');
  await until(account, { within: 30_000, what: 'the account of the namespace' });
  const access = { by: 'kubeconfig', files: [cluster.adminKubeconfig] } as const;
  return {
    config: { type: 'kubernetes', access, interfacePrefix: 'cali' },
    namespace,
    compact: () => cluster.compact(),
    close: async () => {
      await cluster.run(['-n', namespace, 'delete', 'pods', '--all', '--grace-period=0', '--force']);
      await cluster.run(['delete', 'namespace', namespace, '--wait=false']);
    },
  };
});
