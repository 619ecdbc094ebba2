import type { Secret } from '../base/secret.ts';
import type { Cidr, Family, Ip } from '../model/address.ts';
import type { BfdSettings } from './bfd/settings.ts';
import type { StationConfig } from './bmp/monitor.ts';
import type { NextHopMode } from './exporting.ts';
import type { Community, RulesOf } from './filters.ts';
import type { SessionConfig } from './negotiate.ts';
import type { PrefixLimit } from './prefix-limit.ts';

/** One session to keep up. */
export interface PeerConfig {
  /** Unique among the peers: the resource's or node's name, and the family where a node has two. */
  readonly name: string;
  readonly role: 'mesh' | 'peer';
  readonly address: Ip;
  readonly port: number;
  readonly asn: number;
  readonly families: readonly Family[];
  readonly localAddress?: Ip;
  /** Device that connections to the peer use; the zone of a link-local address. */
  readonly interface?: string;
  /** TCP MD5 signatures with this key. RFC 2385. */
  readonly password?: Secret;
  /** Hops that the peer may be away, 1 to 254; absent: unchecked. RFC 5082. */
  readonly ttlSecurity?: number;
  readonly initiative: SessionConfig['initiative'];
  readonly holdSeconds: number;
  readonly keepaliveSeconds?: number;
  /** How long octets may wait for a peer that does not read; absent: 8 minutes or twice the hold time. RFC 9687. */
  readonly sendHoldSeconds?: number;
  /** How long the peer keeps our routes while we restart. */
  readonly restartSeconds: number;
  /** How long it may keep them after that, as routes of last resort; absent: not at all. RFC 9494. */
  readonly longLivedSeconds?: number;
  readonly acceptDefault: boolean;
  readonly nextHopMode: NextHopMode;
  /** IPv6 next hops of IPv4 prefixes, where the peer agrees; absent: in sessions over IPv6. RFC 8950. */
  readonly extendedNextHop?: boolean;
  /** Several paths of a prefix, where the peer agrees: which of ours are told, and whether its are taken. RFC 7911. */
  readonly addPath?: { readonly receive: boolean; readonly send?: 'all' | number };
  /** AS number of this side towards the peer, in place of the speaker's own. */
  readonly localAsn?: number;
  /** How often an own AS number may stand in a path from the peer; absent: never. */
  readonly allowedLocalAs?: number;
  /** Private AS numbers are left out of what a peer in another AS is told. RFC 6996. */
  readonly removePrivateAs?: boolean;
  /** MinRouteAdvertisementInterval: the least time between what the peer is told; absent: none. RFC 4271 §9.2.1.1. */
  readonly advertisementIntervalSeconds?: number;
  /** Of each family; absent: as many as there is memory for. */
  readonly maxPrefixes?: PrefixLimit;
  /** What BGPFilters decide of the peer's routes, before and after the tables; absent: nothing. */
  readonly importRules?: RulesOf;
  readonly exportRules?: RulesOf;
  /** A BFD session guards the path; when it goes down, so does the BGP session, and its routes go. */
  readonly bfd?: BfdSettings;
  /** Routes are reflected to and from this peer, where it is an internal one. RFC 4456. */
  readonly routeReflectorClient?: boolean;
  /** The listen range that the peer came out of. */
  readonly range?: string;
}

/** Addresses that may connect without each being named, and what every one of them is as a peer. */
export interface RangeConfig {
  readonly name: string;
  readonly prefix: Cidr;
  /** Peers at a time. */
  readonly limit: number;
  readonly peer: Omit<PeerConfig, 'name' | 'address' | 'port' | 'initiative' | 'range'>;
}

/** An address of this node and the subnet it is on. */
export interface NodeAddress {
  readonly address: Ip;
  readonly subnet: Cidr;
}

/** What an origination carries besides the communities of `advertisements`. */
export interface OwnAttributes {
  readonly communities?: readonly Community[];
  /** Eight octets each, in hexadecimal. RFC 4360. */
  readonly extendedCommunities?: readonly string[];
  readonly med?: number;
  readonly localPref?: number;
}

/** Everything that the speaker needs to know. Plain data, so that two of them can be compared. */
export interface SpeakerConfig {
  readonly asn: number;
  readonly identifier: Ip;
  /** Of this node as a route reflector; absent: the identifier. RFC 4456 §7. */
  readonly clusterId?: Ip;
  readonly listenPort: number;
  /** Absent: every address of the families in use. */
  readonly listenAddresses?: readonly Ip[];
  readonly addresses: readonly NodeAddress[];
  readonly peers: readonly PeerConfig[];
  readonly ranges?: readonly RangeConfig[];
  /** BMP stations that sessions and routes are exported to. RFC 7854. */
  readonly bmp?: readonly StationConfig[];
  /** Prefixes that this node announces as its own. */
  readonly originations: readonly Cidr[];
  /** What some of them carry, by prefix. */
  readonly originationAttributes?: Readonly<Record<Cidr, OwnAttributes>>;
  /** Communities that originations inside a prefix carry; all prefixes that match count. */
  readonly advertisements?: readonly { readonly cidr: Cidr; readonly communities: readonly Community[] }[];
}
