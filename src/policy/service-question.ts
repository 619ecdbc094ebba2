import { InputError } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import type { Event, Key } from '../datastore/store.ts';
import { type Family, familyOf, type Ip, parseIp } from '../model/address.ts';
import type { EndpointSlice, Service } from '../model/kinds.ts';
import { familyOfSlice } from '../model/service.ts';
import type { AnyQuestion, ServiceProtocol as Protocol, Question, ServiceQuestion } from './ends.ts';
import { type Answer, answer, type Side, sourceOf } from './question.ts';

/*
 * A service as the destination of a question. kube-proxy puts an endpoint in the place of the service's address before
 * the filter table, so policy is asked about each endpoint that it may choose, and never about the service.
 */

/** Endpoints that a connection to a service may be given to. */
export interface ServiceTarget {
  readonly service: {
    readonly namespace: string;
    readonly name: string;
    /** Absent for a headless service, whose names lead to its endpoints. */
    readonly address?: Ip;
    readonly protocol: Protocol;
    readonly port: number;
    readonly portName?: string;
  };
  readonly source: Side;
  readonly endpoints: readonly { readonly address: Ip; readonly port: number }[];
  readonly problems: readonly string[];
}

/** The verdicts on the endpoints of a service. */
export interface ServiceAnswer<A extends Answer = Answer> extends Omit<ServiceTarget, 'endpoints'> {
  /** `mixed`: some endpoints are reached, others are not. Without an endpoint, `deny`. */
  readonly verdict: 'allow' | 'deny' | 'mixed';
  readonly endpoints: readonly A[];
}

export type AnyAnswer = Answer | ServiceAnswer;

/** Most endpoints of a service that one question asks. */
const mostEndpoints = 64;

/** The verdict on a connection to whatever the destination is. @throws InputError for a question without an answer */
export function answerAny(cluster: readonly Event[], question: AnyQuestion, log: Log): AnyAnswer {
  const target = resolveService(cluster, question);
  if (!target) return answer(cluster, question as Question, log);
  return summarised(
    target,
    questionsOf(target, question).map((each) => answer(cluster, each, log)),
  );
}

/** A question for each endpoint. */
export function questionsOf({ service, endpoints }: ServiceTarget, { source, family }: AnyQuestion): Question[] {
  return endpoints.map(({ address, port }) => ({
    source,
    destination: { address },
    transport: { protocol: service.protocol, port },
    ...(family && { family }),
  }));
}

export function summarised<A extends Answer>(target: ServiceTarget, answers: readonly A[]): ServiceAnswer<A> {
  const allowed = answers.filter(({ verdict }) => verdict === 'allow').length;
  const verdict = allowed === 0 ? 'deny' : allowed === answers.length ? 'allow' : 'mixed';
  const { service, source, problems } = target;
  return { verdict, service, source, endpoints: answers, problems };
}

/**
 * What a service gives a connection to. Undefined for a question about something else, which is what an address of a
 * service is on a port that the service does not have.
 * @throws InputError for a service or port that does not exist, and ends without a common family
 */
export function resolveService(cluster: readonly Event[], question: AnyQuestion): ServiceTarget | undefined {
  const asked =
    'service' in question.destination ? byName(cluster, question as ServiceQuestion) : byAddress(cluster, question);
  if (!asked) return undefined;
  const { service, port, at } = asked;
  const { name, namespace = '' } = service.metadata;
  const slices = valuesOf<EndpointSlice>(cluster, 'EndpointSlice').filter(
    ({ metadata, spec }) => spec.service === name && metadata.namespace === namespace,
  );
  const addresses = at === undefined ? service.spec.clusterIPs.map((ip) => parseIp(ip)) : [at];
  const source = sourceIn(cluster, question, at, addresses, slices);
  const family = familyOf(source.address);
  const address = addresses.find((each) => familyOf(each) === family);
  const outside = source.node === undefined;
  const chosen = choose(slices, port, family, {
    // To a headless service one connects on the number that one has in mind; by name DNS tells that of the endpoints.
    direct: address === undefined && !('port' in question && typeof question.port === 'string'),
    // Traffic policies are for those who come from a node; the world outside may come by any.
    node: service.spec.internalTrafficPolicy === 'Local' && inside(service, at) ? source.node : undefined,
  });
  return {
    service: {
      ...{ namespace, name },
      ...(address !== undefined && { address }),
      ...{ protocol: port.protocol, port: port.port },
      ...(port.name !== undefined && { portName: port.name }),
    },
    source,
    endpoints: chosen.slice(0, mostEndpoints),
    problems: [
      ...(chosen.length === 0
        ? [`service ${namespace}/${name} has no endpoint that is ready there, so connections to it are refused`]
        : []),
      ...(chosen.length > mostEndpoints ? [`only ${mostEndpoints} of ${chosen.length} endpoints were asked`] : []),
      ...(outside && address !== undefined && !keepsSource(service, at)
        ? [`kube-proxy may put the address of a node in the place of ${source.address}, which is what policy then sees`]
        : []),
    ],
  };
}

interface Port {
  readonly name?: string;
  readonly protocol: Protocol;
  readonly port: number;
}

interface Asked {
  readonly service: Service;
  readonly port: Port;
  /** The address that was asked about. */
  readonly at?: Ip;
}

function byName(cluster: readonly Event[], { destination, port, protocol }: ServiceQuestion): Asked {
  const { namespace, service: name } = destination;
  const service = valuesOf<Service>(cluster, 'Service').find(
    ({ metadata }) => metadata.name === name && metadata.namespace === namespace,
  );
  if (!service)
    throw new InputError('destination', `svc:${namespace}/${name}`, 'a service that exists; -n sets the namespace');
  if (service.spec.type === 'ExternalName')
    throw new InputError(
      'destination',
      `svc:${namespace}/${name}`,
      'a service with endpoints, not another name of a host',
    );
  const ports = portsOf(service);
  const wanted = protocol ?? (typeof port === 'number' ? 'tcp' : undefined);
  const anyPort = ports.length === 0 && service.spec.clusterIPs.length === 0;
  if (anyPort && wanted !== undefined && typeof port === 'number') return { service, port: { protocol: wanted, port } };
  const found = ports.find(
    (each) =>
      (typeof port === 'number' ? each.port : each.name) === port && (wanted ?? each.protocol) === each.protocol,
  );
  if (!found) {
    const known = ports.map((each) => `${each.name ?? ''}${each.name ? ' ' : ''}${each.port}/${each.protocol}`);
    const text = `${port}${wanted === undefined ? '' : `/${wanted}`}`;
    throw new InputError(
      'destination',
      text,
      `a port of service ${namespace}/${name}: ${known.join(', ') || 'none is known'}`,
    );
  }
  return { service, port: found };
}

function byAddress(cluster: readonly Event[], question: AnyQuestion): Asked | undefined {
  const { destination, transport } = question as Question;
  if (!('address' in destination) || transport.protocol === 'icmp') return undefined;
  const at = destination.address;
  for (const service of valuesOf<Service>(cluster, 'Service')) {
    if (!addressesOf(service).includes(at)) continue;
    const port = portsOf(service).find((each) => each.port === transport.port && each.protocol === transport.protocol);
    if (port) return { service, port, at };
  }
  return undefined;
}

/** Where the service is reached: in the cluster, and from outside. */
export function addressesOf({ spec }: Service): Ip[] {
  return [...spec.clusterIPs, ...spec.externalIPs, ...spec.loadBalancerIPs].map((ip) => parseIp(ip));
}

function portsOf({ spec }: Service): Port[] {
  return spec.ports.map(({ name, protocol, port }) => ({
    ...(name !== undefined && { name }),
    protocol: protocol.toLowerCase() as Protocol,
    port,
  }));
}

/** Whether the address is of the cluster's inside. */
function inside({ spec }: Service, at: Ip | undefined): boolean {
  return at === undefined || spec.clusterIPs.some((ip) => parseIp(ip) === at);
}

function keepsSource(service: Service, at: Ip | undefined): boolean {
  return service.spec.externalTrafficPolicy === 'Local' && !inside(service, at);
}

/** The source in a family that both it and the service have. */
function sourceIn(
  cluster: readonly Event[],
  { source, family }: AnyQuestion,
  at: Ip | undefined,
  addresses: readonly Ip[],
  slices: readonly EndpointSlice[],
): Side {
  const there = new Set<Family | undefined>(
    addresses.length > 0 ? addresses.map(familyOf) : slices.map(({ spec }) => familyOfSlice(spec)),
  );
  const families = family ? [family] : ([4, 6] as const);
  for (const each of families) {
    const side = there.has(each) || there.size === 0 ? sourceOf(cluster, source, each) : undefined;
    if (side) return side;
  }
  throw new InputError('destination', at ?? addresses, 'an address of the family of the source');
}

interface Choice {
  /** Connections go to the endpoints themselves, on the port that is asked about. */
  readonly direct: boolean;
  /** Only endpoints of this node. */
  readonly node: string | undefined;
}

/** The endpoints that are ready; where none is, those that still serve while they end, as kube-proxy does. */
function choose(
  slices: readonly EndpointSlice[],
  { name = '', protocol, port }: Port,
  family: Family,
  { direct, node }: Choice,
): { readonly address: Ip; readonly port: number }[] {
  const all = slices.flatMap(({ spec }) => {
    if (familyOfSlice(spec) !== family) return [];
    const own = spec.ports.find((each) => (each.name ?? '') === name && each.protocol.toLowerCase() === protocol);
    // Endpoints of a service without ports are reached on any.
    if (!own && spec.ports.length > 0) return [];
    const to = direct ? port : (own?.port ?? port);
    return spec.endpoints.flatMap(({ addresses, nodeName, conditions }) =>
      node === undefined || nodeName === node
        ? addresses
            .slice(0, 1)
            .flatMap((text) => readable(text).map((address) => ({ ...conditions, address, port: to })))
        : [],
    );
  });
  const ready = all.filter((each) => each.ready !== false);
  const ending = all.filter(({ serving, terminating }) => serving && terminating);
  const chosen = ready.length > 0 || direct ? ready : ending;
  const byText = new Map(chosen.map(({ address, port: to }) => [`${address} ${to}`, { address, port: to }]));
  return [...byText].sort(([a], [b]) => (a < b ? -1 : 1)).map(([, endpoint]) => endpoint);
}

/** Nothing for what is no address. */
function readable(text: string): Ip[] {
  try {
    return [parseIp(text)];
  } catch (thrown) {
    if (thrown instanceof InputError) return [];
    throw thrown;
  }
}

function valuesOf<V>(cluster: readonly Event[], type: Key['type']): V[] {
  return cluster.flatMap((event) =>
    event.op === 'set' && event.entry.key.type === type ? [event.entry.value as V] : [],
  );
}
