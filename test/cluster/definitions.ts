import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { v3Resources } from '../support/kubernetes/objects.ts';
import type { ControlPlane } from './control-plane.ts';

export const deploy = join(import.meta.dirname, '../../deploy');

/** Applies deploy/crds, and waits until the server serves them all. */
export async function applyDefinitions(cluster: ControlPlane): Promise<void> {
  await cluster.run(['apply', '-f', join(deploy, 'crds')]);
  await established(cluster);
}

/** Calico's kinds as native definitions of projectcalico.org/v3, which take any fields: its own are not shipped here. */
export async function applyNativeDefinitions(cluster: ControlPlane): Promise<void> {
  const anything = { type: 'object', 'x-kubernetes-preserve-unknown-fields': true };
  const definitions = v3Resources.map(({ group, version, kind, plural, namespaced }) => ({
    ...{ apiVersion: 'apiextensions.k8s.io/v1', kind: 'CustomResourceDefinition' },
    metadata: { name: `${plural}.${group}` },
    spec: {
      group,
      names: { kind, listKind: `${kind}List`, plural, singular: kind.toLowerCase() },
      scope: namespaced ? 'Namespaced' : 'Cluster',
      versions: [{ name: version, served: true, storage: true, schema: { openAPIV3Schema: anything } }],
    },
  }));
  await cluster.apply(...definitions);
  await established(cluster);
}

function established(cluster: ControlPlane): Promise<string> {
  return cluster.run(['wait', '--for=condition=Established', '--timeout=60s', 'crd', '--all']);
}

/** The manifests that are applied as they are. */
export const manifests = readdirSync(deploy).filter((file) => file.endsWith('.yaml'));
