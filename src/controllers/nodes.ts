import { isDeepStrictEqual } from 'node:util';
import type { Entry, Type, Value } from '../datastore/store.ts';
import type { HostEndpoint, Node } from '../model/kinds.ts';
import { parseResource } from '../model/kinds.ts';
import { apiVersion } from '../model/resource.ts';
import type { Action } from './action.ts';
import type { Known, View } from './view.ts';

/* What follows from Kubernetes' nodes: labels, host endpoints, and the end of what was a departed node's. Pure. */

/** Labels that came from Kubernetes, as JSON, so that they go when they go there. */
const kubeLabels = 'projectcalico.org/kube-labels';
const createdBy = 'projectcalico.org/created-by';
const creator = 'calico-kube-controllers';

/** The name that a node has in Kubernetes; undefined for one that Kubernetes does not know. */
export function kubernetesNode({ spec }: Node): string | undefined {
  return spec.orchRefs?.find(({ orchestrator }) => orchestrator === 'k8s')?.nodeName;
}

/** Gives a node of the datastore the labels of its Kubernetes node; those that were set otherwise stay. */
export function labelAction({ key, value, revision }: Entry<'Node'>, original: Node): Action | undefined {
  const { labels = {}, annotations = {} } = value.metadata;
  const before = labelsIn(annotations[kubeLabels]);
  const own = Object.entries(labels).filter(([name, text]) => before[name] !== text);
  const given = original.metadata.labels ?? {};
  const next = { ...Object.fromEntries(own), ...given };
  const noted = { ...annotations, [kubeLabels]: JSON.stringify(sorted(given)) };
  if (isDeepStrictEqual(labels, next) && isDeepStrictEqual(before, { ...given })) return undefined;
  const metadata = { ...value.metadata, labels: next, annotations: noted };
  return { do: 'update', why: 'labels', key, value: { ...value, metadata } as Value<Type>, revision };
}

/** What is no map of texts counts as nothing. */
function labelsIn(text: string | undefined): Readonly<Record<string, string>> {
  if (text === undefined) return {};
  try {
    const found: unknown = JSON.parse(text);
    if (typeof found !== 'object' || found === null || Array.isArray(found)) return {};
    return Object.fromEntries(Object.entries(found).filter(([, value]) => typeof value === 'string'));
  } catch (thrown) {
    if (thrown instanceof SyntaxError) return {};
    throw thrown;
  }
}

function sorted(labels: Readonly<Record<string, string>>): Record<string, string> {
  return Object.fromEntries(Object.entries(labels).sort(([a], [b]) => (a < b ? -1 : 1)));
}

/** What a node named in the datastore owns there, as far as it is no address. */
export interface Belongings {
  readonly endpoints: Iterable<Entry<'WorkloadEndpoint'>>;
  readonly peers: Iterable<Entry<'BGPPeer'>>;
  readonly felix: Known;
  readonly bgp: Known;
}

/**
 * The end of a node that Kubernetes no longer has: its endpoints, its peers and settings, and itself last, so that what
 * breaks off goes on at the next pass. Its addresses and blocks are then of a node that is gone.
 * @param name in Kubernetes, which must still not have it when the actions are carried out
 */
export function removalActions({ key, revision }: Entry<'Node'>, name: string, own: Belongings): Action[] {
  const end = { do: 'delete', why: 'nodeGone', unlessNode: name } as const;
  const settings = [own.felix, own.bgp].flatMap((known): Action[] => {
    if (known === undefined) return [];
    if ('invalid' in known) return [{ ...end, key: known.invalid.key, revision: undefined }];
    return [{ ...end, key: known.entry.key, revision: known.entry.revision }];
  });
  return [
    ...[...own.endpoints].map((each): Action => ({ ...end, key: each.key, revision: each.revision })),
    ...[...own.peers].map((each): Action => ({ ...end, key: each.key, revision: each.revision })),
    ...settings,
    { ...end, key, revision },
  ];
}

/** What belongs to a node, out of a view that holds these types. */
export function belongingsOf(node: string, view: View): Belongings {
  return {
    endpoints: [...view.of('WorkloadEndpoint').values()].filter(({ value }) => value.spec.node === node),
    peers: [...view.of('BGPPeer').values()].filter(({ value }) => value.spec.node === node),
    felix: view.known({ type: 'FelixConfiguration', name: `node.${node}` }),
    bgp: view.known({ type: 'BGPConfiguration', name: `node.${node}` }),
  };
}

/** The name of a node's automatic host endpoint. */
export function autoHostEndpointName(node: string): string {
  return `${node}-auto-hep`;
}

/** Whether a host endpoint was made by controllers, Calico's or these. */
export function isAutomatic({ metadata }: HostEndpoint): boolean {
  return metadata.labels?.[createdBy] === creator;
}

/**
 * What makes a node's automatic host endpoint as it should be: all devices, the node's labels, and a profile that allows
 * what no policy is about. One that somebody else made under its name is left alone.
 * @param node undefined: the node is gone, or none is wanted
 */
export function hostEndpointAction(name: string, node: Node | undefined, found: Known): Action | undefined {
  const why = 'hostEndpoint';
  const key = { type: 'HostEndpoint', name } as const;
  if (found && 'invalid' in found) return undefined;
  const entry = found?.entry as Entry<'HostEndpoint'> | undefined;
  if (entry && !isAutomatic(entry.value)) return undefined;
  const wanted = node && hostEndpointOf(name, node);
  if (wanted === undefined) return entry && { do: 'delete', why, key, revision: entry.revision };
  if (entry === undefined) return { do: 'create', why, key, value: wanted };
  const { metadata, spec } = entry.value;
  const { node: host, interfaceName, expectedIPs, profiles } = spec;
  const { ports: _, ...spec_ } = wanted.spec;
  const unchanged =
    isDeepStrictEqual(metadata.labels, wanted.metadata.labels) &&
    isDeepStrictEqual({ node: host, interfaceName, expectedIPs, profiles }, spec_);
  if (unchanged) return undefined;
  const value = { ...entry.value, metadata: { ...metadata, labels: wanted.metadata.labels ?? {} }, spec: wanted.spec };
  return { do: 'update', why, key, value, revision: entry.revision };
}

/** Undefined for a node without an address. */
function hostEndpointOf(name: string, { metadata, spec }: Node): HostEndpoint | undefined {
  const expectedIPs = addressesOf(spec);
  if (expectedIPs.length === 0) return undefined;
  return parseResource('HostEndpoint', {
    kind: 'HostEndpoint',
    apiVersion,
    metadata: { name, labels: { ...metadata.labels, [createdBy]: creator } },
    spec: { node: metadata.name, interfaceName: '*', expectedIPs, profiles: ['projectcalico-default-allow'] },
  });
}

/** A node's own addresses, then its tunnels'. */
function addressesOf({ bgp, ipv4VXLANTunnelAddr, ipv6VXLANTunnelAddr, wireguard }: Node['spec']): string[] {
  const guard = typeof wireguard === 'object' && wireguard !== null ? (wireguard as Record<string, unknown>) : {};
  const texts = [
    bgp?.ipv4Address?.split('/')[0],
    bgp?.ipv6Address?.split('/')[0],
    bgp?.ipv4IPIPTunnelAddr,
    ipv4VXLANTunnelAddr,
    ipv6VXLANTunnelAddr,
    guard['interfaceIPv4Address'],
    guard['interfaceIPv6Address'],
  ];
  return [...new Set(texts.filter((text): text is string => typeof text === 'string' && text !== ''))];
}
