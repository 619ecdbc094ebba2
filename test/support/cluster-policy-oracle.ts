import type { V1LabelSelector } from '@kubernetes/client-node';
import { type Cluster, type Connection, decides, type Pod, selects, within } from './oracle.ts';

/*
 * What the API of policy.networking.k8s.io says of one connection, written from its text and straight on its objects. It
 * shares nothing with the code under test.
 */

export interface NamespacedPod {
  readonly namespaceSelector: V1LabelSelector;
  readonly podSelector: V1LabelSelector;
}

export interface ClusterPeer {
  /** Of v1alpha1: namespaces with all these labels, of the same values as the subject's, or with another. */
  readonly sameLabels?: readonly string[];
  readonly notSameLabels?: readonly string[];
  /** Beside these, which of their pods. */
  readonly relatedPods?: V1LabelSelector;
  readonly namespaces?: V1LabelSelector;
  readonly pods?: NamespacedPod;
  readonly nodes?: V1LabelSelector;
  readonly networks?: readonly string[];
  /** A field that no version has. */
  readonly moons?: object;
}

type Protocol = 'TCP' | 'UDP' | 'SCTP';

/** A port as both versions can say it. */
export interface ClusterPort {
  /** Absent: a named port, of any protocol. */
  readonly protocol?: Protocol;
  readonly first?: number;
  readonly last?: number;
  readonly name?: string;
}

export interface ClusterRule {
  readonly action: 'Allow' | 'Deny' | 'Pass';
  readonly peers: readonly ClusterPeer[];
  readonly ports?: readonly ClusterPort[];
}

export interface ClusterPolicy {
  readonly name: string;
  readonly kind: 'AdminNetworkPolicy' | 'BaselineAdminNetworkPolicy' | 'ClusterNetworkPolicy';
  readonly tier: 'Admin' | 'Baseline';
  readonly priority: number;
  readonly subject: { readonly namespaces: V1LabelSelector } | { readonly pods: NamespacedPod };
  readonly ingress: readonly ClusterRule[];
  readonly egress: readonly ClusterRule[];
}

export interface ClusterNode {
  readonly name: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly addresses: readonly string[];
}

export interface PolicyWorld extends Cluster {
  readonly nodes: readonly ClusterNode[];
  readonly clusterPolicies: readonly ClusterPolicy[];
}

/** Admin tier, then NetworkPolicy where one isolates, then the baseline, then everything is open. */
export function worldPermits(
  world: PolicyWorld,
  pod: Pod,
  direction: 'Ingress' | 'Egress',
  connection: Connection,
): boolean {
  return (
    inTier(world, 'Admin', pod, direction, connection) ??
    decides(world, pod, direction, connection) ??
    inTier(world, 'Baseline', pod, direction, connection) ??
    true
  );
}

function inTier(
  world: PolicyWorld,
  tier: 'Admin' | 'Baseline',
  pod: Pod,
  direction: 'Ingress' | 'Egress',
  connection: Connection,
): boolean | undefined {
  // A baseline of v1alpha1 has no priority and comes last.
  const rank = ({ kind, priority }: ClusterPolicy) => (kind === 'BaselineAdminNetworkPolicy' ? Infinity : priority);
  const policies = world.clusterPolicies
    .filter((policy) => policy.tier === tier && isSubject(world, policy, pod))
    .toSorted((a, b) => rank(a) - rank(b));
  for (const policy of policies)
    for (const rule of direction === 'Ingress' ? policy.ingress : policy.egress) {
      const action = actionOf(world, rule, direction, connection, pod);
      if (action === 'Pass') return undefined;
      if (action) return action === 'Allow';
    }
  return undefined;
}

/** What a rule does with a connection; undefined when nothing. One with an unknown peer fails closed. */
function actionOf(
  world: PolicyWorld,
  { action, peers, ports }: ClusterRule,
  direction: 'Ingress' | 'Egress',
  connection: Connection,
  subject: Pod,
): ClusterRule['action'] | undefined {
  const known = (peer: ClusterPeer) =>
    peer.namespaces ?? peer.pods ?? peer.nodes ?? peer.networks ?? peer.sameLabels ?? peer.notSameLabels;
  if (!peers.every(known)) return action === 'Allow' ? undefined : 'Deny';
  const other = direction === 'Ingress' ? connection.source : connection.destination;
  const matches =
    peers.some((peer) => isPeer(world, peer, other) || isRelated(world, peer, other, subject)) &&
    (!ports || ports.some((port) => onPort(world, port, connection)));
  return matches ? action : undefined;
}

function isSubject(world: PolicyWorld, { subject }: ClusterPolicy, pod: Pod): boolean {
  return 'pods' in subject ? isPod(world, subject.pods, pod) : inNamespaces(world, subject.namespaces, pod);
}

function isRelated({ pods, namespaces }: PolicyWorld, peer: ClusterPeer, address: string, subject: Pod): boolean {
  const keys = peer.sameLabels ?? peer.notSameLabels ?? [];
  const labelOf = (pod: Pod, key: string) => new Map(Object.entries(namespaces[pod.namespace] ?? {})).get(key);
  return pods.some((pod) => {
    if (!pod.addresses.includes(address) || !selects(peer.relatedPods ?? {}, pod.labels)) return false;
    if (keys.length === 0 || keys.some((key) => labelOf(pod, key) === undefined)) return false;
    const same = keys.every((key) => labelOf(pod, key) === labelOf(subject, key));
    return same === (peer.sameLabels !== undefined);
  });
}

function isPeer(world: PolicyWorld, { namespaces, pods, nodes, networks }: ClusterPeer, address: string): boolean {
  if (!networks && !nodes && !namespaces && !pods) return false;
  if (networks) return networks.some((network) => within(network, address));
  if (nodes) return world.nodes.some((node) => node.addresses.includes(address) && selects(nodes, node.labels));
  return world.pods.some(
    (pod) =>
      pod.addresses.includes(address) && (pods ? isPod(world, pods, pod) : inNamespaces(world, namespaces ?? {}, pod)),
  );
}

function isPod(world: PolicyWorld, { namespaceSelector, podSelector }: NamespacedPod, pod: Pod): boolean {
  return inNamespaces(world, namespaceSelector, pod) && selects(podSelector, pod.labels);
}

function inNamespaces({ namespaces }: PolicyWorld, selector: V1LabelSelector, pod: Pod): boolean {
  return selects(selector, namespaces[pod.namespace] ?? {});
}

function onPort({ pods }: PolicyWorld, port: ClusterPort, connection: Connection): boolean {
  if (connection.port === undefined) return false;
  if (port.name === undefined)
    return (
      port.protocol === connection.protocol &&
      (port.first ?? 0) <= connection.port &&
      connection.port <= (port.last ?? port.first ?? 0)
    );
  return pods
    .filter(({ addresses }) => addresses.includes(connection.destination))
    .flatMap(({ ports }) => ports)
    .some(
      ({ name, protocol, port: number }) =>
        name === port.name && protocol === connection.protocol && number === connection.port,
    );
}
