import { type Cidr, cidrParts, type Family, ipBytes } from '../model/address.ts';
import { defaultLocalPref } from './decision.ts';
import type { Source } from './sources.ts';
import type { AsPath } from './wire/aspath.ts';
import type { Attributes, LargeCommunity } from './wire/attributes.ts';
import { octetsFor, prefixAt } from './wire/nlri.ts';

/*
 * Rules of BGPFilter, decided in the order in which they stand: the first that matches accepts (and changes) or rejects
 * the route. A route that none matches goes on as if there were no filter.
 */

export type Operation =
  | { readonly do: 'addCommunity'; readonly community: Community }
  /** The path starts with these numbers, in this order; the own AS comes before them towards another AS. */
  | { readonly do: 'prepend'; readonly asns: readonly number[] }
  | { readonly do: 'setPriority'; readonly priority: number };

/** A standard community as one number (RFC 1997), or a large one (RFC 8092). */
export type Community = number | LargeCommunity;

/** One rule; everything that is present must hold. Plain data, so that two configurations can be compared. */
export interface FilterRule {
  readonly prefix?: {
    readonly cidr: Cidr;
    /** `equal`: the very prefix; `in`: it or a longer one inside. */
    readonly match: 'equal' | 'in';
    readonly negated: boolean;
    /** Bounds of the length in bits, both included. */
    readonly least: number;
    readonly most: number;
  };
  /** Only routes that a peer told, not those that this node originates. */
  readonly remote?: true;
  /** Name of the device that the route leads through; `*` stands for any characters. */
  readonly interface?: string;
  readonly peerType?: 'eBGP' | 'iBGP';
  readonly community?: Community;
  readonly asPathPrefix?: readonly number[];
  readonly priority?: number;
  readonly action: 'accept' | 'reject';
  readonly operations: readonly Operation[];
}

export type RulesOf = Readonly<Record<Family, readonly FilterRule[]>>;

/** What becomes of a route: refused, passed on as it is (no rule matched or none changes it), or changed. */
export type Verdict = 'reject' | readonly Operation[] | undefined;

/** A route as a question for the device that it leads through. */
export interface Lead {
  readonly source: Source;
  readonly attributes: Attributes;
  readonly prefix: Cidr;
}

/** The device's name; empty where the route leads through none, or several. */
export type DeviceOf = (lead: Lead) => string;

/** Rules compiled for the peers of one kind. */
export interface Filter {
  /** Equal texts: equal verdicts on the same routes through the same devices. */
  readonly key: string;
  /** Verdicts depend on devices, and change with them. */
  readonly byDevice: boolean;
  /**
   * @param octets the prefix's octets from `at`, as many as `length` bits need
   * @param source who told the route: a peer or this node
   */
  judge(octets: Uint8Array, at: number, length: number, attributes: Attributes, source: Source): Verdict;
}

/** Calico's metric of a route that nobody gave a priority. */
export const normalPriority = 1024;
/** LOCAL_PREF and priority add up to this in Calico's mesh: the lower priority number is the better route. */
const priorityBase = 0x7fffffff;

/** Priority as Calico counts it. A LOCAL_PREF of 100 is what speakers write where nothing was set. */
export function priorityOf({ localPref = defaultLocalPref }: Attributes): number {
  return localPref === defaultLocalPref ? normalPriority : priorityBase - localPref;
}

/** The peers that rules are compiled for, and what the rules may ask. */
export interface Judged {
  readonly family: Family;
  /** The peers are in another AS. */
  readonly external: boolean;
  readonly deviceOf: DeviceOf;
}

/** Undefined when there is nothing to decide. */
export function compileFilter(rules: readonly FilterRule[], judged: Judged): Filter | undefined {
  const { family, external, deviceOf } = judged;
  const type = external ? 'eBGP' : 'iBGP';
  const applicable = rules.filter(({ peerType }) => peerType === undefined || peerType === type);
  if (applicable.length === 0) return undefined;
  const compiled = applicable.map((rule) => ({
    prefix: prefixTest(rule),
    attributes: attributeTest(rule),
    device: deviceTest(rule),
    verdict: verdictOf(rule),
  }));
  return {
    key: JSON.stringify(applicable),
    byDevice: applicable.some((rule) => rule.interface !== undefined),
    judge(octets, at, length, attributes, source) {
      const remote = source.kind !== 'local';
      let device: string | undefined;
      for (const rule of compiled) {
        if (!rule.prefix(octets, at, length) || !rule.attributes(attributes, remote)) continue;
        if (rule.device) {
          device ??= deviceOf({ source, attributes, prefix: prefixAt(family, octets, at, length) });
          if (!rule.device.test(device)) continue;
        }
        return rule.verdict;
      }
      return undefined;
    },
  };
}

function verdictOf({ action, operations }: FilterRule): Verdict {
  if (action === 'reject') return 'reject';
  return operations.length > 0 ? operations : undefined;
}

function prefixTest({ prefix }: FilterRule): (octets: Uint8Array, at: number, length: number) => boolean {
  if (!prefix) return () => true;
  const { address, length: bound } = cidrParts(prefix.cidr);
  const wanted = ipBytes(address);
  const whole = bound >> 3;
  const mask = (0xff00 >> (bound & 7)) & 0xff;
  const exact = prefix.match === 'equal';
  return (octets, at, length) => {
    let holds = length >= prefix.least && length <= prefix.most && (exact ? length === bound : length >= bound);
    for (let i = 0; holds && i < whole; i++) holds = octets[at + i] === wanted[i];
    if (holds && mask !== 0) holds = (((octets[at + whole] ?? 0) ^ (wanted[whole] ?? 0)) & mask) === 0;
    return holds !== prefix.negated;
  };
}

function attributeTest(rule: FilterRule): (attributes: Attributes, remote: boolean) => boolean {
  const { remote: onlyRemote, community, asPathPrefix, priority } = rule;
  return (attributes, remote) =>
    (onlyRemote === undefined || remote) &&
    (community === undefined || carries(attributes, community)) &&
    (asPathPrefix === undefined || beginsWith(attributes.asPath, asPathPrefix)) &&
    (priority === undefined || priorityOf(attributes) === priority);
}

/** As BIRD matches a pattern, with `*` as its only special character. */
function deviceTest({ interface: pattern }: FilterRule): RegExp | undefined {
  if (pattern === undefined) return undefined;
  const literals = pattern.split('*').map((text) => text.replaceAll('.', '\\.'));
  return new RegExp(`^${literals.join('.*')}$`);
}

function carries({ communities = [], largeCommunities = [] }: Attributes, community: Community): boolean {
  if (typeof community === 'number') return communities.includes(community);
  return largeCommunities.some((present) => sameLarge(present, community));
}

function sameLarge(a: LargeCommunity, b: LargeCommunity): boolean {
  return a[0] === b[0] && a[1] === b[1] && a[2] === b[2];
}

/** Sets have no order, so a path matches only as far as sequences reach. */
function beginsWith(path: AsPath, prefix: readonly number[]): boolean {
  let at = 0;
  for (const { type, asns } of path) {
    if (at === prefix.length) return true;
    if (type !== 'sequence') return false;
    for (const asn of asns) {
      if (at === prefix.length) return true;
      if (asn !== prefix[at++]) return false;
    }
  }
  return at === prefix.length;
}

/** The attributes after the operations, in their order. */
export function operated(attributes: Attributes, operations: readonly Operation[]): Attributes {
  return operations.reduce(operate, attributes);
}

function operate(attributes: Attributes, operation: Operation): Attributes {
  switch (operation.do) {
    case 'addCommunity':
      return withCommunity(attributes, operation.community);
    case 'prepend':
      return { ...attributes, asPath: prependAll(attributes.asPath, operation.asns) };
    case 'setPriority':
      return { ...attributes, localPref: priorityBase - operation.priority };
  }
}

/**
 * The attributes with a community, standard (RFC 1997) or large (RFC 8092); the same object where it is there
 * already.
 */
export function withCommunity(attributes: Attributes, community: Community): Attributes {
  if (carries(attributes, community)) return attributes;
  const { communities = [], largeCommunities = [] } = attributes;
  if (typeof community === 'number') return { ...attributes, communities: [...communities, community] };
  return { ...attributes, largeCommunities: [...largeCommunities, community] };
}

function prependAll(path: AsPath, asns: readonly number[]): AsPath {
  const [first, ...rest] = path;
  if (first?.type === 'sequence' && first.asns.length + asns.length <= 255) {
    return [{ type: 'sequence', asns: [...asns, ...first.asns] }, ...rest];
  }
  return [{ type: 'sequence', asns }, ...path];
}

/** The octets of a prefix as `judge` takes them. */
export function prefixOctets(cidr: Cidr): { readonly octets: Uint8Array; readonly length: number } {
  const { address, length } = cidrParts(cidr);
  return { octets: ipBytes(address).subarray(0, octetsFor(length)), length };
}
