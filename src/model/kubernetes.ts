import type { z } from 'zod';
import { InputError } from '../base/errors.ts';
import {
  type EndpointSlice,
  firstIssue,
  type GlobalNetworkPolicy,
  issuesOf,
  type NetworkPolicy,
  type Profile,
  parseResource,
  type Service,
} from './kinds.ts';
import {
  type ClusterPolicyKind,
  clusterPolicyName,
  clusterPolicyProblems,
  convertClusterPolicy,
  isClusterPolicyKind,
  tolerateClusterPolicy,
} from './kubernetes/cluster-policy.ts';
import { convertSpec } from './kubernetes/convert.ts';
import { endpointSlice, namespace, networkPolicy, service, serviceAccount } from './kubernetes/schema.ts';
import { endpointSliceSpecOf, serviceSpecOf } from './kubernetes/service.ts';
import { apiVersion } from './resource.ts';
import { namespacePrefix } from './selector.ts';

/*
 * Kubernetes objects as the resources that stand for them when etcd is the datastore: what Calico's kube-controllers
 * would write there, and Services with their EndpointSlices, for whose addresses Calico asks the Kubernetes API.
 */

const policyPrefix = 'knp.default.';
const serviceAccountPrefix = 'pcsa.';
/** Objects as people write them nest less than half as deep. */
const maxDepth = 32;

const converters = {
  'networking.k8s.io/v1/NetworkPolicy': convertNetworkPolicy,
  'v1/Namespace': convertNamespace,
  'v1/ServiceAccount': convertServiceAccount,
  'v1/Service': convertService,
  'discovery.k8s.io/v1/EndpointSlice': convertEndpointSlice,
  'policy.networking.k8s.io/v1alpha1/AdminNetworkPolicy': ofCluster('AdminNetworkPolicy'),
  'policy.networking.k8s.io/v1alpha1/BaselineAdminNetworkPolicy': ofCluster('BaselineAdminNetworkPolicy'),
  'policy.networking.k8s.io/v1alpha2/ClusterNetworkPolicy': ofCluster('ClusterNetworkPolicy'),
} as const;

/** `v1/Namespace`, `networking.k8s.io/v1/NetworkPolicy` and so on. */
export const kubernetesKinds: readonly string[] = Object.keys(converters);

/** Whether `parseKubernetes` knows this `apiVersion` and `kind`. */
export function isKubernetesObject(value: unknown): boolean {
  return converterOf(value) !== undefined;
}

/**
 * NetworkPolicy → NetworkPolicy `knp.default.<name>`; Namespace → Profile `kns.<name>`; ServiceAccount → Profile
 * `ksa.<namespace>.<name>`; Service and EndpointSlice → those of the same name; AdminNetworkPolicy → GlobalNetworkPolicy
 * `kanp.<name>`, BaselineAdminNetworkPolicy → `kbanp.default`, ClusterNetworkPolicy → `kcnp.<name>`.
 * @param defaultNamespace where a namespaced object belongs that names no namespace
 * @throws InputError that names the field and value
 */
export function parseKubernetes(
  value: unknown,
  defaultNamespace = 'default',
): NetworkPolicy | GlobalNetworkPolicy | Profile | Service | EndpointSlice {
  const convert = converterOf(value);
  if (!convert) throw new InputError('kind', kindOf(value), `one of ${kubernetesKinds.join(', ')}`);
  return convert(value, defaultNamespace);
}

/**
 * The same of an object that somebody else has written and admitted: of a cluster policy, a rule that cannot be understood
 * is closed alone, and told in an annotation.
 */
export function readKubernetes(value: unknown): ReturnType<typeof parseKubernetes> {
  const kind = kindOf(value)?.split('/').at(-1);
  if (kind === undefined || !isClusterPolicyKind(kind) || !isKubernetesObject(value)) return parseKubernetes(value);
  refuseHidden(value, kind, 0);
  return tolerateClusterPolicy(kind, value);
}

/** What a person calls a stored resource: `knp.default.web` → `{kind: 'NetworkPolicy', name: 'web'}` of Kubernetes. */
export function kubernetesName(
  kind: string,
  name: string,
): { readonly kind: string; readonly name: string; readonly namespace?: string } | undefined {
  if (kind === 'NetworkPolicy' && name.startsWith(policyPrefix)) return { kind, name: name.slice(policyPrefix.length) };
  if (kind === 'GlobalNetworkPolicy') return clusterPolicyName(name);
  if (kind !== 'Profile') return undefined;
  if (name.startsWith('kns.')) return { kind: 'Namespace', name: name.slice(4) };
  const account = /^ksa\.([^.]+)\.(.+)$/.exec(name);
  if (account?.[1] && account[2]) return { kind: 'ServiceAccount', namespace: account[1], name: account[2] };
  return undefined;
}

function ofCluster(kind: ClusterPolicyKind): (value: unknown) => GlobalNetworkPolicy {
  return (value) => {
    refuseHidden(value, kind, 0);
    return convertClusterPolicy(kind, value);
  };
}

/** networking.k8s.io/v1 NetworkPolicy, the whole language. @throws InputError */
export function convertNetworkPolicy(value: unknown, defaultNamespace = 'default'): NetworkPolicy {
  const { metadata, spec } = check('NetworkPolicy', networkPolicy, value);
  const name = policyPrefix + metadata.name;
  if (name.length > 253) {
    throw new InputError(
      'NetworkPolicy.metadata.name',
      metadata.name,
      `at most ${253 - policyPrefix.length} characters`,
    );
  }
  return parseResource('NetworkPolicy', {
    kind: 'NetworkPolicy',
    apiVersion,
    metadata: { name, namespace: metadata.namespace ?? defaultNamespace },
    spec: convertSpec(spec),
  });
}

/** v1 Namespace: allows all both ways, and gives its labels to the pods in it. @throws InputError */
export function convertNamespace(value: unknown): Profile {
  const { metadata } = check('Namespace', namespace, value);
  return parseResource('Profile', {
    kind: 'Profile',
    apiVersion,
    metadata: { name: `kns.${metadata.name}` },
    spec: {
      ingress: [{ action: 'Allow' }],
      egress: [{ action: 'Allow' }],
      // The API server sets this label on every namespace; policies select namespaces by it.
      labelsToApply: inherited(namespacePrefix, {
        name: metadata.name,
        labels: { ...metadata.labels, 'kubernetes.io/metadata.name': metadata.name },
      }),
    },
  });
}

/** v1 ServiceAccount: no rules, only labels. @throws InputError */
export function convertServiceAccount(value: unknown, defaultNamespace = 'default'): Profile {
  const { metadata } = check('ServiceAccount', serviceAccount, value);
  return parseResource('Profile', {
    kind: 'Profile',
    apiVersion,
    metadata: { name: `ksa.${metadata.namespace ?? defaultNamespace}.${metadata.name}` },
    spec: { labelsToApply: inherited(serviceAccountPrefix, metadata) },
  });
}

/** v1 Service: its addresses, ports and traffic policies. @throws InputError */
export function convertService(value: unknown, defaultNamespace = 'default'): Service {
  const found = check('Service', service, value);
  // What is asked of its load balancer.
  const annotations = Object.entries(found.metadata.annotations ?? {}).filter(([name]) =>
    name.startsWith('projectcalico.org/'),
  );
  return parseResource('Service', {
    kind: 'Service',
    apiVersion,
    metadata: {
      name: found.metadata.name,
      namespace: found.metadata.namespace ?? defaultNamespace,
      ...(annotations.length > 0 && { annotations: Object.fromEntries(annotations) }),
    },
    spec: serviceSpecOf(found),
  });
}

/** discovery.k8s.io/v1 EndpointSlice. @throws InputError */
export function convertEndpointSlice(value: unknown, defaultNamespace = 'default'): EndpointSlice {
  const found = check('EndpointSlice', endpointSlice, value);
  return parseResource('EndpointSlice', {
    kind: 'EndpointSlice',
    apiVersion,
    metadata: { name: found.metadata.name, namespace: found.metadata.namespace ?? defaultNamespace },
    spec: endpointSliceSpecOf(found),
  });
}

const schemas = {
  NetworkPolicy: networkPolicy,
  Namespace: namespace,
  ServiceAccount: serviceAccount,
  Service: service,
  EndpointSlice: endpointSlice,
} as const;

/** Every problem that a schema finds in an object that `isKubernetesObject`. */
export function kubernetesProblems(value: unknown): InputError[] {
  const { kind } = value as { kind: keyof typeof schemas | ClusterPolicyKind };
  if (!(kind in schemas)) return clusterPolicyProblems(kind as ClusterPolicyKind, value);
  const result = schemas[kind as keyof typeof schemas].safeParse(value);
  return result.success ? [] : issuesOf(result.error, value, kind);
}

function inherited(
  prefix: string,
  { name, labels }: { name: string; labels?: Record<string, string> | null | undefined },
): Record<string, string> {
  const own = Object.entries(labels ?? {}).map(([key, value]) => [prefix + key, value] as const);
  return Object.fromEntries([...own, [`${prefix}projectcalico.org/name`, name] as const]);
}

function check<S extends z.ZodType>(kind: string, schema: S, value: unknown): z.output<S> {
  refuseHidden(value, kind, 0);
  const result = schema.safeParse(value);
  if (!result.success) throw firstIssue(result.error, value, kind);
  return result.data;
}

/** A key `__proto__` would be lost on copying, and with it a condition. */
function refuseHidden(value: unknown, field: string, depth: number): void {
  if (typeof value !== 'object' || value === null) return;
  if (depth > maxDepth) throw new InputError(field, '…', `at most ${maxDepth} levels of nesting`);
  for (const [key, child] of Object.entries(value)) {
    const path = Array.isArray(value) ? `${field}[${key}]` : `${field}.${key}`;
    if (key === '__proto__') throw new InputError(path, child, 'no such field');
    refuseHidden(child, path, depth + 1);
  }
}

function kindOf(value: unknown): string | undefined {
  const { apiVersion: version, kind } = (value ?? {}) as { apiVersion?: unknown; kind?: unknown };
  return typeof version === 'string' && typeof kind === 'string' ? `${version}/${kind}` : undefined;
}

function converterOf(value: unknown) {
  const kind = kindOf(value);
  if (kind === undefined || !Object.hasOwn(converters, kind)) return undefined;
  return converters[kind as keyof typeof converters];
}
