import { startCluster } from '../support/kubernetes/cluster.ts';
import { apiContract } from './kubernetes-api.ts';

apiContract('the test’s own server', async () => {
  const cluster = await startCluster();
  await cluster.api.create('namespaces', { metadata: { name: 'shop' } });
  return {
    config: cluster.config,
    namespace: 'shop',
    compact: async () => cluster.api.compact(),
    close: () => cluster.close(),
  };
});
