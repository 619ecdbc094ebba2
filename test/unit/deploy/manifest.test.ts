import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { parseAllDocuments } from 'yaml';
import { watched } from '../../../src/bgp/objects.ts';
import { collectionPath } from '../../../src/datastore/kubernetes/resources.ts';
import { Sources } from '../../../src/datastore/kubernetes/sources.ts';
import { watchedTypes } from '../../../src/felix/calc/graph.ts';
import { calicoResources, v3Resources } from '../../support/kubernetes/objects.ts';
import { allowed, type Rule } from '../../support/kubernetes/rbac.ts';

interface Container {
  readonly name: string;
  readonly image: string;
  readonly args: readonly string[];
  readonly envFrom: unknown;
  readonly securityContext: Readonly<Record<string, unknown>>;
  readonly volumeMounts?: readonly { readonly name: string }[];
}

const text = readFileSync(join(import.meta.dirname, '../../../deploy/margay.yaml'), 'utf8');
const documents = parseAllDocuments(text);
const objects = documents.map((each) => each.toJS());
const one = (kind: string) => objects.find((each) => each.kind === kind);
const rules: readonly Rule[] = one('ClusterRole').rules;
const pod = one('DaemonSet').spec.template.spec;
const containers: readonly Container[] = [...pod.initContainers, ...pod.containers];

test('every document can be read, and is of one account', () => {
  expect(documents.flatMap(({ errors, warnings }) => [...errors, ...warnings])).toEqual([]);
  const agents = objects.filter(({ metadata }) => !['margay-controllers', 'margay-cni-plugin'].includes(metadata.name));
  expect(agents.map(({ kind }) => kind)).toEqual([
    'ServiceAccount',
    'ClusterRole',
    'ClusterRoleBinding',
    'Role',
    'RoleBinding',
    'ConfigMap',
    'DaemonSet',
  ]);
  const account = { kind: 'ServiceAccount', name: one('ServiceAccount').metadata.name, namespace: 'kube-system' };
  expect(one('ClusterRoleBinding').subjects).toEqual([account]);
  expect(pod.serviceAccountName).toBe(account.name);
});

test.each(['crd.projectcalico.org', 'projectcalico.org'] as const)(
  'the agents may list and watch all that they follow of %s',
  (group) => {
    const types = [...new Set([...watchedTypes, ...watched, 'BlockAffinity' as const, 'Handle' as const])];
    for (const { resource } of new Sources('cali', false, group).of(types))
      for (const query of ['', '?watch=true'])
        expect(allowed(rules, 'GET', collectionPath(resource) + query), `${collectionPath(resource)}${query}`).toBe(
          true,
        );
  },
);

test('the role names no resource that no definition makes, and gives no right to secrets, pods or all', () => {
  const defined = new Set([...calicoResources, ...v3Resources].map(({ plural }) => plural));
  for (const { apiGroups = [], resources = [], verbs } of rules) {
    if (apiGroups.includes('crd.projectcalico.org')) for (const name of resources) expect(defined).toContain(name);
    expect([...apiGroups, ...resources, ...verbs]).not.toContain('*');
    expect(resources).not.toContain('secrets');
  }
  expect(allowed(rules, 'DELETE', '/api/v1/namespaces/a/pods/b')).toBe(false);
  expect(allowed(rules, 'PATCH', '/api/v1/nodes/a')).toBe(false);
  expect(allowed(rules, 'PATCH', '/api/v1/nodes/a/status')).toBe(true);
});

test('of tokens they may ask for that of the CNI plugins alone, who may read pods, nodes and namespaces by name', () => {
  const asked = (account: string, of: readonly Rule[]) =>
    allowed(of, 'POST', `/api/v1/namespaces/kube-system/serviceaccounts/${account}/token`);
  const { rules: tokens } = one('Role');
  expect([asked('margay-cni-plugin', tokens), asked('margay-node', tokens), asked('default', tokens)]).toEqual([
    true,
    false,
    false,
  ]);
  expect(asked('margay-cni-plugin', rules)).toBe(false);
  const named = (kind: string) =>
    objects.find((each) => each.kind === kind && each.metadata.name === 'margay-cni-plugin');
  expect(named('ServiceAccount').automountServiceAccountToken).toBe(false);
  expect(named('ClusterRole').rules).toEqual([
    { apiGroups: [''], resources: ['nodes', 'namespaces', 'pods'], verbs: ['get'] },
  ]);
  for (const name of ['install-cni', 'felix']) {
    const { env, volumeMounts } = pod.initContainers
      .concat(pod.containers)
      .find((each: Container) => each.name === name);
    expect(env).toContainEqual({ name: 'CALICO_CNI_SERVICE_ACCOUNT', value: 'margay-cni-plugin' });
    expect(volumeMounts).toContainEqual({ name: 'cni-conf', mountPath: '/host/etc/cni/net.d' });
  }
});

test('every container has its settings, and mounts what there is', () => {
  const volumes = new Set(pod.volumes.map(({ name }: { name: string }) => name));
  const images = new Set(containers.map(({ image }) => image));
  expect(images.size).toBe(1);
  for (const { name, envFrom, volumeMounts = [] } of containers) {
    expect(envFrom, name).toEqual([{ configMapRef: { name: one('ConfigMap').metadata.name } }]);
    for (const mount of volumeMounts) expect(volumes, `${name}: ${mount.name}`).toContain(mount.name);
  }
});

test('no container is privileged, and each has only the capabilities that it needs', () => {
  const capabilities: Readonly<Record<string, readonly string[]>> = {
    felix: ['NET_ADMIN', 'NET_RAW', 'SYS_ADMIN'],
    bgp: ['NET_BIND_SERVICE'],
  };
  for (const { name, securityContext } of containers) {
    const add = capabilities[name];
    expect(securityContext, name).not.toHaveProperty('privileged');
    expect(securityContext, name).toMatchObject({
      ...{ readOnlyRootFilesystem: true, seccompProfile: { type: 'RuntimeDefault' } },
      capabilities: { drop: ['ALL'], ...(add && { add }) },
    });
    if (name !== 'felix') expect(securityContext, name).toMatchObject({ allowPrivilegeEscalation: false });
  }
});
