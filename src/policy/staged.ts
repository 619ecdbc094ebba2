import type { Event, Key } from '../datastore/store.ts';
import { type GlobalNetworkPolicy, type NetworkPolicy, parseResource, type ResourceOf } from '../model/kinds.ts';
import { convertNetworkPolicy } from '../model/kubernetes.ts';
import { apiVersion } from '../model/resource.ts';
import { type CompiledPolicy, compilePolicy } from './compile.ts';
import { policyName } from './scope.ts';

/*
 * Staged policies say what their author would like to enforce. Here they become the policies that they would be, for
 * previews, and rules whose matches are counted.
 */

export const stagedKinds = [
  'StagedNetworkPolicy',
  'StagedGlobalNetworkPolicy',
  'StagedKubernetesNetworkPolicy',
] as const;
export type StagedKind = (typeof stagedKinds)[number];
export type StagedPolicy = ResourceOf<StagedKind>;

export function isStaged(key: Key): key is Key<StagedKind> {
  return stagedKinds.some((kind) => kind === key.type);
}

/**
 * The policy that a staged one would set; for one that would delete, what it names.
 * @throws InputError for a name that is too long, and what is wrong in a policy of Kubernetes
 */
export function unstaged(staged: StagedPolicy): NetworkPolicy | GlobalNetworkPolicy {
  const { name, namespace, labels, annotations } = staged.metadata;
  const metadata = {
    name,
    ...(namespace !== undefined && { namespace }),
    ...(labels && { labels }),
    ...(annotations && { annotations }),
  };
  const { stagedAction: _, ...spec } = staged.spec;
  switch (staged.kind) {
    case 'StagedKubernetesNetworkPolicy':
      return convertNetworkPolicy({
        kind: 'NetworkPolicy',
        apiVersion: 'networking.k8s.io/v1',
        metadata: { name, namespace },
        spec,
      });
    case 'StagedNetworkPolicy':
      return parseResource('NetworkPolicy', { kind: 'NetworkPolicy', apiVersion, metadata, spec });
    case 'StagedGlobalNetworkPolicy':
      return parseResource('GlobalNetworkPolicy', { kind: 'GlobalNetworkPolicy', apiVersion, metadata, spec });
  }
}

/**
 * The rules of a staged policy, to be counted; undefined for one that would delete, and one whose tier does not exist.
 * @throws InputError as `unstaged`
 */
export function compileStaged(staged: StagedPolicy, tierExists: (tier: string) => boolean): CompiledPolicy | undefined {
  if (staged.spec.stagedAction === 'Delete') return undefined;
  const policy = unstaged(staged);
  if (!tierExists(policy.spec.tier ?? 'default')) return undefined;
  const compiled = compilePolicy(policy, tierExists);
  const { name, namespace } = staged.metadata;
  const title = `${staged.kind} ${policyName(name, namespace)}`;
  return {
    ...compiled,
    rules: { ...compiled.rules, name: `${staged.kind}/${compiled.rules.name}`, title, staged: true },
  };
}

/** What would happen to the policies of a cluster if all its staged ones were enforced. Others are left out. */
export function enforcing(cluster: readonly Event[]): Event[] {
  return cluster.flatMap((event): Event[] => {
    if (event.op !== 'set' || !isStaged(event.entry.key)) return [];
    const staged = event.entry.value as StagedPolicy;
    const value = unstaged(staged);
    const { name, namespace } = value.metadata;
    const key = { type: value.kind, name, ...(namespace !== undefined && { namespace }) } as Key;
    if (staged.spec.stagedAction === 'Delete') return [{ op: 'delete', key } as Event];
    return [{ op: 'set', entry: { ...event.entry, key, value } } as Event];
  });
}
