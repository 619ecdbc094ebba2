import { createHash } from 'node:crypto';
import { InputError } from '../../base/errors.ts';
import {
  bits,
  type Cidr,
  cidrOf,
  cidrParts,
  type Family,
  hostCidr,
  type Ip,
  ipBytes,
  ipNumber,
  parseCidr,
  parseIp,
  splitCidr,
} from '../../model/address.ts';
import type { IpPool, Node } from '../../model/kinds.ts';

/** The VXLAN device of a family. */
export const vxlanDevices: { readonly [F in Family]: string } = { 4: 'vxlan.calico', 6: 'vxlan-v6.calico' };

/** The IPIP device: the name that the kernel's module gives its own. */
export const ipipDevice = 'tunl0';

/** Octets that IPIP adds: the outer IP header. RFC 2003 §3.1. */
export const ipipOverhead = 20;

/** Annotation of a Node: `unavailable` where the kernel has no IPIP. Its routes are others' business too. */
export const ipipAnnotation = 'margay.io/ipip';

/** Annotation of an IPPool with IPIP: `VXLAN` takes over to and from nodes whose kernel has no IPIP. */
export const fallbackAnnotation = 'margay.io/tunnelFallback';

/** Octets that VXLAN adds: outer IP header, UDP, VXLAN, inner Ethernet. RFC 7348 §5. */
export const vxlanOverhead: { readonly [F in Family]: number } = { 4: 50, 6: 70 };

/** A prefix as numbers, so that asking it ten thousand times costs little. */
export interface Range {
  readonly family: Family;
  readonly first: bigint;
  readonly last: bigint;
}

export function rangeOf(cidr: Cidr): Range {
  const { address, length, family } = cidrParts(cidr);
  const first = ipNumber(address);
  return { family, first, last: first + (1n << BigInt(bits(family) - length)) - 1n };
}

/** Whether `inner` lies in `outer`. */
export function within(outer: Range, inner: Range): boolean {
  return outer.family === inner.family && outer.first <= inner.first && inner.last <= outer.last;
}

/** One node as the others of a family reach it. */
export interface Place {
  readonly node: string;
  /** Address on the network between the nodes. */
  readonly underlay: Ip;
  /** Network of that address, as the node says. */
  readonly subnet: Cidr;
  readonly at: { readonly underlay: Range; readonly subnet: Range };
  /** Address of its VXLAN device. */
  readonly tunnel?: Ip;
  readonly mac: string;
  /** Address of its IPIP device; nothing is sent there, so a node may do without. */
  readonly ipipTunnel?: Ip;
  /** Its kernel has no IPIP. */
  readonly lacksIpip: boolean;
}

/** MAC of a node's VXLAN device where its Node resource names none: Calico's rule, so that both agents agree. */
export function derivedMac(node: string, family: Family): string {
  const digest = createHash('sha1')
    .update(family === 4 ? node : `${node}-v6`)
    .digest('hex');
  return `66:${(digest.slice(0, 10).match(/../g) ?? []).join(':')}`;
}

type PlaceSource = Pick<Node, 'spec'> & { readonly metadata: Pick<Node['metadata'], 'annotations'> };

/** Undefined for a node without an address of the family. @throws InputError naming the field */
export function placeOf(name: string, { spec, metadata }: PlaceSource, family: Family): Place | undefined {
  const field = `Node(${name}).spec`;
  const own = family === 4 ? spec.bgp?.ipv4Address : spec.bgp?.ipv6Address;
  if (own === undefined) return undefined;
  const { address, length } = own.includes('/')
    ? splitCidr(own, `${field}.bgp.ipv${family}Address`)
    : { address: parseIp(own, field), length: family === 4 ? 32 : 128 };
  const subnet = cidrOf(ipBytes(address), length);
  const tunnel = family === 4 ? spec.ipv4VXLANTunnelAddr : spec.ipv6VXLANTunnelAddr;
  const mac = family === 4 ? spec.vxlanTunnelMACAddr : spec.vxlanTunnelMACAddrV6;
  const ipip = family === 4 ? spec.bgp?.ipv4IPIPTunnelAddr : undefined;
  return {
    node: name,
    underlay: address,
    subnet,
    at: { underlay: rangeOf(hostCidr(address)), subnet: rangeOf(subnet) },
    ...(tunnel !== undefined && tunnel !== '' && { tunnel: parseIp(tunnel, `${field}.ipv${family}VXLANTunnelAddr`) }),
    mac: (mac || derivedMac(name, family)).toLowerCase(),
    ...(ipip && { ipipTunnel: parseIp(ipip, `${field}.bgp.ipv4IPIPTunnelAddr`) }),
    lacksIpip: family === 4 && metadata.annotations?.[ipipAnnotation] === 'unavailable',
  };
}

/** Whether two places are the same to those who send there. */
export function samePlace(a: Place | undefined, b: Place | undefined): boolean {
  if (!a || !b) return a === b;
  const vxlan = a.tunnel === b.tunnel && a.mac === b.mac;
  const ipip = a.ipipTunnel === b.ipipTunnel && a.lacksIpip === b.lacksIpip;
  return a.underlay === b.underlay && a.subnet === b.subnet && vxlan && ipip;
}

export interface PoolMode {
  readonly range: Range;
  readonly vxlanMode: 'Never' | 'Always' | 'CrossSubnet';
  readonly ipipMode: 'Never' | 'Always' | 'CrossSubnet';
  /** Between nodes one of which has no IPIP. */
  readonly fallback?: 'VXLAN';
}

/** What a pool's resource says of encapsulation. @throws InputError */
export function poolMode(key: string, { spec, metadata }: PoolSource): PoolMode {
  const fallback = metadata.annotations?.[fallbackAnnotation] ?? '';
  if (!['', 'vxlan'].includes(fallback.toLowerCase()))
    throw new InputError(`${key}.metadata.annotations.${fallbackAnnotation}`, fallback, 'VXLAN');
  return {
    range: rangeOf(parseCidr(spec.cidr, `${key}.spec.cidr`)),
    vxlanMode: spec.vxlanMode,
    ipipMode: spec.ipipMode,
    ...(fallback !== '' && { fallback: 'VXLAN' as const }),
  };
}

type PoolSource = {
  readonly spec: Pick<IpPool['spec'], 'cidr' | 'vxlanMode' | 'ipipMode'>;
  readonly metadata: Pick<IpPool['metadata'], 'annotations'>;
};

/** Whether packets of the pool may go by VXLAN; `lacking`: some node has no IPIP. */
export function usesVxlan({ vxlanMode, ipipMode, fallback }: Omit<PoolMode, 'range'>, lacking: boolean): boolean {
  return vxlanMode !== 'Never' || (ipipMode !== 'Never' && fallback !== undefined && lacking);
}

export type Way = 'vxlan' | 'ipip' | 'direct';

/** How packets to an address of the pool get to another node; undefined: that is not for the datastore to say. */
export function wayTo(
  pool: PoolMode | undefined,
  own: Place | undefined,
  there: Place | undefined,
  rules: {
    readonly vxlan: boolean;
    readonly ipip: boolean;
    /** Without BGP, pools without encapsulation are routed from here too. */
    readonly plain: boolean;
  },
): Way | undefined {
  if (!pool || !own || !there) return undefined;
  const near = within(own.at.subnet, there.at.underlay);
  const { vxlanMode, fallback } = pool;
  const ipipMode = pool.range.family === 4 ? pool.ipipMode : 'Never';
  const vxlan = rules.vxlan && there.tunnel !== undefined ? 'vxlan' : undefined;
  if (vxlanMode === 'CrossSubnet' && near) return 'direct';
  if (vxlanMode !== 'Never') return vxlan;
  if (ipipMode === 'CrossSubnet' && near) return 'direct';
  if (ipipMode === 'Never') return rules.plain && near ? 'direct' : undefined;
  if (!rules.ipip) return undefined;
  // Both ends come to the same answer: one that has no IPIP takes none either.
  return fallback && (own.lacksIpip || there.lacksIpip) ? vxlan : 'ipip';
}

/** The pool that an address or block lies in; the longest prefix if several do. */
export function poolFor(pools: Iterable<PoolMode>, inner: Range): PoolMode | undefined {
  let best: PoolMode | undefined;
  for (const pool of pools) if (within(pool.range, inner) && (!best || within(best.range, pool.range))) best = pool;
  return best;
}
