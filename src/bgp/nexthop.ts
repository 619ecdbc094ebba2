import { bits, type Cidr, cidrParts, contains, type Family, familyOf, type Ip, isLinkLocal } from '../model/address.ts';
import { type Hop, scopedHop } from '../model/feed.ts';
import type { Candidate } from './rib.ts';
import type { NodeAddress } from './settings.ts';

/* Next hops: which of this node's addresses a peer is told, and where packets of a peer's routes go. */

/** The two ends of a session, and what it allows. */
export interface SessionEnds {
  /** This node's addresses. */
  readonly addresses: readonly NodeAddress[];
  /** The address that this side's end of the connection has; undefined when it is not known. */
  readonly local: Ip | undefined;
  readonly peer: Ip;
  /** IPv4 prefixes may have IPv6 next hops. RFC 8950. */
  readonly extendedNextHop: boolean;
}

/** This node as a peer is told it. */
export interface OwnHop {
  readonly self: Ip;
  /** Beside a global `self`, for a peer on the same link. RFC 2545 §3. */
  readonly selfLinkLocal?: Ip;
  /** A subnet with both this node and the peer in it. */
  readonly sharedSubnet?: Cidr;
}

/**
 * The next hop of what this node tells a peer of a family. IPv4 prefixes go with an IPv6 next hop over an IPv6 session
 * that allows it. The session's own address comes first: the peer is known to reach it. Over link-local addresses an
 * address that is alone in its subnet (a loopback's) is of no use to the peer, which shares only the link with us.
 * @returns undefined when there is no address that the peer could use
 */
export function ownHop(family: Family, { addresses, local, peer, extendedNextHop }: SessionEnds): OwnHop | undefined {
  const carried = family === 4 && extendedNextHop && familyOf(peer) === 6 ? 6 : family;
  const ofFamily = addresses.filter(({ address }) => familyOf(address) === carried);
  const own = ofFamily.find(({ address }) => address === local) ?? ofFamily[0];
  const onLink = carried === 6 && isLinkLocal(peer) && local !== undefined && isLinkLocal(local) ? local : undefined;
  if (!own || (onLink !== undefined && isAlone(own))) return onLink === undefined ? undefined : { self: onLink };
  return {
    self: own.address,
    ...(onLink === undefined ? {} : { selfLinkLocal: onLink }),
    ...(contains(own.subnet, peer) ? { sharedSubnet: own.subnet } : {}),
  };
}

function isAlone({ address, subnet }: NodeAddress): boolean {
  return cidrParts(subnet).length === bits(familyOf(address));
}

/**
 * Where packets of the candidate's routes go. A peer that we know by its link-local address and that is the next hop
 * itself is reached by it, whatever its global address is.
 */
export function hopOf({ source, attributes }: Pick<Candidate, 'source' | 'attributes'>): Hop | undefined {
  const { nextHop, linkLocal } = attributes;
  if (nextHop === undefined || source.interface === undefined) return nextHop;
  if (isLinkLocal(nextHop)) return scopedHop(nextHop, source.interface);
  return linkLocal !== undefined && linkLocal === source.address ? scopedHop(linkLocal, source.interface) : nextHop;
}
