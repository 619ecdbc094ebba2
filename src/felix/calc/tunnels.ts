import { createHash } from 'node:crypto';
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
  parseIp,
  splitCidr,
} from '../../model/address.ts';
import type { Node } from '../../model/kinds.ts';

/** The VXLAN device of a family. */
export const vxlanDevices: { readonly [F in Family]: string } = { 4: 'vxlan.calico', 6: 'vxlan-v6.calico' };

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
}

/** MAC of a node's VXLAN device where its Node resource names none: Calico's rule, so that both agents agree. */
export function derivedMac(node: string, family: Family): string {
  const digest = createHash('sha1')
    .update(family === 4 ? node : `${node}-v6`)
    .digest('hex');
  return `66:${(digest.slice(0, 10).match(/../g) ?? []).join(':')}`;
}

/** Undefined for a node without an address of the family. @throws InputError naming the field */
export function placeOf(name: string, spec: Node['spec'], family: Family): Place | undefined {
  const field = `Node(${name}).spec`;
  const own = family === 4 ? spec.bgp?.ipv4Address : spec.bgp?.ipv6Address;
  if (own === undefined) return undefined;
  const { address, length } = own.includes('/')
    ? splitCidr(own, `${field}.bgp.ipv${family}Address`)
    : { address: parseIp(own, field), length: family === 4 ? 32 : 128 };
  const subnet = cidrOf(ipBytes(address), length);
  const tunnel = family === 4 ? spec.ipv4VXLANTunnelAddr : spec.ipv6VXLANTunnelAddr;
  const mac = family === 4 ? spec.vxlanTunnelMACAddr : spec.vxlanTunnelMACAddrV6;
  return {
    node: name,
    underlay: address,
    subnet,
    at: { underlay: rangeOf(hostCidr(address)), subnet: rangeOf(subnet) },
    ...(tunnel !== undefined && tunnel !== '' && { tunnel: parseIp(tunnel, `${field}.ipv${family}VXLANTunnelAddr`) }),
    mac: (mac || derivedMac(name, family)).toLowerCase(),
  };
}

/** Whether two places are the same to those who send there. */
export function samePlace(a: Place | undefined, b: Place | undefined): boolean {
  if (!a || !b) return a === b;
  return a.underlay === b.underlay && a.subnet === b.subnet && a.tunnel === b.tunnel && a.mac === b.mac;
}

export interface PoolMode {
  readonly range: Range;
  readonly vxlanMode: 'Never' | 'Always' | 'CrossSubnet';
  readonly ipipMode: 'Never' | 'Always' | 'CrossSubnet';
}

/** How packets to an address of the pool get to another node; undefined: that is not for the datastore to say. */
export function wayTo(
  pool: PoolMode | undefined,
  own: Place | undefined,
  there: Place | undefined,
  rules: {
    readonly vxlan: boolean;
    /** Without BGP, pools without encapsulation are routed from here too. */
    readonly plain: boolean;
  },
): 'vxlan' | 'direct' | undefined {
  if (!pool || !own || !there) return undefined;
  const near = within(own.at.subnet, there.at.underlay);
  const { vxlanMode, ipipMode } = pool;
  if (vxlanMode === 'Never') return rules.plain && ipipMode === 'Never' && near ? 'direct' : undefined;
  if (vxlanMode === 'CrossSubnet' && near) return 'direct';
  return rules.vxlan && there.tunnel !== undefined ? 'vxlan' : undefined;
}

/** The pool that an address or block lies in; the longest prefix if several do. */
export function poolFor(pools: Iterable<PoolMode>, inner: Range): PoolMode | undefined {
  let best: PoolMode | undefined;
  for (const pool of pools) if (within(pool.range, inner) && (!best || within(best.range, pool.range))) best = pool;
  return best;
}

/** `10.0.0.1` → `10.0.0.1/32`. */
export function memberOf(place: Place): string {
  return hostCidr(place.underlay);
}
