import { afterAll, beforeAll, expect, test } from 'vitest';
import { ControlPlane } from './control-plane.ts';

/* The control plane of the other tests: that it authenticates, authorizes and validates as a cluster does. */

let cluster: ControlPlane;
beforeAll(async () => {
  cluster = await ControlPlane.start();
});
afterAll(() => cluster?.stop());

test('a service account comes in by a signed token, and may do what a role says', async () => {
  const file = await cluster.accountKubeconfig('default', 'default');
  const asked = ['get', 'nodes', '--kubeconfig', file];
  const refused = await cluster.kubectl(asked);
  expect(refused.stderr).toContain('User "system:serviceaccount:default:default" cannot list resource "nodes"');
  await cluster.run(['create', 'clusterrole', 'reader', '--verb=list', '--resource=nodes']);
  await cluster.run([
    'create',
    'clusterrolebinding',
    'reader',
    '--clusterrole=reader',
    '--serviceaccount=default:default',
  ]);
  expect((await cluster.kubectl(asked)).code).toBe(0);
});

test('objects are checked by the server, and outlive it', async () => {
  const pod = { apiVersion: 'v1', kind: 'Pod', metadata: { name: 'a' }, spec: { containers: [{ name: 'c' }] } };
  await expect(cluster.apply(pod)).rejects.toThrow('spec.containers[0].image: Required value');
  await cluster.run(['create', 'namespace', 'kept']);
  await cluster.apiServer.kill();
  await cluster.startApiServer();
  expect(await cluster.get('namespace', 'kept')).toMatchObject({ status: { phase: 'Active' } });
});
