import type { Log } from '../base/log.ts';
import { type Event, type Key, keyText } from '../datastore/store.ts';
import { type Cidr, contains, familyOf, hostCidr, type Ip, parseCidr, parseIp, splitCidr } from '../model/address.ts';
import { everyInterface } from '../model/host-endpoint.ts';
import type { FelixConfiguration, HostEndpoint, IpPool, Node } from '../model/kinds.ts';
import type { Packet } from './evaluate.ts';
import { explainAtHost, type Failsafes, type HostTrace } from './host.ts';
import { nodeOf } from './node.ts';
import { PolicyIndex } from './policy-index.ts';
import { defaultFailsafe, type Failsafe } from './render/failsafe.ts';
import { slice, sliceNode } from './slice.ts';

/*
 * Which host endpoints a connection passes between two ends, from the stored objects alone: which device a node uses is
 * told by the expected addresses of its host endpoints, or by there being only one that it can be.
 */

/** An end of a connection: on a node of the cluster, or nowhere known. */
export interface PathEnd {
  readonly node: string | undefined;
  /** Whether it is the node itself, and not a pod on it. */
  readonly host: boolean;
}

export interface HostStep extends HostTrace {
  /** `keyText` of the host endpoint. */
  readonly key: string;
  readonly hostEndpoint: string;
  readonly node: string;
  /** As the host endpoint names it; without a name, the addresses by which it is found. */
  readonly device: string;
}

export interface Path {
  readonly steps: readonly HostStep[];
  /** What cannot be told, and what is wrong in the objects that count. */
  readonly problems: readonly string[];
}

/** What host endpoints decide on a packet on its way; what stays on one node meets none. */
export function hostPath(
  cluster: readonly Event[],
  packet: Omit<Packet, 'endpoint' | 'direction'>,
  from: PathEnd,
  to: PathEnd,
  log: Log,
): Path {
  if (from.node === to.node)
    return { steps: [], problems: to.host && !from.host ? ownHostProblems(cluster, from.node ?? '') : [] };
  const tunnelled = encapsulated(cluster, packet.destination, from, to);
  const steps: HostStep[] = [];
  const problems: string[] = [];
  for (const [direction, end] of [
    ['egress', from],
    ['ingress', to],
  ] as const) {
    if (end.node === undefined) continue;
    const found = hostEndpointAt(cluster, end.node, packet, tunnelled);
    if (typeof found === 'string') problems.push(found);
    else if (found) {
      const step = asked(cluster, found, { ...packet, direction }, end, log);
      steps.push(step.trace);
      problems.push(...step.problems);
    }
  }
  return { steps, problems };
}

type Found = { readonly event: Event; readonly value: HostEndpoint };

function asked(
  cluster: readonly Event[],
  { event, value }: Found,
  packet: Omit<Packet, 'endpoint'>,
  { node = '', host }: PathEnd,
  log: Log,
): { readonly trace: HostStep; readonly problems: readonly string[] } {
  const index = new PolicyIndex(sliceNode, log);
  for (const each of slice(cluster, [packet.source, packet.destination], event)) index.apply(each);
  const endpoint = keyText(keyOf(event));
  const device = value.spec.interfaceName ?? value.spec.expectedIPs.join(', ');
  const passage = host ? 'own' : 'forwarded';
  const failsafes = failsafesOf(cluster, node);
  const trace = explainAtHost(index.snapshot(), { ...packet, endpoint }, passage, failsafes, device);
  return {
    trace: { key: endpoint, hostEndpoint: value.metadata.name, node, device, ...trace },
    problems: index.problems().map(({ key, error }) => `${key}: ${error.message}`),
  };
}

/** The host endpoint at the device by which a node is reached; text when several can be meant. */
function hostEndpointAt(
  cluster: readonly Event[],
  node: string,
  { source, destination }: Pick<Packet, 'source' | 'destination'>,
  tunnelled: boolean,
): Found | string | undefined {
  const own = valuesOf<HostEndpoint>(cluster, 'HostEndpoint')
    .filter(({ value }) => value.spec.node === node)
    .sort((a, b) => (a.value.metadata.name < b.value.metadata.name ? -1 : 1));
  const all = own.find(({ value }) => value.spec.interfaceName === everyInterface);
  if (tunnelled) return all;
  const named = own.filter(({ value }) => value.spec.interfaceName !== everyInterface);
  const expecting = (addresses: readonly Ip[]) =>
    named.find(({ value }) => value.spec.expectedIPs.some((ip) => addresses.includes(parseIp(ip))));
  const expected = expecting([source, destination]) ?? expecting(nodeAddresses(cluster, node));
  if (expected) return expected;
  const known = named.filter(({ value }) => value.spec.expectedIPs.length === 0);
  if (known.length > 0 && known.length + (all ? 1 : 0) > 1)
    return `node ${node} has several host endpoints, and without expectedIPs it is not known which one the connection passes`;
  return known[0] ?? all;
}

/** The addresses of a node: those that its object names first, then those that its host endpoints expect. */
export function addressesOfHost(cluster: readonly Event[], node: string): readonly Ip[] {
  const expected = valuesOf<HostEndpoint>(cluster, 'HostEndpoint')
    .filter(({ value }) => value.spec.node === node)
    .flatMap(({ value }) => value.spec.expectedIPs.map((ip) => parseIp(ip)));
  return [...new Set([...nodeAddresses(cluster, node), ...expected])];
}

/** The node that has the address. */
export function hostWith(cluster: readonly Event[], address: Ip): string | undefined {
  const node = valuesOf<Node>(cluster, 'Node').find(({ value }) =>
    nodeOf(value).facts.addresses.includes(hostCidr(address)),
  );
  const endpoint = valuesOf<HostEndpoint>(cluster, 'HostEndpoint').find(({ value }) =>
    value.spec.expectedIPs.some((ip) => parseIp(ip) === address),
  );
  return node?.value.metadata.name ?? endpoint?.value.spec.node;
}

function nodeAddresses(cluster: readonly Event[], name: string): Ip[] {
  const found = valuesOf<Node>(cluster, 'Node').find(({ value }) => value.metadata.name === name);
  return found ? nodeOf(found.value).facts.addresses.map((cidr) => splitCidr(cidr).address) : [];
}

/** Whether the packet goes from node to node inside another: to a pod, by the mode of its pool. */
function encapsulated(cluster: readonly Event[], destination: Ip, from: PathEnd, to: PathEnd): boolean {
  if (from.node === undefined || to.node === undefined || to.host) return false;
  const pools = valuesOf<IpPool>(cluster, 'IPPool').filter(({ value }) =>
    contains(parseCidr(value.spec.cidr), destination),
  );
  const pool = pools[0]?.value.spec;
  if (!pool) return false;
  const modes = [pool.vxlanMode, pool.ipipMode];
  if (modes.includes('Always')) return true;
  return modes.includes('CrossSubnet') && !sameSubnet(cluster, from.node, to.node);
}

/** By the prefix lengths of the addresses that the nodes announce. */
function sameSubnet(cluster: readonly Event[], a: string, b: string): boolean {
  const subnets = (name: string) =>
    valuesOf<Node>(cluster, 'Node')
      .filter(({ value }) => value.metadata.name === name)
      .flatMap(({ value: { spec } }) => [spec.bgp?.ipv4Address, spec.bgp?.ipv6Address])
      .flatMap((text) => (text === undefined ? [] : [text]));
  const others = subnets(b).map((text) => splitCidr(text).address);
  return subnets(a).some((text) => others.some((address) => sameFamilyHolds(parseCidr(text), address)));
}

function sameFamilyHolds(net: Cidr, address: Ip): boolean {
  return familyOf(net) === familyOf(hostCidr(address)) && contains(net, address);
}

/** What a pod may send to its own host meets a setting of the agent, of which only the stored part is known. */
function ownHostProblems(cluster: readonly Event[], node: string): string[] {
  const stored = fieldOf(cluster, node, 'defaultEndpointToHostAction') ?? 'Drop';
  if (stored.toLowerCase() !== 'drop') return [];
  return [
    `node ${node} drops what its own pods send to it (defaultEndpointToHostAction), unless its agent's environment says otherwise`,
  ];
}

/** The field of the FelixConfiguration that counts for a node. */
function fieldOf<K extends keyof FelixConfiguration['spec']>(
  cluster: readonly Event[],
  node: string,
  field: K,
): FelixConfiguration['spec'][K] | undefined {
  const configurations = valuesOf<FelixConfiguration>(cluster, 'FelixConfiguration');
  return [`node.${node}`, 'default']
    .map((name) => configurations.find(({ value }) => value.metadata.name === name)?.value.spec[field])
    .find((value) => value !== undefined);
}

/** What FelixConfigurations say for the node; what its environment says is not stored. */
function failsafesOf(cluster: readonly Event[], node: string): Failsafes {
  const given = (field: 'failsafeInboundHostPorts' | 'failsafeOutboundHostPorts') =>
    fieldOf(cluster, node, field)?.map(
      ({ protocol, port, net }): Failsafe => ({
        protocol: protocol.toLowerCase() as Failsafe['protocol'],
        port,
        ...(net !== undefined && { net: parseCidr(net) }),
      }),
    );
  return {
    inbound: given('failsafeInboundHostPorts') ?? defaultFailsafe.inbound,
    outbound: given('failsafeOutboundHostPorts') ?? defaultFailsafe.outbound,
  };
}

function keyOf(event: Event): Key {
  return event.op === 'delete' ? event.key : event.entry.key;
}

function valuesOf<V>(cluster: readonly Event[], type: Key['type']): { readonly event: Event; readonly value: V }[] {
  return cluster.flatMap((event) =>
    event.op === 'set' && event.entry.key.type === type ? [{ event, value: event.entry.value as V }] : [],
  );
}
