import type { Family, Ip } from '../../model/address.ts';
import type { AsPath } from './aspath.ts';

/* What path attributes say, apart from how they are written. */

export type Origin = 'igp' | 'egp' | 'incomplete';

export interface Aggregator {
  readonly asn: number;
  readonly address: Ip;
}

export type LargeCommunity = readonly [global: number, local1: number, local2: number];

/** An attribute that we do not know; `flags` as received. */
export interface UnknownAttribute {
  readonly code: number;
  readonly flags: number;
  readonly value: Uint8Array;
}

/** Everything said of a route but its prefix. RFC 4271 §5 and the RFCs of the table below. */
export interface Attributes {
  readonly origin: Origin;
  readonly asPath: AsPath;
  /** Of NEXT_HOP or MP_REACH_NLRI; absent on what this node originates (the sender is the next hop). */
  readonly nextHop?: Ip;
  /** Of the same router on the link that it shares with the receiver, where MP_REACH_NLRI has both. RFC 2545 §3. */
  readonly linkLocal?: Ip;
  readonly med?: number;
  readonly localPref?: number;
  readonly atomicAggregate?: true;
  readonly aggregator?: Aggregator;
  /** Standard communities as 32-bit numbers. RFC 1997. */
  readonly communities?: readonly number[];
  /** Eight octets each, as hexadecimal text. RFC 4360. */
  readonly extendedCommunities?: readonly string[];
  /** RFC 8092. */
  readonly largeCommunities?: readonly LargeCommunity[];
  readonly originatorId?: Ip;
  readonly clusterList?: readonly Ip[];
  /** Known optional transitive attributes (codes) whose partial bit was set. RFC 4271 §4.3. */
  readonly partial?: readonly number[];
  /** Transitive attributes that we pass on untouched, by ascending code. */
  readonly unknown?: readonly UnknownAttribute[];
}

/** Attributes while an UPDATE is being read. */
export type Draft = {
  -readonly [K in keyof Attributes]?: Attributes[K];
} & { as4Path?: AsPath; as4Aggregator?: Aggregator };

/** What reading and writing depends on. */
export interface Codec {
  /** Both sides speak four-octet AS numbers. */
  readonly fourOctetAs: boolean;
  /** The peer is in another AS. */
  readonly external: boolean;
  /** IPv4 prefixes may have IPv6 next hops. RFC 8950. */
  readonly extendedNextHop?: boolean;
  /** Families whose prefixes the peer sends with path identifiers. RFC 7911. */
  readonly pathsReceived?: readonly Family[];
}
