import { InputError } from '../../base/errors.ts';
import { type Node, parseResource } from '../../model/kinds.ts';
import { apiVersion } from '../../model/resource.ts';
import { checkResource } from '../codec.ts';
import type { KeyOf, Type, Value } from '../store.ts';
import { type ApiObject, builtIn } from './resources.ts';
import type { Source } from './source.ts';

/*
 * Node: a Kubernetes Node, and what Calico knows beyond it in annotations. The node itself, its labels and podCIDRs are
 * Kubernetes'; only the annotations are written, and labels are not.
 */

const nodes = builtIn('', 'v1', 'Node', 'nodes', false);
const prefix = 'projectcalico.org/';

/** Annotation, without its prefix → path in the spec. Numbers are written as text. */
const fields: readonly (readonly [string, readonly string[]])[] = [
  ['IPv4Address', ['bgp', 'ipv4Address']],
  ['IPv6Address', ['bgp', 'ipv6Address']],
  ['ASNumber', ['bgp', 'asNumber']],
  ['RouteReflectorClusterID', ['bgp', 'routeReflectorClusterID']],
  ['IPv4IPIPTunnelAddr', ['bgp', 'ipv4IPIPTunnelAddr']],
  ['IPv4VXLANTunnelAddr', ['ipv4VXLANTunnelAddr']],
  ['IPv6VXLANTunnelAddr', ['ipv6VXLANTunnelAddr']],
  ['VXLANTunnelMACAddr', ['vxlanTunnelMACAddr']],
  ['VXLANTunnelMACAddrV6', ['vxlanTunnelMACAddrV6']],
  ['IPv4WireguardInterfaceAddr', ['wireguard', 'interfaceIPv4Address']],
  ['IPv6WireguardInterfaceAddr', ['wireguard', 'interfaceIPv6Address']],
];

type Tree = { [field: string]: Tree | string };

export const nodeSource: Source = {
  type: 'Node',
  resource: nodes,
  digest: true,
  place: (key) => ({ resource: nodes, name: (key as KeyOf<'Node'>).name }),
  keyOf: ({ metadata: { name } }) => ({ type: 'Node', name }),
  read: readNode,
  writer: {
    by: 'annotate',
    annotations: (key, value) => {
      const { spec, metadata } = checkResource(key, value as Node) as Node;
      const kept = metadata.annotations && Object.keys(metadata.annotations).length > 0;
      const own: [string, string | null] = [`${prefix}annotations`, kept ? JSON.stringify(metadata.annotations) : null];
      return Object.fromEntries([
        own,
        ...fields.map(([name, path]) => {
          const found = path.reduce<unknown>(
            (at, step) => (typeof at === 'object' && at !== null ? (at as Record<string, unknown>)[step] : undefined),
            spec,
          );
          return [prefix + name, found === undefined ? null : String(found)] as const;
        }),
      ]);
    },
  },
};

function readNode({ metadata, spec = {}, status = {} }: ApiObject): Value<Type> {
  const { name, uid, creationTimestamp, resourceVersion, annotations = {} } = metadata;
  const own: Tree = {};
  for (const [field, path] of fields) {
    const value = annotations[prefix + field];
    if (value) place(own, path, value);
  }
  const labels = { ...metadata.labels, ...map(annotations, 'labels', name) };
  const kept = map(annotations, 'annotations', name);
  const podCIDRs = spec['podCIDRs'];
  return parseResource('Node', {
    kind: 'Node',
    apiVersion,
    metadata: {
      name,
      ...(uid !== undefined && { uid }),
      ...(creationTimestamp !== undefined && { creationTimestamp }),
      ...(resourceVersion !== undefined && { resourceVersion }),
      ...(Object.keys(labels).length > 0 && { labels }),
      ...(Object.keys(kept).length > 0 && { annotations: kept }),
    },
    spec: {
      ...own,
      addresses: addressesOf(annotations, status),
      orchRefs: [{ nodeName: name, orchestrator: 'k8s' }],
    },
    ...(Array.isArray(podCIDRs) && { status: { podCIDRs } }),
  }) as Value<Type>;
}

function place(tree: Tree, path: readonly string[], value: string): void {
  const [first, ...rest] = path;
  if (first === undefined) return;
  if (rest.length === 0) tree[first] = value;
  else {
    const below = tree[first];
    const next = typeof below === 'object' ? below : {};
    tree[first] = next;
    place(next, rest, value);
  }
}

/** Calico's own addresses first, then those that the kubelet reports. */
function addressesOf(
  annotations: Readonly<Record<string, string>>,
  status: Readonly<Record<string, unknown>>,
): { address: string; type: string }[] {
  const ours = ['IPv4Address', 'IPv6Address'].flatMap((field) => annotations[prefix + field] || []);
  const reported = Array.isArray(status['addresses'])
    ? (status['addresses'] as { type?: string; address?: string }[])
    : [];
  return [
    ...ours.map((address) => ({ address, type: 'CalicoNodeIP' })),
    ...reported.flatMap(({ type, address }) =>
      address && (type === 'InternalIP' || type === 'ExternalIP') ? [{ address, type }] : [],
    ),
  ];
}

/** A JSON map in an annotation. @throws InputError */
function map(annotations: Readonly<Record<string, string>>, field: string, node: string): Record<string, string> {
  const text = annotations[prefix + field];
  if (!text) return {};
  const where = `Node(${node}).metadata.annotations.${prefix}${field}`;
  try {
    const found: unknown = JSON.parse(text);
    if (typeof found === 'object' && found !== null && Object.values(found).every((each) => typeof each === 'string'))
      return { ...found } as Record<string, string>;
  } catch (cause) {
    if (!(cause instanceof SyntaxError)) throw cause;
    throw new InputError(where, text, 'JSON', { cause });
  }
  throw new InputError(where, text, 'a JSON object of texts');
}
