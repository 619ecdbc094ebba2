import { Reader, TruncatedError } from '../../base/bytes.ts';
import { type Family, formatIp, type Ip, isLinkLocal } from '../../model/address.ts';
import { mergeAs4Path } from './aspath.ts';
import {
  type Attributes,
  type Codec,
  codes,
  type Draft,
  extendedLength,
  isPlain,
  optional,
  readAttribute,
  transitive,
} from './attributes.ts';
import { familyOfAfi, unicast } from './capabilities.ts';
import { type Remedy, stronger, subcodes, WireError } from './errors.ts';
import { type PrefixBlock, prefixBlock, readPrefixes } from './nlri.ts';
import { asTrans } from './open.ts';

/** An UPDATE as the RIB takes it: errors short of a reset are already dealt with and listed in `faults`. */
export interface Update {
  readonly withdrawn: readonly PrefixBlock[];
  readonly announced: readonly Announced[];
  /** The message marks the end of a family's first advertisement. RFC 4724 §2. */
  readonly endOfRib?: Family;
  /** Announced prefixes that an error turned into withdrawn ones, and attributes dropped. RFC 7606. */
  readonly faults: readonly WireError[];
}

export interface Announced {
  readonly block: PrefixBlock;
  readonly attributes: Attributes;
  /** Of `KnownAttributes`, where they are known or could be made known. */
  readonly id?: number;
}

/** Attributes that were read before, by the octets that they came in. Only faultless ones in the form that we write. */
export interface KnownAttributes {
  /** Of the octets from `from` to before `to`. @returns 0 when they are not known of a session of the kind */
  find(octets: Uint8Array, external: boolean, from: number, to: number): number;
  add(octets: Uint8Array, external: boolean, attributes: Attributes): number;
  get(id: number): Attributes;
}

const { malformedAttributes, missingWellKnown, optionalAttribute } = subcodes.update;

function malformed(remedy: Remedy, field: string, detail: string, subcode: number = malformedAttributes): WireError {
  return new WireError('update', subcode, remedy, field, detail);
}

interface Reach {
  readonly block: PrefixBlock;
  readonly nextHop: Ip;
  readonly linkLocal?: Ip;
}

/** What the walk over the path attributes gathers. */
interface Walk {
  readonly draft: Draft;
  readonly faults: WireError[];
  readonly seen: Set<number>;
  /** All are known, in ascending order and the shortest form: as we would write them. */
  ordered: boolean;
  last: number;
  reach?: Reach;
  unreach?: PrefixBlock;
}

/**
 * Body of an UPDATE. RFC 4271 §4.3, errors as RFC 7606 §3 wants them.
 * @param families those negotiated; MP_REACH and MP_UNREACH of others are dropped as a fault
 * @throws WireError with remedy reset only
 */
export function readUpdate(
  body: Uint8Array,
  codec: Codec,
  families: ReadonlySet<Family>,
  known?: KnownAttributes,
): Update {
  const recognised = known && recognise(body, codec, known);
  if (recognised) return recognised;
  const { withdrawn, attributes, nlri } = sections(body, withPaths(codec, 4));
  const knowable = known && codec.fourOctetAs && nlri.octets.length > 0;
  const octets = body.subarray(attributes.offset, attributes.offset + attributes.left);
  const walk = newWalk();
  walkAttributes(attributes, walk, codec, families);
  if (isEndOfRib4(body)) return { withdrawn: [], announced: [], endOfRib: 4, faults: [] };
  if (walk.seen.size === 1 && walk.unreach?.octets.length === 0 && withdrawn.octets.length + nlri.octets.length === 0) {
    return { withdrawn: [], announced: [], endOfRib: walk.unreach.family, faults: walk.faults };
  }
  const update = assemble(withdrawn, nlri, walk, codec);
  const [first] = update.announced;
  if (!knowable || !first || !walk.ordered || update.faults.length > 0) return update;
  return { ...update, announced: [{ ...first, id: known.add(octets, codec.external, first.attributes) }] };
}

const none: readonly never[] = [];

/**
 * The two messages that almost all are: IPv4 withdrawals alone, and IPv4 prefixes with attributes that this node has read
 * before, which are compared, not read. Those in MP_REACH_NLRI come with their prefixes. Undefined: it is another one, or
 * faulty.
 */
function recognise(body: Uint8Array, codec: Codec, known: KnownAttributes): Update | undefined {
  const attributesAt = 4 + at16(body, 0);
  if (attributesAt > body.length) return undefined;
  const nlriAt = attributesAt + at16(body, attributesAt - 2);
  if (nlriAt > body.length) return undefined;
  const paths = withPaths(codec, 4);
  const gone = attributesAt > 4 ? body.subarray(2, attributesAt - 2) : undefined;
  const withdrawn = gone ? [prefixBlock(gone, 4, 'update.withdrawn', paths)] : none;
  if (nlriAt === attributesAt && nlriAt === body.length) return gone && { withdrawn, announced: none, faults: none };
  if (nlriAt === body.length || !codec.fourOctetAs) return undefined;
  const id = known.find(body, codec.external, attributesAt, nlriAt);
  if (id === 0) return undefined;
  const block = prefixBlock(body.subarray(nlriAt), 4, 'update.nlri', paths);
  return { withdrawn, announced: [{ block, attributes: known.get(id), id }], faults: none };
}

function at16(octets: Uint8Array, at: number): number {
  return ((octets[at] ?? 0) << 8) | (octets[at + 1] ?? 0);
}

function newWalk(): Walk {
  return { draft: {}, faults: [], seen: new Set(), ordered: true, last: 0 };
}

/** A peer of our own AS with four-octet AS numbers. */
const stored: Codec = { fourOctetAs: true, external: false };

/** The inverse of how `AttributeInterner` keeps attributes: an IPv6 next hop stands before them. RFC 6396 §4.3.4. */
export function readStoredAttributes(octets: Uint8Array): Attributes {
  const r = new Reader(octets);
  const walk = newWalk();
  let hops: Pick<Attributes, 'nextHop' | 'linkLocal'> = {};
  if (octets[1] === codes.mpReach) {
    r.skip(2, 'flags and code');
    hops = nextHopsOf(r.bytes(r.u8('length'), 'nextHop'));
  }
  walkAttributes(r, walk, stored, new Set());
  const attributes = finished(walk.draft, stored);
  if (!attributes || walk.faults.length > 0) throw new Error(`attributes kept are damaged: ${walk.faults[0]?.message}`);
  return { ...attributes, ...hops };
}

function withPaths({ pathsReceived }: Codec, family: Family): boolean {
  return pathsReceived?.includes(family) === true;
}

function isEndOfRib4(body: Uint8Array): boolean {
  return body.length === 4 && body.every((octet) => octet === 0);
}

/** The three parts of the body. Total lengths that overrun the message are a reset: where NLRI begins is unknown. */
function sections(body: Uint8Array, paths: boolean): { withdrawn: PrefixBlock; attributes: Reader; nlri: PrefixBlock } {
  const r = new Reader(body);
  try {
    const withdrawn = readPrefixes(r.sub(r.u16('withdrawnLength'), 'withdrawn'), 4, 'update.withdrawn', paths);
    const attributes = r.sub(r.u16('attributesLength'), 'attributes');
    const nlri = readPrefixes(r, 4, 'update.nlri', paths);
    return { withdrawn, attributes, nlri };
  } catch (thrown) {
    if (thrown instanceof TruncatedError) throw malformed('reset', `update.${thrown.field}`, thrown.message);
    throw thrown;
  }
}

function walkAttributes(r: Reader, walk: Walk, codec: Codec, families: ReadonlySet<Family>): void {
  while (r.left > 0) {
    let flags: number;
    let code: number;
    let value: Reader;
    try {
      flags = r.u8('flags');
      code = r.u8('code');
      const length = (flags & extendedLength) !== 0 ? r.u16('length') : r.u8('length');
      value = r.sub(length, 'value');
    } catch (thrown) {
      if (!(thrown instanceof TruncatedError)) throw thrown;
      // The total length still tells where NLRI begins. RFC 7606 §4.
      walk.faults.push(malformed('withdraw', `attribute.${thrown.field}`, thrown.message));
      return;
    }
    takeAttribute(flags, code, value, walk, codec, families);
  }
}

function takeAttribute(
  flags: number,
  code: number,
  value: Reader,
  walk: Walk,
  codec: Codec,
  families: ReadonlySet<Family>,
): void {
  const multiprotocol = code === codes.mpReach || code === codes.mpUnreach;
  if (walk.seen.has(code)) {
    const remedy = multiprotocol ? 'reset' : 'discard';
    const fault = malformed(remedy, `attribute ${code}`, 'appears twice');
    if (remedy === 'reset') throw fault;
    walk.faults.push(fault);
    return;
  }
  walk.seen.add(code);
  walk.ordered &&= !multiprotocol && code > walk.last && isPlain(code, flags, value.left);
  walk.last = code;
  try {
    if (multiprotocol) takeMultiprotocol(flags, code, value, walk, codec, families);
    else readAttribute(code, flags, value, walk.draft, codec);
  } catch (thrown) {
    if (!(thrown instanceof WireError) || thrown.remedy === 'reset') throw thrown;
    walk.faults.push(thrown);
  }
}

function takeMultiprotocol(
  flags: number,
  code: number,
  value: Reader,
  walk: Walk,
  codec: Codec,
  families: ReadonlySet<Family>,
): void {
  const name = code === codes.mpReach ? 'MP_REACH_NLRI' : 'MP_UNREACH_NLRI';
  const r = value;
  try {
    const afi = r.u16('afi');
    const safi = r.u8('safi');
    const family = familyOfAfi(afi);
    if (family === undefined || safi !== unicast || !families.has(family)) {
      throw malformed('discard', name, `AFI ${afi} SAFI ${safi} was not negotiated`, optionalAttribute);
    }
    if (code === codes.mpReach) walk.reach = readReach(r, family, codec);
    else walk.unreach = readPrefixes(r, family, name, withPaths(codec, family));
  } catch (thrown) {
    if (thrown instanceof TruncatedError) throw malformed('reset', name, thrown.message, optionalAttribute);
    throw thrown;
  }
  if ((flags & (optional | transitive)) !== optional) {
    walk.faults.push(malformed('withdraw', name, `flags ${flags.toString(16)}`, subcodes.update.attributeFlags));
  }
}

/** RFC 4760 §3, RFC 8950 §3: IPv4 prefixes may have IPv6 next hops. */
function readReach(r: Reader, family: Family, codec: Codec): Reach {
  const extended = codec.extendedNextHop === true;
  const length = r.u8('nextHopLength');
  const six = (length === 16 || length === 32) && (family === 6 || extended);
  if (!six && !(family === 4 && length === 4))
    throw malformed('reset', 'MP_REACH_NLRI', `next hop of ${length} octets`, optionalAttribute);
  const hops = nextHopsOf(r.bytes(length, 'nextHop'));
  r.u8('reserved');
  return { ...hops, block: readPrefixes(r, family, 'MP_REACH_NLRI', withPaths(codec, family)) };
}

/**
 * One address, or a global and a link-local one (RFC 2545 §3). Who has no global address leaves it unspecified (BIRD),
 * says the link-local one twice, or an IPv4-mapped one (FRR).
 */
function nextHopsOf(octets: Uint8Array): Pick<Reach, 'nextHop' | 'linkLocal'> {
  if (octets.length < 32) return { nextHop: formatIp(octets) };
  const [first, second] = [formatIp(octets.subarray(0, 16)), formatIp(octets.subarray(16))];
  if (!isLinkLocal(second)) return { nextHop: first };
  return first.startsWith('::') || isLinkLocal(first) ? { nextHop: second } : { nextHop: first, linkLocal: second };
}

/** Puts the parts together; the strongest fault decides whether the announced prefixes are taken as withdrawn. */
function assemble(withdrawn: PrefixBlock, nlri: PrefixBlock, walk: Walk, codec: Codec): Update {
  const { faults, draft, reach, unreach } = walk;
  const gone = [withdrawn, ...(unreach ? [unreach] : [])].filter((block) => block.octets.length > 0);
  const blocks = [nlri, ...(reach ? [reach.block] : [])].filter((block) => block.octets.length > 0);
  if (blocks.length > 0) faults.push(...missing(draft, nlri.octets.length > 0));
  const worst = faults.reduce<Remedy>((remedy, fault) => stronger(remedy, fault.remedy), 'discard');
  if (worst === 'withdraw') {
    const cause = faults.find((fault) => fault.remedy === 'withdraw');
    // Which prefixes the message was about cannot be told. RFC 7606 §5.2.
    if (blocks.length + gone.length === 0 && cause) throw malformed('reset', cause.field, cause.message, cause.subcode);
    return { withdrawn: [...gone, ...blocks], announced: [], faults };
  }
  const base = finished(draft, codec);
  const announced: { block: PrefixBlock; attributes: Attributes }[] = [];
  if (base && nlri.octets.length > 0) announced.push({ block: nlri, attributes: base });
  if (base && reach && reach.block.octets.length > 0) {
    const { block, ...hops } = reach;
    announced.push({ block, attributes: { ...base, ...hops } });
  }
  return { withdrawn: gone, announced, faults };
}

/** Mandatory attributes that are not there. NEXT_HOP only counts for NLRI outside MP_REACH. RFC 7606 §3 (d). */
function missing(draft: Draft, classic: boolean): WireError[] {
  const lacking: [string, number][] = [];
  if (draft.origin === undefined) lacking.push(['ORIGIN', 1]);
  if (draft.asPath === undefined) lacking.push(['AS_PATH', 2]);
  if (classic && draft.nextHop === undefined) lacking.push(['NEXT_HOP', 3]);
  return lacking.map(
    ([name, code]) => new WireError('update', missingWellKnown, 'withdraw', name, 'missing', Uint8Array.of(code)),
  );
}

/**
 * Resolves the AS4 attributes. RFC 6793 §4.2.3: of two aggregators the old one other than AS_TRANS means that a speaker
 * in between did not keep the AS4 attributes up.
 */
function finished(draft: Draft, codec: Codec): Attributes | undefined {
  const { as4Path, as4Aggregator, origin, asPath, ...rest } = draft;
  if (origin === undefined || asPath === undefined) return undefined;
  const stale = as4Aggregator !== undefined && rest.aggregator !== undefined && rest.aggregator.asn !== asTrans;
  if (codec.fourOctetAs || stale) return { ...rest, origin, asPath };
  return {
    ...rest,
    origin,
    asPath: as4Path ? mergeAs4Path(asPath, as4Path) : asPath,
    ...(rest.aggregator && as4Aggregator ? { aggregator: as4Aggregator } : {}),
  };
}
