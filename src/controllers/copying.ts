import { isDeepStrictEqual } from 'node:util';
import { InputError } from '../base/errors.ts';
import { formatJson, parseJson } from '../datastore/json.ts';
import type { Entry, InvalidEntry, Key, Type, Value } from '../datastore/store.ts';
import type { WorkloadEndpoint } from '../model/kinds.ts';
import { convertNetworkPolicy } from '../model/kubernetes.ts';
import type { Resource } from '../model/resource.ts';
import type { Action } from './action.ts';
import type { CollectionOptions, Seen } from './collection.ts';
import type { Settings } from './settings.ts';
import type { Known, View } from './view.ts';

/*
 * Kubernetes' objects in a datastore of their own: namespaces and service accounts as profiles, policies, services with
 * their endpoints, and what only the API knows of a pod. Pure.
 */

export const copiedTypes = ['Profile', 'NetworkPolicy', 'GlobalNetworkPolicy', 'Service', 'EndpointSlice'] as const;

/** Whether the controllers own the copy under this key: what has no original is removed. */
export function isCopied(key: Key, { copies }: Settings): boolean {
  switch (key.type) {
    case 'Profile':
      return (
        (key.name.startsWith('kns.') && copies.namespaces) || (key.name.startsWith('ksa.') && copies.serviceAccounts)
      );
    case 'NetworkPolicy':
      return key.name.startsWith('knp.default.') && copies.policies;
    case 'GlobalNetworkPolicy':
      return /^(kanp|kbanp|kcnp)\./.test(key.name) && copies.policies;
    case 'Service':
    case 'EndpointSlice':
      // Rules and the speaker go by them.
      return copies.policies;
    default:
      return false;
  }
}

/**
 * What makes the copy as the original is. An original that cannot be read leaves its copy as it was, or makes one that
 * isolates what the policy may select where there is none.
 */
export function copyAction(key: Key, original: Known, copy: Known): Action | undefined {
  const why = 'copy';
  if (original === undefined) {
    if (copy === undefined) return undefined;
    const revision = 'entry' in copy ? copy.entry.revision : undefined;
    return { do: 'delete', why, key, revision, unlessOriginal: true };
  }
  const wanted = 'entry' in original ? (original.entry.value as Resource) : isolating(key, original.invalid);
  if (wanted === undefined || ('invalid' in original && copy !== undefined)) return undefined;
  if (copy === undefined) return { do: 'create', why, key, value: bare(wanted, {}) };
  if ('invalid' in copy) return { do: 'delete', why, key, revision: undefined };
  const found = copy.entry.value as Resource;
  if (same(wanted, found)) return undefined;
  return { do: 'update', why, key, value: bare(wanted, found.metadata), revision: copy.entry.revision };
}

/** The copy without what belongs to the original: its identity and revision. */
function bare({ kind, apiVersion, metadata, spec }: Resource, kept: Partial<Resource['metadata']>): Value<Type> {
  const { name, namespace, labels } = metadata;
  const { uid, creationTimestamp } = kept;
  return {
    kind,
    apiVersion,
    metadata: {
      name,
      ...(namespace !== undefined && { namespace }),
      ...(uid !== undefined && { uid }),
      ...(creationTimestamp !== undefined && { creationTimestamp }),
      ...(labels !== undefined && { labels }),
    },
    spec,
  } as Value<Type>;
}

function same(wanted: Resource, found: Resource): boolean {
  return (
    isDeepStrictEqual(wanted.metadata.labels ?? {}, found.metadata.labels ?? {}) &&
    (isDeepStrictEqual(wanted.spec, found.spec) || isDeepStrictEqual(stored(wanted.spec), stored(found.spec)))
  );
}

/** A value as it comes out of the datastore, without fields that are undefined. */
function stored(value: unknown): unknown {
  return parseJson(formatJson(value ?? null));
}

/** A policy without rules in place of one that cannot be read: by its selector and types where these can be. */
function isolating(key: Key, { value }: InvalidEntry): Resource | undefined {
  if (key.type !== 'NetworkPolicy' || key.namespace === undefined) return undefined;
  const { namespace } = key;
  const { metadata, spec } = (value ?? {}) as { metadata?: unknown; spec?: Record<string, unknown> };
  const object = { apiVersion: 'networking.k8s.io/v1', kind: 'NetworkPolicy', metadata };
  const tries = [
    { podSelector: spec?.['podSelector'], policyTypes: spec?.['policyTypes'] ?? ['Ingress', 'Egress'] },
    { podSelector: spec?.['podSelector'], policyTypes: ['Ingress', 'Egress'] },
    { podSelector: {}, policyTypes: ['Ingress', 'Egress'] },
  ];
  for (const each of tries) {
    try {
      return convertNetworkPolicy({ ...object, spec: each }, namespace);
    } catch (thrown) {
      if (!(thrown instanceof InputError)) throw thrown;
    }
  }
  return undefined;
}

/**
 * Endpoints whose Pod is gone, and has been for the grace period: their node did not take them away.
 * @param before when each was seen first, by canonical key, in monotonic seconds
 */
export function goneEndpoints(
  store: View,
  cluster: View,
  before: Seen,
  { nowSeconds, graceSeconds }: CollectionOptions,
): { readonly actions: readonly Action[]; readonly seen: Seen } {
  const seen = new Map<string, number>();
  const actions: Action[] = [];
  for (const [text, { key, value, revision }] of store.of('WorkloadEndpoint')) {
    if (value.spec.orchestrator !== 'k8s' || cluster.known(key) !== undefined) continue;
    const since = before.get(text) ?? nowSeconds;
    seen.set(text, since);
    if (graceSeconds > 0 && nowSeconds - since >= graceSeconds)
      actions.push({ do: 'delete', why: 'podGone', key, revision, unlessOriginal: true });
  }
  return { actions, seen };
}

/** What the API knows of a pod, and the plugin may not: labels, service account, named ports and limits. */
export function endpointAction(pod: Known, endpoint: Known): Action | undefined {
  if (!pod || !endpoint || !('entry' in pod) || !('entry' in endpoint)) return undefined;
  const known = (pod.entry as Entry<'WorkloadEndpoint'>).value;
  const { key, value, revision } = endpoint.entry as Entry<'WorkloadEndpoint'>;
  if (value.spec.orchestrator !== 'k8s') return undefined;
  const next = withPod(value, known);
  if (isDeepStrictEqual(factsOf(next), factsOf(value))) return undefined;
  return { do: 'update', why: 'labels', key, value: next as Value<Type>, revision };
}

function withPod(endpoint: WorkloadEndpoint, { metadata, spec }: WorkloadEndpoint): WorkloadEndpoint {
  const { serviceAccountName, profiles, ports = [] } = spec;
  const { ports: _p, ...rest } = endpoint.spec;
  const { annotations: _a, ...own } = endpoint.metadata;
  const { annotations } = metadata;
  return {
    ...endpoint,
    metadata: {
      ...own,
      ...(metadata.labels !== undefined && { labels: metadata.labels }),
      ...(annotations && { annotations }),
    },
    spec: {
      ...rest,
      ...(serviceAccountName !== undefined && { serviceAccountName }),
      profiles,
      ...(ports.length > 0 && { ports }),
    },
  };
}

function factsOf({ metadata, spec }: WorkloadEndpoint): unknown {
  const { serviceAccountName, profiles, ports = [] } = spec;
  const { labels = {}, annotations = {} } = metadata;
  return stored({ labels, annotations, serviceAccountName, profiles, ports });
}
