import { InputError } from '../base/errors.ts';
import { type Cidr, type Family, parseCidr } from '../model/address.ts';
import type { EntityRule, PolicyRule } from '../model/policy.ts';
import {
  among,
  both,
  equals,
  namespaceLabel,
  namespaceSelector,
  parseSelector,
  type Selector,
  serviceAccountLabel,
  serviceAccountSelector,
} from '../model/selector.ts';
import type { Match, PortRange } from './ir.ts';
import { namedPortSet, type SetRequest, selectorSet, serviceSet } from './members.ts';
import { portProtocolNumbers, portProtocolOf } from './port-protocols.ts';

/** What the rules of a policy are read against. */
export interface RuleContext {
  /** Of the policy; its selectors stay in it. */
  readonly namespace?: string;
  readonly direction: 'ingress' | 'egress';
  /** What the policy selects: the rule's own end of every packet. */
  readonly target: Selector;
}

/** IANA numbers of the protocols with a name in `projectcalico.org/v3`. */
const protocolNumbers = { ICMP: 1, TCP: 6, UDP: 17, ICMPv6: 58, SCTP: 132, UDPLite: 136 } as const;
/** Protocols that have ports: those whose ports have names, and UDPLite. */
const withPorts: ReadonlySet<number> = new Set([...Object.values(portProtocolNumbers), protocolNumbers.UDPLite]);
const icmpFamilies = new Map<number, Family>([
  [1, 4],
  [58, 6],
]);

/**
 * The match of one rule, and the IP sets that it refers to.
 * @param field path of the rule, for errors
 * @throws InputError for what the schema cannot see: addresses, ranges, selectors, and conditions that do not combine
 */
export function compileMatch(
  rule: PolicyRule,
  field: string,
  context: RuleContext,
): { readonly match: Match; readonly requests: readonly SetRequest[] } {
  const requests: SetRequest[] = [];
  const protocol = numberOf(rule.protocol, `${field}.protocol`);
  const notProtocol = numberOf(rule.notProtocol, `${field}.notProtocol`);
  const [source, destination] = (['source', 'destination'] as const).map((side) =>
    compileEntity(rule[side] ?? {}, `${field}.${side}`, {
      ...context,
      protocol,
      own: side === (context.direction === 'ingress' ? 'destination' : 'source'),
      request: (request) => {
        requests.push(request);
        return request.id;
      },
    }),
  );
  const family = familyOf(rule, protocol, field);
  const match: Match = {
    ...(family && { family }),
    ...(protocol !== undefined && { protocol }),
    ...(notProtocol !== undefined && { notProtocol }),
    ...icmpOf(rule, 'icmp', protocol, field),
    ...icmpOf(rule, 'notICMP', protocol, field),
    ...prefixed('source', source ?? {}),
    ...prefixed('destination', destination ?? {}),
  };
  return { match, requests };
}

function numberOf(protocol: PolicyRule['protocol'], field: string): number | undefined {
  // iptables takes protocol 0 for "any", which would widen the rule.
  if (protocol === 0) throw new InputError(field, protocol, 'a protocol number from 1 to 255');
  return typeof protocol === 'string' ? protocolNumbers[protocol] : protocol;
}

function familyOf(rule: PolicyRule, protocol: number | undefined, field: string): Family | undefined {
  const named = typeof rule.protocol === 'string' || rule.icmp || rule.notICMP;
  const implied = named && protocol !== undefined ? icmpFamilies.get(protocol) : undefined;
  if (implied && rule.ipVersion && rule.ipVersion !== implied)
    throw new InputError(`${field}.ipVersion`, rule.ipVersion, `${implied} with this protocol`);
  return rule.ipVersion ?? implied;
}

function icmpOf(
  rule: PolicyRule,
  name: 'icmp' | 'notICMP',
  protocol: number | undefined,
  field: string,
): Partial<Match> {
  const wanted = rule[name];
  if (!wanted) return {};
  if (protocol === undefined || !icmpFamilies.has(protocol))
    throw new InputError(`${field}.${name}`, wanted, 'protocol ICMP or ICMPv6 beside it');
  if (wanted.type === undefined) throw new InputError(`${field}.${name}.type`, wanted.type, 'an ICMP type');
  const icmp = { type: wanted.type, ...(wanted.code !== undefined && { code: wanted.code }) };
  return name === 'icmp' ? { icmp } : { notIcmp: icmp };
}

/** Conditions on one end of a packet, by their names in `Match` without the side. */
type Entity = {
  [K in 'Nets' | 'Sets' | 'Ports' | 'PortSets' as K | `not${K}`]?: K extends 'Nets'
    ? readonly Cidr[]
    : K extends 'Ports'
      ? readonly PortRange[]
      : readonly SetRequest['id'][];
};

interface EntityContext extends RuleContext {
  readonly protocol: number | undefined;
  /** Whether this end is the endpoint that the policy selects. */
  readonly own: boolean;
  readonly request: (request: SetRequest) => SetRequest['id'];
}

function compileEntity(entity: EntityRule, field: string, context: EntityContext): Entity {
  if (entity.services) return compileServices(entity, entity.services, field, context);
  const selector = effectiveSelector(entity, field, context.namespace);
  const notSelector = entity.notSelector ? parseSelector(entity.notSelector, `${field}.notSelector`) : undefined;
  // A named port of the policy's own end is only looked up on what the policy selects.
  const owner = selector ?? (context.own ? context.target : parseSelector('all()'));
  const ports = compilePorts(entity.ports, `${field}.ports`, owner, context);
  const notPorts = compilePorts(entity.notPorts, `${field}.notPorts`, owner, context);
  return {
    ...list(
      'Nets',
      entity.nets?.map((net, i) => parseCidr(net, `${field}.nets[${i}]`)),
    ),
    ...list(
      'notNets',
      entity.notNets?.map((net, i) => parseCidr(net, `${field}.notNets[${i}]`)),
    ),
    ...(selector && { Sets: [context.request(selectorSet(selector))] }),
    ...(notSelector && { notSets: [context.request(selectorSet(notSelector))] }),
    ...list('Ports', ports.ranges),
    ...list('PortSets', ports.sets),
    ...list('notPorts', notPorts.ranges),
    ...list('notPortSets', notPorts.sets),
  };
}

/**
 * The endpoints of a service: at the destination on the ports that the service reaches them on, at the source on any.
 * They can be the peer only, and say all there is to say of it.
 */
function compileServices(
  entity: EntityRule,
  { name, namespace }: NonNullable<EntityRule['services']>,
  field: string,
  { own, direction, namespace: home, request }: EntityContext,
): Entity {
  const place = namespace || home;
  if (own)
    throw new InputError(`${field}.services`, name, 'services only in the source of ingress and destination of egress');
  if (!place) throw new InputError(`${field}.services.namespace`, namespace, 'a namespace, as the policy has none');
  for (const [other, value] of Object.entries(entity))
    if (other !== 'services' && value !== undefined)
      throw new InputError(`${field}.${other}`, value, 'nothing beside services');
  const id = request(serviceSet(place, name, direction === 'egress'));
  return direction === 'egress' ? { PortSets: [id] } : { Sets: [id] };
}

/**
 * `(namespaces) && (selector) && (service accounts)`; without a namespaceSelector, the policy's own namespace. Undefined
 * when nothing restricts the end to known endpoints.
 */
function effectiveSelector(entity: EntityRule, field: string, namespace: string | undefined): Selector | undefined {
  const selector = entity.selector ? parseSelector(entity.selector, `${field}.selector`) : undefined;
  const accounts = accountSelectors(entity, field);
  const restricted = entity.selector || entity.notSelector || accounts.length > 0;
  const namespaces = entity.namespaceSelector
    ? namespaceSelector(parseSelector(entity.namespaceSelector, `${field}.namespaceSelector`))
    : namespace !== undefined && restricted
      ? equals(namespaceLabel, namespace)
      : undefined;
  const parts = [namespaces, selector, ...accounts].filter((part) => part !== undefined);
  return parts.length === 0 ? undefined : parts.reduce(both);
}

/** Service accounts by name and by their labels; both must hold. Empty ones, like an absent field, restrict nothing. */
function accountSelectors({ serviceAccounts = {} }: EntityRule, field: string): Selector[] {
  const { names = [], selector } = serviceAccounts;
  return [
    ...(names.length > 0 ? [among(serviceAccountLabel, names)] : []),
    ...(selector ? [serviceAccountSelector(parseSelector(selector, `${field}.serviceAccounts.selector`))] : []),
  ];
}

function compilePorts(
  ports: EntityRule['ports'],
  field: string,
  owner: Selector,
  { protocol, request }: EntityContext,
): { ranges: PortRange[]; sets: SetRequest['id'][] } {
  const ranges: PortRange[] = [];
  const sets: SetRequest['id'][] = [];
  for (const [i, port] of (ports ?? []).entries()) {
    const at = `${field}[${i}]`;
    if (protocol === undefined || !withPorts.has(protocol))
      throw new InputError(at, port, 'protocol TCP, UDP, SCTP or UDPLite beside ports');
    const range = rangeOf(port, at);
    const name = portProtocolOf(protocol);
    if (range) ranges.push(range);
    else if (name) sets.push(request(namedPortSet(owner, String(port), name)));
    else throw new InputError(at, port, 'a port number with this protocol');
  }
  return { ranges, sets };
}

/** A number or `first:last`; undefined for a name. */
function rangeOf(port: number | string, field: string): PortRange | undefined {
  const text = /^(\d{1,5})(?::(\d{1,5}))?$/.exec(String(port));
  if (!text) {
    if (/^[a-zA-Z0-9_.-]{1,128}$/.test(String(port))) return undefined;
    throw new InputError(field, port, 'a port, a range such as "80:90", or the name of a port');
  }
  const first = Number(text[1]);
  const last = Number(text[2] ?? text[1]);
  if (first > last || last > 65535) throw new InputError(field, port, 'an ascending range of ports up to 65535');
  return { first, last };
}

/** The field with its list, or nothing for an absent or empty list (which restricts nothing). */
function list<K extends keyof Entity>(name: K, values: Entity[K]): Entity {
  return values && values.length > 0 ? { [name]: values } : {};
}

/** `Nets` → `sourceNets`, `notNets` → `notSourceNets`. */
function prefixed(side: 'source' | 'destination', entity: Entity): Partial<Match> {
  const capital = side === 'source' ? 'Source' : 'Destination';
  return Object.fromEntries(
    Object.entries(entity).map(([name, value]) => [
      name.startsWith('not') ? `not${capital}${name.slice(3)}` : side + name,
      value,
    ]),
  );
}
