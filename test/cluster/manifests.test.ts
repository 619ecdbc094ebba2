import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { until } from '../support/wait.ts';
import { ControlPlane } from './control-plane.ts';
import { applyDefinitions, deploy, type Installed, manifests, objectsOf } from './definitions.ts';

/*
 * Everything in deploy/ applied to a live API server with Kubernetes' own kubectl, which checks every field by the
 * server's description of itself; the server's validation and admission come after that.
 */

let cluster: ControlPlane;
beforeAll(async () => {
  cluster = await ControlPlane.start();
  await cluster.apply({
    apiVersion: 'v1',
    kind: 'Node',
    metadata: { name: 'n1', labels: { 'kubernetes.io/os': 'linux' } },
  });
});
afterAll(() => cluster?.stop());

interface Definition {
  readonly metadata: { readonly name: string };
  readonly status: { readonly conditions: readonly { type: string; status: string; message: string }[] };
}

interface PodList {
  readonly items: readonly { readonly metadata: { readonly labels: Readonly<Record<string, string>> } }[];
}

/** The labels of all Pods that the cluster of one node makes of a manifest. */
function podsOf(objects: readonly Installed[]): string[] {
  return objects
    .flatMap(({ kind, metadata, spec }) => {
      if (kind === 'DaemonSet') return [metadata.name];
      if (kind !== 'Deployment') return [];
      return Array.from({ length: (spec as { replicas: number }).replicas }, () => metadata.name);
    })
    .toSorted();
}

const endings = (output: string) =>
  output
    .trim()
    .split('\n')
    .map((line) => line.split(' ').at(-1));

test('the definitions are structural, accepted and served; applied again they are unchanged', async () => {
  await applyDefinitions(cluster);
  const found = await cluster.get<{ items: readonly Definition[] }>('crd');
  expect(found?.items).toHaveLength(22);
  for (const { metadata, status } of found?.items ?? [])
    expect(status.conditions.map(({ type, status: is }) => `${type}=${is}`).toSorted(), metadata.name).toEqual([
      'Established=True',
      'NamesAccepted=True',
    ]);
  const again = await cluster.run(['apply', '-f', join(deploy, 'crds')]);
  expect(new Set(endings(again))).toEqual(new Set(['unchanged']));
});

test.each(manifests)(
  '%s is applied, applied again without a change, run by the controllers and deleted',
  async (file) => {
    const objects = objectsOf(file);
    const input = JSON.stringify({ apiVersion: 'v1', kind: 'List', items: objects });
    expect(new Set(endings(await cluster.run(['apply', '-f', '-'], input)))).toEqual(new Set(['created']));
    expect(new Set(endings(await cluster.run(['apply', '-f', '-'], input)))).toEqual(new Set(['unchanged']));
    const wanted = podsOf(objects);
    await until(
      async () => {
        const pods = await cluster.get<PodList>('pods', '-n', 'kube-system');
        const apps = pods?.items.map(({ metadata }) => metadata.labels['k8s-app']) ?? [];
        expect(apps.toSorted()).toEqual(wanted);
        return true;
      },
      { within: 60_000, what: 'the Pods of DaemonSets and Deployments' },
    );
    await cluster.run(['delete', '--wait', '-f', '-'], input);
    for (const { kind, metadata } of objects as Installed[])
      expect(
        await cluster.get(kind, metadata.name, '-n', metadata.namespace ?? 'default'),
        metadata.name,
      ).toBeUndefined();
  },
);

test('the server takes the chart with all its options', async () => {
  const limits = { cpu: '1', memory: '512Mi' };
  const values = {
    ...{ image: 'registry.example/margay:1', imagePullPolicy: 'Always', imagePullSecrets: [{ name: 'pull' }] },
    config: { DATASTORE_TYPE: 'etcdv3', ETCD_ENDPOINTS: 'https://192.0.2.1:2379', FELIX_IPV6SUPPORT: 'true' },
    ...{ etcd: { secret: 'etcd-certificates' }, bgp: { secret: 'bgp-passwords', resources: { limits } } },
    ...{ felix: { resources: { limits } }, controllers: { replicas: 3 }, calicoGroups: ['projectcalico.org'] },
    ...{ cni: { binDir: '/usr/libexec/cni' }, nodeSelector: { pool: 'a' }, tolerations: [{ operator: 'Exists' }] },
  };
  const items = objectsOf('chart', values);
  const input = JSON.stringify({ apiVersion: 'v1', kind: 'List', items });
  const output = await cluster.run(['apply', '--dry-run=server', '-f', '-'], input);
  expect(output.trim().split('\n')).toHaveLength(items.length);
});

test('a misspelt field of a manifest is refused', async () => {
  const [account] = objectsOf('margay.yaml');
  await expect(cluster.apply({ ...account, automountServiceAccountTokens: false })).rejects.toThrow(
    'unknown field "automountServiceAccountTokens"',
  );
});
