import { BlockList } from 'node:net';
import type { V1LabelSelector, V1NetworkPolicyPort } from '@kubernetes/client-node';

/*
 * What the specification of networking.k8s.io/v1 NetworkPolicy says of one connection, written from its text and
 * straight on the Kubernetes objects. It shares nothing with the code under test.
 */

export interface Peer {
  readonly podSelector?: V1LabelSelector;
  readonly namespaceSelector?: V1LabelSelector;
  readonly ipBlock?: { readonly cidr: string; readonly except?: readonly string[] };
}

export interface Policy {
  readonly name: string;
  readonly namespace: string;
  readonly spec: {
    readonly podSelector: V1LabelSelector;
    readonly policyTypes?: readonly ('Ingress' | 'Egress')[];
    readonly ingress?: readonly { readonly from?: readonly Peer[]; readonly ports?: readonly V1NetworkPolicyPort[] }[];
    readonly egress?: readonly { readonly to?: readonly Peer[]; readonly ports?: readonly V1NetworkPolicyPort[] }[];
  };
}

export interface Pod {
  readonly name: string;
  readonly namespace: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly addresses: readonly string[];
  readonly ports: readonly { readonly name: string; readonly protocol: string; readonly port: number }[];
  /** Its service account, which NetworkPolicy does not ask for. */
  readonly account?: string;
}

export interface Cluster {
  /** Name → labels. */
  readonly namespaces: Readonly<Record<string, Readonly<Record<string, string>>>>;
  readonly pods: readonly Pod[];
  readonly policies: readonly Policy[];
}

export interface Connection {
  readonly source: string;
  readonly destination: string;
  readonly protocol: 'TCP' | 'UDP' | 'SCTP' | 'ICMP';
  /** Of the destination; absent for ICMP. */
  readonly port?: number;
}

/** Whether the policies on `pod` let it accept (`Ingress`) or open (`Egress`) the connection. */
export function permits(cluster: Cluster, pod: Pod, direction: 'Ingress' | 'Egress', connection: Connection): boolean {
  return decides(cluster, pod, direction, connection) ?? true;
}

/** The same, undefined when no policy isolates the pod in the direction. */
export function decides(
  cluster: Cluster,
  pod: Pod,
  direction: 'Ingress' | 'Egress',
  connection: Connection,
): boolean | undefined {
  const isolating = cluster.policies.filter(
    (policy) =>
      policy.namespace === pod.namespace &&
      selects(policy.spec.podSelector, pod.labels) &&
      typesOf(policy).includes(direction),
  );
  if (isolating.length === 0) return undefined;
  const other = direction === 'Ingress' ? connection.source : connection.destination;
  return isolating.some((policy) =>
    rulesOf(policy, direction).some(
      ({ peers, ports }) =>
        (!peers?.length || peers.some((peer) => holds(cluster, policy.namespace, peer, other))) &&
        (!ports?.length || ports.some((port) => admits(cluster, port, connection))),
    ),
  );
}

function typesOf({ spec }: Policy): readonly string[] {
  if (spec.policyTypes?.length) return spec.policyTypes;
  return spec.egress?.length ? ['Ingress', 'Egress'] : ['Ingress'];
}

function rulesOf({ spec }: Policy, direction: 'Ingress' | 'Egress') {
  if (direction === 'Ingress') return (spec.ingress ?? []).map(({ from, ports }) => ({ peers: from, ports }));
  return (spec.egress ?? []).map(({ to, ports }) => ({ peers: to, ports }));
}

function holds(cluster: Cluster, namespace: string, peer: Peer, address: string): boolean {
  if (peer.ipBlock) {
    return within(peer.ipBlock.cidr, address) && !peer.ipBlock.except?.some((except) => within(except, address));
  }
  return cluster.pods.some((pod) => {
    if (!pod.addresses.includes(address)) return false;
    const inNamespace = peer.namespaceSelector
      ? selects(peer.namespaceSelector, cluster.namespaces[pod.namespace] ?? {})
      : pod.namespace === namespace;
    return inNamespace && (!peer.podSelector || selects(peer.podSelector, pod.labels));
  });
}

function admits(cluster: Cluster, port: V1NetworkPolicyPort, connection: Connection): boolean {
  if ((port.protocol ?? 'TCP') !== connection.protocol) return false;
  if (port.port === undefined) return true;
  if (connection.port === undefined) return false;
  if (typeof port.port === 'number')
    return port.port <= connection.port && connection.port <= (port.endPort ?? port.port);
  return cluster.pods
    .filter(({ addresses }) => addresses.includes(connection.destination))
    .flatMap(({ ports }) => ports)
    .some(
      ({ name, protocol, port: number }) =>
        name === port.port && protocol === connection.protocol && number === connection.port,
    );
}

export function selects(selector: V1LabelSelector, labels: Readonly<Record<string, string>>): boolean {
  const has = (key: string) => Object.keys(labels).includes(key);
  const equal = Object.entries(selector.matchLabels ?? {}).every(([key, value]) => has(key) && labels[key] === value);
  const expressions = (selector.matchExpressions ?? []).every(({ key, operator, values = [] }) => {
    if (operator === 'In') return has(key) && values.includes(labels[key] ?? '');
    if (operator === 'NotIn') return !has(key) || !values.includes(labels[key] ?? '');
    return has(key) === (operator === 'Exists');
  });
  return equal && expressions;
}

export function within(cidr: string, address: string): boolean {
  const family = (text: string) => (text.includes(':') ? 'ipv6' : 'ipv4');
  if (family(cidr) !== family(address)) return false;
  const [net = '', length = ''] = cidr.split('/');
  const list = new BlockList();
  list.addSubnet(net, Number(length), family(cidr));
  return list.check(address, family(address));
}
