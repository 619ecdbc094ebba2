import { bits, type Family, familyOf, type Ip, isLinkLocal, octets } from '../model/address.ts';
import type { Limits } from './limits.ts';
import { octetsOf } from './wire/addresses.ts';
import { neighbourAs, occurrences, pathLength } from './wire/aspath.ts';
import type { Attributes } from './wire/attributes.ts';

/** Why a route from a peer is not taken. */
export type Rejection =
  | 'asLoop'
  | 'firstAs'
  | 'ownOriginatorId'
  | 'ownClusterId'
  | 'nextHop'
  | 'defaultRoute'
  | 'loopbackPrefix'
  | 'linkLocalPrefix'
  | 'multicastPrefix'
  | 'ownAddress'
  | 'asPathTooLong'
  | 'tooManyCommunities'
  | 'filter';

export interface ImportContext {
  /** Own AS numbers: of the speaker and, where it differs, of the session. */
  readonly asns: readonly number[];
  /** How often they may stand in a path together. */
  readonly allowedLocalAs: number;
  readonly identifier: Ip;
  readonly clusterId: Ip;
  readonly peerAsn: number;
  readonly external: boolean;
  /** Addresses of this node: neither next hop nor prefix may be one of them. */
  readonly ownAddresses: ReadonlySet<Ip>;
  readonly acceptDefault: boolean;
  /** The session names its device, so that link-local next hops lead somewhere. */
  readonly onLink?: boolean;
  readonly limits: Limits;
}

/** Judges what all prefixes of an UPDATE share. RFC 4271 §9.1.2, §6.3 (first AS, next hop), RFC 4456 §8. */
export function rejectAttributes(attributes: Attributes, context: ImportContext): Rejection | undefined {
  const { asPath, nextHop, originatorId, clusterList } = attributes;
  if (pathLength(asPath) > context.limits.asPathLength) return 'asPathTooLong';
  if (communityCount(attributes) > context.limits.communities) return 'tooManyCommunities';
  if (occurrences(asPath, context.asns) > context.allowedLocalAs) return 'asLoop';
  if (context.external && neighbourAs(asPath) !== context.peerAsn) return 'firstAs';
  if (originatorId === context.identifier) return 'ownOriginatorId';
  if (clusterList?.includes(context.clusterId)) return 'ownClusterId';
  if (nextHop === undefined || context.ownAddresses.has(nextHop) || !usableNextHop(nextHop, context)) return 'nextHop';
  return undefined;
}

function communityCount({ communities, extendedCommunities, largeCommunities }: Attributes): number {
  return (communities?.length ?? 0) + (extendedCommunities?.length ?? 0) + (largeCommunities?.length ?? 0);
}

/** A unicast address that a route can point to; an IPv4-mapped one is for tunnels (RFC 4798), which this is not. */
function usableNextHop(nextHop: Ip, { onLink }: ImportContext): boolean {
  if (isLinkLocal(nextHop)) return onLink === true;
  const address = octetsOf(nextHop);
  const [first = 0] = address;
  if (familyOf(nextHop) === 4) return first !== 0 && first !== 127 && first < 224;
  return first !== 0xff && !address.subarray(0, 10).every((octet) => octet === 0);
}

/** Prefixes that no peer has any business announcing to a node. */
export function rejectPrefix(
  family: Family,
  source: Uint8Array,
  at: number,
  length: number,
  context: ImportContext,
): Rejection | undefined {
  if (length === 0) return context.acceptDefault ? undefined : 'defaultRoute';
  const found = family === 4 ? martian4(source, at, length) : martian6(source, at, length);
  if (found || length !== bits(family)) return found;
  return isOwnAddress(source, at, family, context.ownAddresses) ? 'ownAddress' : undefined;
}

/** Host bits of the last octet may be set: only what the length covers is looked at. */
function martian4(source: Uint8Array, at: number, length: number): Rejection | undefined {
  const first = source[at] ?? 0;
  if (length >= 8 && first === 127) return 'loopbackPrefix';
  if (length >= 16 && first === 169 && source[at + 1] === 254) return 'linkLocalPrefix';
  return length >= 4 && first >= 224 ? 'multicastPrefix' : undefined;
}

function martian6(source: Uint8Array, at: number, length: number): Rejection | undefined {
  const first = source[at] ?? 0;
  if (length === 128 && isZero(source, at, 15)) return 'loopbackPrefix';
  if (length >= 10 && first === 0xfe && ((source[at + 1] ?? 0) & 0xc0) === 0x80) return 'linkLocalPrefix';
  return length >= 8 && first === 0xff ? 'multicastPrefix' : undefined;
}

function isZero(source: Uint8Array, at: number, count: number): boolean {
  for (let i = at; i < at + count; i++) if (source[i] !== 0) return false;
  return true;
}

/** The octets of own addresses of a family end to end, found once for each set of them. */
const ownOctets = new WeakMap<ReadonlySet<Ip>, { readonly four: Uint8Array; readonly six: Uint8Array }>();

function isOwnAddress(source: Uint8Array, at: number, family: Family, addresses: ReadonlySet<Ip>): boolean {
  let known = ownOctets.get(addresses);
  if (!known) {
    known = { four: octetsOfAll(addresses, 4), six: octetsOfAll(addresses, 6) };
    ownOctets.set(addresses, known);
  }
  const own = family === 4 ? known.four : known.six;
  const count = octets(family);
  for (let from = 0; from < own.length; from += count) {
    let i = 0;
    while (i < count && own[from + i] === source[at + i]) i++;
    if (i === count) return true;
  }
  return false;
}

function octetsOfAll(addresses: ReadonlySet<Ip>, family: Family): Uint8Array {
  return Uint8Array.from(
    [...addresses].filter((address) => familyOf(address) === family).flatMap((a) => [...octetsOf(a)]),
  );
}
