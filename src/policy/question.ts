import { InputError } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import { type Event, keyText } from '../datastore/store.ts';
import { cidrParts, type Family, familyOf, hostCidr, type Ip, parseCidr, splitCidr } from '../model/address.ts';
import type { Node, WorkloadEndpoint } from '../model/kinds.ts';
import type { End, Question, Transport } from './ends.ts';
import type { Packet } from './evaluate.ts';
import { type EndpointTrace, explain } from './explain.ts';
import { addressesOfHost, type HostStep, hostPath, hostWith, type PathEnd } from './path.ts';
import { PolicyIndex } from './policy-index.ts';
import { portProtocolNumbers } from './port-protocols.ts';
import { slice, sliceNode } from './slice.ts';

export interface Side {
  readonly address: Ip;
  /** `keyText` of the pod's endpoint. */
  readonly key?: string;
  readonly namespace?: string;
  readonly pod?: string;
  /** Where the pod runs, or the node itself. */
  readonly node?: string;
  readonly interface?: string;
  /** Absent where no policy is asked: no pod of the cluster, or a reason in `always`. */
  readonly trace?: EndpointTrace;
}

export interface Answer {
  readonly verdict: 'allow' | 'deny';
  readonly transport: Transport;
  readonly source: Side;
  readonly destination: Side;
  /** What the host endpoints on the way decide, in its order. */
  readonly hosts: readonly HostStep[];
  /** Why no policy is asked: the packet stays in the pod, or comes from the pod's own node. */
  readonly always?: 'samePod' | 'ownNode';
  /** What is wrong in the objects that count here; they are treated as more strict. */
  readonly problems: readonly string[];
}

/**
 * The verdict on a new connection at both of its ends. Pure but for the log of invalid objects.
 * @param cluster every stored object; kinds without a part in policy are passed over
 * @throws InputError for a pod that does not exist, or ends without a common family
 */
export function answer(cluster: readonly Event[], question: Question, log: Log): Answer {
  const endpoints = endpointsOf(cluster);
  const from = resolve(cluster, endpoints, question.source, 'source');
  const to = resolve(cluster, endpoints, question.destination, 'destination');
  const families = ([4, 6] as const).filter(
    (family) => addressOf(from, family) !== undefined && addressOf(to, family) !== undefined,
  );
  const family = question.family ?? families[0];
  const source = family && addressOf(from, family);
  const destination = family && addressOf(to, family);
  if (!source || !destination)
    throw new InputError('destination', to.addresses, 'an address of the family of the source');
  const ends = { source: sideOf(from, source), destination: sideOf(to, destination) };
  const { transport } = question;
  const free =
    from.found && from.found.key === to.found?.key ? 'samePod' : ownNode(cluster, source, to) ? 'ownNode' : undefined;
  if (free) return { verdict: 'allow', transport, ...ends, hosts: [], always: free, problems: [] };
  const index = new PolicyIndex(sliceNode, log);
  for (const event of slice(cluster, [source, destination])) index.apply(event);
  const policy = index.snapshot();
  const packet = { source, destination, ...layerOf(transport, familyOf(source)) };
  const trace = ({ found }: Resolved, direction: Packet['direction']): { readonly trace?: EndpointTrace } =>
    found ? { trace: explain(policy, { ...packet, endpoint: found.key, direction }) } : {};
  const egress = trace(from, 'egress');
  const ingress = trace(to, 'ingress');
  const path = hostPath(cluster, packet, endOf(from), endOf(to), log);
  const traces = [egress.trace, ingress.trace, ...path.steps];
  const denied = traces.some((trace) => trace?.verdict === 'deny');
  return {
    verdict: denied ? 'deny' : 'allow',
    transport,
    source: { ...ends.source, ...egress },
    destination: { ...ends.destination, ...ingress },
    hosts: path.steps,
    problems: [...index.problems().map(({ key, error }) => `${key}: ${error.message}`), ...path.problems],
  };
}

/** The source of a question in a family, without its policy; undefined when it has no such address. @throws as `answer` */
export function sourceOf(cluster: readonly Event[], source: End, family: Family): Side | undefined {
  const from = resolve(cluster, endpointsOf(cluster), source, 'source');
  const address = addressOf(from, family);
  return address && sideOf(from, address);
}

function endpointsOf(cluster: readonly Event[]): WorkloadEndpoint[] {
  const endpoints: WorkloadEndpoint[] = [];
  for (const event of cluster)
    if (event.op === 'set' && event.entry.key.type === 'WorkloadEndpoint')
      endpoints.push(event.entry.value as WorkloadEndpoint);
  return endpoints;
}

/** What a packet of the transport carries; ICMP means an echo request. */
function layerOf(transport: Transport, family: Family): Pick<Packet, 'protocol'> & Partial<Packet> {
  if (transport.protocol === 'icmp')
    return family === 4 ? { protocol: 1, icmp: { type: 8, code: 0 } } : { protocol: 58, icmp: { type: 128, code: 0 } };
  return { protocol: portProtocolNumbers[transport.protocol], sourcePort: 40_000, destinationPort: transport.port };
}

interface Found {
  readonly key: string;
  readonly value: WorkloadEndpoint;
}

interface Resolved {
  readonly found: Found | undefined;
  /** The node that it is. */
  readonly host: string | undefined;
  readonly addresses: readonly Ip[];
}

function resolve(
  cluster: readonly Event[],
  endpoints: readonly WorkloadEndpoint[],
  party: End,
  field: string,
): Resolved {
  if ('host' in party) {
    const addresses = addressesOfHost(cluster, party.host);
    if (addresses.length === 0)
      throw new InputError(field, party.host, 'a node with an address, or a host endpoint of it with expectedIPs');
    return { found: undefined, host: party.host, addresses };
  }
  if ('address' in party) {
    const net = hostCidr(party.address);
    const found = endpoints.find(({ spec }) => spec.ipNetworks.includes(net));
    const host = found ? undefined : hostWith(cluster, party.address);
    return { found: found && foundOf(found), host, addresses: [party.address] };
  }
  const found = endpoints.find(
    ({ metadata, spec }) => metadata.namespace === party.namespace && (spec.pod ?? metadata.name) === party.pod,
  );
  if (!found)
    throw new InputError(
      field,
      `${party.namespace}/${party.pod}`,
      'a pod that exists; -n sets the namespace, and a service is svc:NAME',
    );
  const addresses = found.spec.ipNetworks.map((net) => cidrParts(parseCidr(net)).address);
  return { found: foundOf(found), host: undefined, addresses };
}

function endOf({ found, host }: Resolved): PathEnd {
  return { node: host ?? found?.value.spec.node, host: host !== undefined };
}

function foundOf(value: WorkloadEndpoint): Found {
  const { name, namespace } = value.metadata;
  return { key: keyText({ type: 'WorkloadEndpoint', name, ...(namespace !== undefined && { namespace }) }), value };
}

function addressOf({ addresses }: Resolved, family: Family): Ip | undefined {
  return addresses.find((address) => familyOf(address) === family);
}

function sideOf({ found, host }: Resolved, address: Ip): Side {
  if (!found) return { address, ...(host !== undefined && { node: host }) };
  const { metadata, spec } = found.value;
  return {
    address,
    key: found.key,
    ...(metadata.namespace !== undefined && { namespace: metadata.namespace }),
    pod: spec.pod ?? metadata.name,
    node: spec.node,
    interface: spec.interfaceName,
  };
}

/** Whether the source is the node that the destination runs on: its packets, the kubelet's probes, always pass. */
function ownNode(cluster: readonly Event[], source: Ip, { found }: Resolved): boolean {
  return cluster.some((event) => {
    if (event.op !== 'set' || event.entry.key.type !== 'Node' || event.entry.key.name !== found?.value.spec.node)
      return false;
    const { bgp } = (event.entry.value as Node).spec;
    return [bgp?.ipv4Address, bgp?.ipv6Address].some(
      (text) => text !== undefined && splitCidr(text).address === source,
    );
  });
}
