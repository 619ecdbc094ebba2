import { type Cidr, contains, type Family, familyOf, type Ip, isLinkLocal } from '../model/address.ts';
import { llgrStale } from './communities.ts';
import { defaultLocalPref } from './decision.ts';
import { type Filter, type Operation, operated } from './filters.ts';
import type { Candidate } from './rib.ts';
import { prepend, withoutPrivate } from './wire/aspath.ts';
import type { Attributes } from './wire/attributes.ts';

/**
 * Next hop of routes passed on. `auto`: an address on a subnet that this node and the receiving peer share stays, since
 * the peer reaches it in one hop as we do; anything else becomes this node. RFC 4271 §5.1.3.
 */
export type NextHopMode = 'auto' | 'self' | 'keep';

/** How routes of internal peers go to internal peers. RFC 4456. */
export interface Reflection {
  /** Of this reflector. */
  readonly clusterId: Ip;
  /** The receivers are clients, who hear of the non-clients too. */
  readonly client: boolean;
}

/** Everything that the form of an advertisement depends on: peers that agree in it form one update group. */
export interface ExportContext {
  readonly family: Family;
  /** Own AS number towards the peers. */
  readonly asn: number;
  readonly external: boolean;
  readonly fourOctetAs: boolean;
  /** This node as next hop: its address of the family, or an IPv6 one where the session allows that. */
  readonly self: Ip;
  /** Its address on the link with the peers, told beside a global one. RFC 2545 §3. */
  readonly selfLinkLocal?: Ip | undefined;
  /** The peers take IPv6 next hops of IPv4 prefixes. RFC 8950. */
  readonly extendedNextHop?: boolean;
  readonly nextHopMode: NextHopMode;
  /** A subnet with both this node and the receiving peer in it. */
  readonly sharedSubnet?: Cidr | undefined;
  /** The peers know routes of last resort; others are not told of them. RFC 9494 §4.5. */
  readonly longLived?: boolean;
  /** The peers take messages of up to 65535 octets. RFC 8654. */
  readonly extendedMessages?: boolean;
  /** Towards internal peers: who may hear of what other internal peers say. RFC 4456 §6. */
  readonly reflection?: Reflection | undefined;
  /** Private AS numbers are left out towards another AS. */
  readonly removePrivateAs?: boolean;
  /** The peers are told several paths of a prefix: all, or so many of the best; absent: one. RFC 7911. */
  readonly paths?: 'all' | number | undefined;
  /** Of the peers' BGPFilters; asked for each prefix by the update group. */
  readonly filter?: Filter | undefined;
}

/** Well-known communities. RFC 1997 §2. */
export const noExport = 0xffffff01;
export const noAdvertise = 0xffffff02;
export const noExportSubconfed = 0xffffff03;

/**
 * Attributes as the peers of the group are told them, or undefined when the route is not for them.
 * @param operations what the export filter changes, before the own AS and next hop are put in; a community that it adds
 *   is for the receiver and holds nothing back here
 */
export function exported(
  received: Candidate,
  context: ExportContext,
  operations: readonly Operation[] = [],
): Attributes | undefined {
  const { source } = received;
  const { communities = [] } = received.attributes;
  if (communities.includes(noAdvertise)) return undefined;
  if (!context.longLived && communities.includes(llgrStale)) return undefined;
  const internal = source.kind === 'ibgp' && !context.external;
  // What one internal peer says goes to no other but by reflection. RFC 4271 §9.2, RFC 4456 §6.
  if (internal && !(source.client || context.reflection?.client)) return undefined;
  if (context.external && (communities.includes(noExport) || communities.includes(noExportSubconfed))) return undefined;
  const { nextHop: _, linkLocal: _onLink, ...others } = operated(received.attributes, operations);
  const attributes = { ...others, ...hopsFor(received, context, internal) };
  if (internal) return reflected(attributes, received, context);
  return context.external ? toExternal(attributes, received, context) : toInternal(attributes);
}

/**
 * Says who originated the route and puts this cluster on its way; all else stays as received, the next hop too unless
 * it is to be this node. RFC 4456 §8, §10.
 */
function reflected(attributes: Attributes, received: Candidate, context: ExportContext): Attributes {
  const { reflection } = context;
  const { originatorId = received.source.identifier, clusterList = [] } = attributes;
  return {
    ...attributes,
    localPref: attributes.localPref ?? defaultLocalPref,
    originatorId,
    clusterList: reflection ? [reflection.clusterId, ...clusterList] : clusterList,
  };
}

function toInternal(attributes: Attributes): Attributes {
  return { ...attributes, localPref: attributes.localPref ?? defaultLocalPref };
}

/** LOCAL_PREF and reflection stay in the AS; MED is not passed from one neighbour AS to the next. RFC 4271 §5.1.4, 5.1.5. */
function toExternal(attributes: Attributes, { source }: Candidate, context: ExportContext): Attributes {
  const { localPref: _, originatorId: _originator, clusterList: _clusters, med, ...rest } = attributes;
  const ownMed = source.kind === 'local' && med !== undefined ? { med } : {};
  const path = context.removePrivateAs ? withoutPrivate(attributes.asPath) : attributes.asPath;
  return { ...rest, ...ownMed, asPath: prepend(path, context.asn) };
}

type Hops = Pick<Attributes, 'nextHop' | 'linkLocal'>;

/** The next hop as received, or this node. */
function hopsFor({ source, attributes }: Candidate, context: ExportContext, reflecting: boolean): Hops {
  const { self, selfLinkLocal, nextHopMode, sharedSubnet } = context;
  const own: Hops = { nextHop: self, ...(selfLinkLocal ? { linkLocal: selfLinkLocal } : {}) };
  const { nextHop } = attributes;
  if (source.kind === 'local' || nextHop === undefined || nextHopMode === 'self') return own;
  if (!tellable(nextHop, context)) return own;
  const near = sharedSubnet !== undefined && contains(sharedSubnet, nextHop);
  return reflecting || nextHopMode === 'keep' || near ? { nextHop } : own;
}

/** A link-local address means nothing on another link, nor does one of a family that the peers do not take. */
function tellable(nextHop: Ip, { family, extendedNextHop }: ExportContext): boolean {
  return !isLinkLocal(nextHop) && (familyOf(nextHop) === family || (family === 4 && extendedNextHop === true));
}

/** Equal texts: equal contexts. */
export function contextKey(context: ExportContext): string {
  const { family, asn, external, fourOctetAs, self, nextHopMode, sharedSubnet = '', removePrivateAs, filter } = context;
  const { clusterId = '', client = false } = context.reflection ?? {};
  const { extendedMessages = false, longLived = false, extendedNextHop = false, selfLinkLocal = '' } = context;
  const form = [
    family,
    extendedMessages,
    extendedNextHop,
    selfLinkLocal,
    longLived,
    asn,
    external,
    fourOctetAs,
    self,
    nextHopMode,
    sharedSubnet,
    removePrivateAs === true,
    clusterId,
    client,
    context.paths ?? 1,
  ];
  return [...form, filter?.key ?? ''].join(' ');
}
