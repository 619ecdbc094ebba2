import { readKubernetes } from '../../model/kubernetes.ts';
import type { Resource } from '../../model/resource.ts';
import type { Key, Type, Value } from '../store.ts';
import { type ApiObject, type ApiResource, apiVersionOf, builtIn, optional } from './resources.ts';
import type { Source } from './source.ts';

/*
 * Kubernetes' own objects, read as what stands for them in the store. They are changed by those who own them, so there
 * is no writer.
 */

type ResourceKey = Extract<Key, { readonly name: string }>;

interface Names {
  /** The object's name of a key's name; undefined for keys of other sources. */
  readonly object: (keyName: string) => { readonly name: string; readonly namespace?: string } | undefined;
  /** The key's name of an object. */
  readonly key: (object: ApiObject) => string;
}

function prefixed(prefix: string): Names {
  return {
    object: (name) => (name.startsWith(prefix) ? { name: name.slice(prefix.length) } : undefined),
    key: ({ metadata }) => prefix + metadata.name,
  };
}

/** `ksa.<namespace>.<name>`; a namespace has no dot. */
const serviceAccountNames: Names = {
  object: (name) => {
    const parts = /^ksa\.([^.]+)\.(.+)$/.exec(name);
    return parts?.[1] && parts[2] ? { namespace: parts[1], name: parts[2] } : undefined;
  },
  key: ({ metadata }) => `ksa.${metadata.namespace}.${metadata.name}`,
};

function nativeSource(
  type: Type,
  resource: ApiResource,
  names: Names,
  /** The resource of the version that is understood here, and an object as one of it. */
  newest: ApiResource = resource,
  current: (object: ApiObject) => ApiObject = (object) => object,
): Source {
  const keyNamespaced = resource.namespaced && type !== 'Profile';
  return {
    type,
    resource,
    place: (key) => {
      const { name, namespace } = key as ResourceKey;
      const found = names.object(name);
      return found && { resource, ...found, ...(keyNamespaced && namespace !== undefined && { namespace }) };
    },
    keyOf: (object) => {
      const { namespace } = object.metadata;
      const name = names.key(object);
      return { type, name, ...(keyNamespaced && namespace !== undefined && { namespace }) } as Key;
    },
    read: (object) => readNative(newest, current(object)),
  };
}

/** The bookkeeping of field managers nests deeper than what people write, and says nothing here. */
function readNative(resource: ApiResource, object: ApiObject): Value<Type> {
  const { managedFields: _, ...metadata } = object.metadata;
  const given = { ...object, apiVersion: apiVersionOf(resource), kind: resource.kind, metadata };
  const converted: Resource = readKubernetes(given);
  const { uid, creationTimestamp, resourceVersion } = object.metadata;
  const { annotations } = converted.metadata;
  const more = {
    ...(annotations && { annotations }),
    ...(uid !== undefined && { uid }),
    ...(creationTimestamp !== undefined && { creationTimestamp }),
    ...(resourceVersion !== undefined && { resourceVersion }),
  };
  return { ...converted, metadata: { ...converted.metadata, ...more } } as Value<Type>;
}

const slices = builtIn('discovery.k8s.io', 'v1', 'EndpointSlice', 'endpointslices', true);

/** Of servers before 1.21: `nodeName` is among what is said of the topology. */
const olderSlices: Source = nativeSource(
  'EndpointSlice',
  { ...slices, version: 'v1beta1' },
  prefixed(''),
  slices,
  (object) => ({ ...object, endpoints: withNodeNames(object['endpoints']) }),
);

interface OlderEndpoint {
  readonly nodeName?: unknown;
  readonly topology?: { readonly 'kubernetes.io/hostname'?: unknown };
}

/** What is no list of objects is left for the schema to refuse. */
function withNodeNames(endpoints: unknown): unknown {
  if (!Array.isArray(endpoints)) return endpoints;
  return endpoints.map((endpoint: OlderEndpoint | null) => {
    const nodeName = endpoint?.nodeName ?? endpoint?.topology?.['kubernetes.io/hostname'];
    return nodeName === undefined ? endpoint : { ...endpoint, nodeName };
  });
}

const policyGroup = 'policy.networking.k8s.io';

export const nativeSources: readonly Source[] = [
  nativeSource('Profile', builtIn('', 'v1', 'Namespace', 'namespaces', false), prefixed('kns.')),
  nativeSource('Profile', builtIn('', 'v1', 'ServiceAccount', 'serviceaccounts', true), serviceAccountNames),
  nativeSource(
    'NetworkPolicy',
    builtIn('networking.k8s.io', 'v1', 'NetworkPolicy', 'networkpolicies', true),
    prefixed('knp.default.'),
  ),
  nativeSource(
    'GlobalNetworkPolicy',
    optional(policyGroup, 'v1alpha1', 'AdminNetworkPolicy', 'adminnetworkpolicies'),
    prefixed('kanp.'),
  ),
  nativeSource(
    'GlobalNetworkPolicy',
    optional(policyGroup, 'v1alpha1', 'BaselineAdminNetworkPolicy', 'baselineadminnetworkpolicies'),
    prefixed('kbanp.'),
  ),
  nativeSource(
    'GlobalNetworkPolicy',
    optional(policyGroup, 'v1alpha2', 'ClusterNetworkPolicy', 'clusternetworkpolicies'),
    prefixed('kcnp.'),
  ),
  nativeSource('Service', builtIn('', 'v1', 'Service', 'services', true), prefixed('')),
  { ...nativeSource('EndpointSlice', slices, prefixed('')), older: olderSlices },
];
