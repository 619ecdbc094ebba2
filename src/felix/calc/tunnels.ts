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

/** The TUN device whose packets felix itself carries in UDP datagrams. */
export const udpDevice = 'udp.margay';

/** Octets that it adds: outer IP header and UDP. */
export const udpOverhead = 28;

/** Kinds of tunnels: two of the kernel's, and felix's own. */
export type Encapsulation = 'vxlan' | 'ipip' | 'udp';

/** The kernel module behind each kind. */
export const tunnelModules: { readonly [K in Encapsulation]: string } = { vxlan: 'vxlan', ipip: 'ipip', udp: 'tun' };

/** Kinds of tunnels that a kernel may lack, so that other nodes have to know. */
export type KernelTunnel = Exclude<Encapsulation, 'udp'>;

/** Annotations of a Node: `unavailable` where the kernel has no such tunnels. Its routes are others' business too. */
export const lackAnnotations: { readonly [K in KernelTunnel]: string } = {
  ipip: 'margay.io/ipip',
  vxlan: 'margay.io/vxlan',
};

/** Annotation of an IPPool: what takes over to and from nodes whose kernel has not what the pool asks for. */
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
  /** What its kernel has not. */
  readonly lacks: ReadonlySet<KernelTunnel>;
}

const lacksNothing: ReadonlySet<KernelTunnel> = new Set();
export const kernelTunnels: readonly KernelTunnel[] = ['ipip', 'vxlan'];

/** What a Node says that its kernel has not. */
export function lacksOf({ annotations }: PlaceSource['metadata']): ReadonlySet<KernelTunnel> {
  const lacks = kernelTunnels.filter((kind) => annotations?.[lackAnnotations[kind]] === 'unavailable');
  return lacks.length > 0 ? new Set(lacks) : lacksNothing;
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
    // What takes over is for IPv4.
    lacks: family === 4 ? lacksOf(metadata) : lacksNothing,
  };
}

/** Whether two places are the same to those who send there. */
export function samePlace(a: Place | undefined, b: Place | undefined): boolean {
  if (!a || !b) return a === b;
  const vxlan = a.tunnel === b.tunnel && a.mac === b.mac;
  const ipip = a.ipipTunnel === b.ipipTunnel && a.lacks.symmetricDifference(b.lacks).size === 0;
  return a.underlay === b.underlay && a.subnet === b.subnet && vxlan && ipip;
}

export interface PoolMode {
  readonly range: Range;
  readonly vxlanMode: 'Never' | 'Always' | 'CrossSubnet';
  readonly ipipMode: 'Never' | 'Always' | 'CrossSubnet';
  /** In this order, between nodes one of which has not what the pool asks for. */
  readonly fallbacks: readonly ('vxlan' | 'udp')[];
}

const fallbackLists: Readonly<Record<string, PoolMode['fallbacks']>> = {
  '': [],
  vxlan: ['vxlan'],
  udp: ['udp'],
  'vxlan,udp': ['vxlan', 'udp'],
};

/** What a pool's resource says of encapsulation. @throws InputError */
export function poolMode(key: string, { spec, metadata }: PoolSource): PoolMode {
  const fallback = metadata.annotations?.[fallbackAnnotation] ?? '';
  const words = fallback.toLowerCase().replaceAll(/\s/g, '');
  const fallbacks = Object.hasOwn(fallbackLists, words) ? fallbackLists[words] : undefined;
  const field = `${key}.metadata.annotations.${fallbackAnnotation}`;
  if (!fallbacks) throw new InputError(field, fallback, 'VXLAN, UDP or "VXLAN,UDP"');
  const range = rangeOf(parseCidr(spec.cidr, `${key}.spec.cidr`));
  if (range.family === 6 && fallbacks.includes('udp')) throw new InputError(field, fallback, 'UDP for IPv4 pools only');
  return { range, vxlanMode: spec.vxlanMode, ipipMode: spec.ipipMode, fallbacks };
}

type PoolSource = {
  readonly spec: Pick<IpPool['spec'], 'cidr' | 'vxlanMode' | 'ipipMode'>;
  readonly metadata: Pick<IpPool['metadata'], 'annotations'>;
};

/** What a pool asks of the kernel; IPIP is for IPv4. */
export function nativeTunnel({ range, vxlanMode, ipipMode }: Omit<PoolMode, 'fallbacks'>): KernelTunnel | undefined {
  if (vxlanMode !== 'Never') return 'vxlan';
  return ipipMode !== 'Never' && range.family === 4 ? 'ipip' : undefined;
}

/** Every tunnel that may carry packets of the pool. @param lacking what some node's kernel has not */
export function tunnelsFor(pool: PoolMode, lacking: ReadonlySet<KernelTunnel>): ReadonlySet<Encapsulation> {
  const native = nativeTunnel(pool);
  if (!native) return new Set();
  const found = new Set<Encapsulation>([native]);
  let last: Encapsulation = native;
  for (const next of pool.fallbacks) {
    if (last === 'udp' || !lacking.has(last)) break;
    if (next === last) continue;
    found.add(next);
    last = next;
  }
  return found;
}

export type Way = Encapsulation | 'direct';

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
  const native = nativeTunnel(pool);
  if (!native) return rules.plain && near ? 'direct' : undefined;
  if ((native === 'vxlan' ? pool.vxlanMode : pool.ipipMode) === 'CrossSubnet' && near) return 'direct';
  if (!rules[native]) return undefined;
  // Both ends come to the same answer: one that has not the tunnel takes nothing by it either.
  const lacks = own.lacks.union(there.lacks);
  const ways = [native, ...pool.fallbacks];
  const way = ways.find((one) => one === 'udp' || !lacks.has(one)) ?? ways.at(-1);
  return way === 'vxlan' && (there.tunnel === undefined || !rules.vxlan) ? undefined : way;
}

/** The pool that an address or block lies in; the longest prefix if several do. */
export function poolFor(pools: Iterable<PoolMode>, inner: Range): PoolMode | undefined {
  let best: PoolMode | undefined;
  for (const pool of pools) if (within(pool.range, inner) && (!best || within(best.range, pool.range))) best = pool;
  return best;
}
