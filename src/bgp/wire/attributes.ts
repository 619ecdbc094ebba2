import { type Reader, TruncatedError, Writer } from '../../base/bytes.ts';
import { familyOf, formatIp, type Ip } from '../../model/address.ts';
import { octetsOf } from './addresses.ts';
import { isConfederation, readAsPath, writeAsPath } from './aspath.ts';
import type { Aggregator, Attributes, Codec, Draft, Origin, UnknownAttribute } from './attribute-types.ts';
import { type Remedy, subcodes, WireError } from './errors.ts';
import { asTrans } from './open.ts';

export type {
  Aggregator,
  Attributes,
  Codec,
  Draft,
  LargeCommunity,
  Origin,
  UnknownAttribute,
} from './attribute-types.ts';

const origins: readonly Origin[] = ['igp', 'egp', 'incomplete'];

interface Row {
  readonly code: number;
  readonly name: string;
  readonly field: keyof Draft;
  /** Optional (0x80) and transitive (0x40), as specified. */
  readonly flags: number;
  /** What a malformed value leads to. RFC 7606 §7. */
  readonly remedy: Remedy;
  /** Subcode of the NOTIFICATION when it comes to a reset. */
  readonly subcode: number;
  /** Not taken from other ASes. RFC 7606 §7.5, 7.9, 7.10. */
  readonly internalOnly?: true;
  /** @throws RangeError or TruncatedError when malformed; the caller has seen to it that nothing may be left */
  readonly read: (r: Reader, into: Draft, codec: Codec) => void;
  /** Writes the value, or returns false when the attribute is absent. */
  readonly write: (w: Writer, from: Attributes, codec: Codec) => boolean;
}

export const optional = 0x80;
export const transitive = 0x40;
export const partial = 0x20;
export const extendedLength = 0x10;

const { badOrigin, malformedAsPath, badNextHop, attributeLength, optionalAttribute } = subcodes.update;

/** MP_REACH_NLRI and MP_UNREACH_NLRI carry prefixes: update.ts reads and writes them. */
export const codes = { nextHop: 3, mpReach: 14, mpUnreach: 15 } as const;

export const table: readonly Row[] = [
  {
    code: 1,
    name: 'ORIGIN',
    field: 'origin',
    flags: transitive,
    remedy: 'withdraw',
    subcode: badOrigin,
    read: (r, into) => {
      const value = r.u8('origin');
      const origin = origins[value];
      if (!origin) throw new RangeError(`value ${value}`);
      into.origin = origin;
    },
    write: (w, { origin }) => {
      w.u8(origins.indexOf(origin));
      return true;
    },
  },
  {
    code: 2,
    name: 'AS_PATH',
    field: 'asPath',
    flags: transitive,
    remedy: 'withdraw',
    subcode: malformedAsPath,
    read: (r, into, codec) => {
      const path = readAsPath(r, codec.fourOctetAs ? 4 : 2);
      if (codec.external && path.some(isConfederation)) throw new RangeError('confederation segment from outside');
      into.asPath = path;
    },
    write: (w, { asPath }, codec) => {
      writeAsPath(w, asPath, codec.fourOctetAs ? 4 : 2);
      return true;
    },
  },
  {
    code: codes.nextHop,
    name: 'NEXT_HOP',
    field: 'nextHop',
    flags: transitive,
    remedy: 'withdraw',
    subcode: badNextHop,
    read: (r, into) => {
      into.nextHop = readIp4(r, 'nextHop');
    },
    // An IPv6 next hop goes into MP_REACH_NLRI, which update.ts writes.
    write: (w, { nextHop }) =>
      nextHop !== undefined && familyOf(nextHop) === 4 && writeIf(nextHop, (value) => w.bytes(octetsOf(value))),
  },
  {
    code: 4,
    name: 'MULTI_EXIT_DISC',
    field: 'med',
    flags: optional,
    remedy: 'withdraw',
    subcode: attributeLength,
    read: (r, into) => {
      into.med = r.u32('med');
    },
    write: (w, { med }) => writeIf(med, (value) => w.u32(value)),
  },
  {
    code: 5,
    name: 'LOCAL_PREF',
    field: 'localPref',
    flags: transitive,
    remedy: 'withdraw',
    subcode: attributeLength,
    internalOnly: true,
    read: (r, into) => {
      into.localPref = r.u32('localPref');
    },
    write: (w, { localPref }, codec) => !codec.external && writeIf(localPref, (value) => w.u32(value)),
  },
  {
    code: 6,
    name: 'ATOMIC_AGGREGATE',
    field: 'atomicAggregate',
    flags: transitive,
    remedy: 'discard',
    subcode: attributeLength,
    read: (_, into) => {
      into.atomicAggregate = true;
    },
    write: (_, { atomicAggregate }) => atomicAggregate === true,
  },
  {
    code: 7,
    name: 'AGGREGATOR',
    field: 'aggregator',
    flags: optional | transitive,
    remedy: 'discard',
    subcode: optionalAttribute,
    read: (r, into, codec) => {
      into.aggregator = readAggregator(r, codec.fourOctetAs ? 4 : 2);
    },
    write: (w, { aggregator }, codec) =>
      writeIf(aggregator, (value) => writeAggregator(w, value, codec.fourOctetAs ? 4 : 2)),
  },
  {
    code: 8,
    name: 'COMMUNITIES',
    field: 'communities',
    flags: optional | transitive,
    remedy: 'withdraw',
    subcode: optionalAttribute,
    read: (r, into) => {
      into.communities = many(r, 4, () => r.u32('community'));
    },
    write: (w, { communities }) => writeEach(communities, (value) => w.u32(value)),
  },
  {
    code: 9,
    name: 'ORIGINATOR_ID',
    field: 'originatorId',
    flags: optional,
    remedy: 'withdraw',
    subcode: optionalAttribute,
    internalOnly: true,
    read: (r, into) => {
      into.originatorId = readIp4(r, 'originatorId');
    },
    write: (w, { originatorId }, codec) =>
      !codec.external && writeIf(originatorId, (value) => w.bytes(octetsOf(value))),
  },
  {
    code: 10,
    name: 'CLUSTER_LIST',
    field: 'clusterList',
    flags: optional,
    remedy: 'withdraw',
    subcode: optionalAttribute,
    internalOnly: true,
    read: (r, into) => {
      into.clusterList = many(r, 4, () => readIp4(r, 'cluster'));
    },
    write: (w, { clusterList }, codec) =>
      !codec.external && writeEach(clusterList, (value) => w.bytes(octetsOf(value))),
  },
  {
    code: 16,
    name: 'EXTENDED_COMMUNITIES',
    field: 'extendedCommunities',
    flags: optional | transitive,
    remedy: 'withdraw',
    subcode: optionalAttribute,
    read: (r, into) => {
      into.extendedCommunities = many(r, 8, () => Buffer.from(r.bytes(8, 'extendedCommunity')).toString('hex'));
    },
    write: (w, { extendedCommunities }) =>
      writeEach(extendedCommunities, (value) => w.bytes(Buffer.from(value, 'hex'))),
  },
  {
    code: 17,
    name: 'AS4_PATH',
    field: 'as4Path',
    flags: optional | transitive,
    remedy: 'discard',
    subcode: optionalAttribute,
    read: (r, into, codec) => {
      if (codec.fourOctetAs) throw new RangeError('from a speaker of four-octet AS numbers');
      into.as4Path = readAsPath(r, 4).filter((segment) => !isConfederation(segment));
    },
    write: (w, { asPath }, codec) => {
      if (codec.fourOctetAs || !asPath.some(({ asns }) => asns.some((asn) => asn > 0xffff))) return false;
      writeAsPath(
        w,
        asPath.filter((segment) => !isConfederation(segment)),
        4,
      );
      return true;
    },
  },
  {
    code: 18,
    name: 'AS4_AGGREGATOR',
    field: 'as4Aggregator',
    flags: optional | transitive,
    remedy: 'discard',
    subcode: optionalAttribute,
    read: (r, into, codec) => {
      if (codec.fourOctetAs) throw new RangeError('from a speaker of four-octet AS numbers');
      into.as4Aggregator = readAggregator(r, 4);
    },
    write: (w, { aggregator }, codec) => {
      if (codec.fourOctetAs || aggregator === undefined || aggregator.asn <= 0xffff) return false;
      writeAggregator(w, aggregator, 4);
      return true;
    },
  },
  {
    code: 32,
    name: 'LARGE_COMMUNITY',
    field: 'largeCommunities',
    flags: optional | transitive,
    remedy: 'withdraw',
    subcode: optionalAttribute,
    read: (r, into) => {
      into.largeCommunities = many(r, 12, () => [r.u32('large'), r.u32('large'), r.u32('large')] as const);
    },
    write: (w, { largeCommunities }) =>
      writeEach(largeCommunities, (value) => {
        for (const part of value) w.u32(part);
      }),
  },
];

const byCode: ReadonlyMap<number, Row> = new Map(table.map((row) => [row.code, row]));

/** Whether we would write the attribute with the same flags and form of length. */
export function isPlain(code: number, flags: number, length: number): boolean {
  const row = byCode.get(code);
  if (!row) return false;
  const expected = row.flags | (length > 255 ? extendedLength : 0);
  return flags === expected || (row.flags === (optional | transitive) && flags === (expected | partial));
}

/**
 * Reads one attribute's value into the draft. An unknown transitive one is kept; an unknown optional one is dropped.
 * @throws WireError with the remedy that RFC 7606 gives it
 */
export function readAttribute(code: number, flags: number, r: Reader, into: Draft, codec: Codec): void {
  const row = byCode.get(code);
  if (!row) {
    readUnknown(code, flags, r.bytes(r.left, 'value'), into);
    return;
  }
  const mismatch = (flags ^ row.flags) & (optional | transitive);
  if (mismatch !== 0) {
    const octets = Uint8Array.of(flags, code);
    const detail = `flags ${flags.toString(16)}, specified ${row.flags.toString(16)}`;
    throw new WireError('update', subcodes.update.attributeFlags, 'withdraw', row.name, detail, octets);
  }
  if (row.internalOnly && codec.external) {
    throw new WireError('update', row.subcode, 'discard', row.name, 'from another AS');
  }
  try {
    row.read(r, into, codec);
    if (r.left > 0) throw new RangeError(`${r.left} octets too many`);
  } catch (thrown) {
    delete into[row.field];
    if (!(thrown instanceof RangeError || thrown instanceof TruncatedError)) throw thrown;
    throw new WireError('update', row.subcode, row.remedy, row.name, thrown.message);
  }
  if ((flags & partial) !== 0 && row.flags === (optional | transitive)) into.partial = [...(into.partial ?? []), code];
}

function readUnknown(code: number, flags: number, value: Uint8Array, into: Draft): void {
  if ((flags & optional) === 0) {
    const { unrecognizedWellKnown } = subcodes.update;
    const octets = Uint8Array.of(flags, code, value.length, ...value);
    throw new WireError(
      'update',
      unrecognizedWellKnown,
      'reset',
      `attribute ${code}`,
      'well-known, but unknown',
      octets,
    );
  }
  if ((flags & transitive) !== 0) into.unknown = [...(into.unknown ?? []), { code, flags, value: value.slice() }];
}

/** The value of the attribute being written; nothing in `table` writes another one meanwhile. */
const scratch = new Writer(256);

/** Writes every attribute but MP_REACH_NLRI and MP_UNREACH_NLRI, by ascending code. RFC 4271 §5. */
export function writeAttributes(w: Writer, attributes: Attributes, codec: Codec): void {
  const unknown = [...(attributes.unknown ?? [])];
  for (const row of table) {
    while (unknown[0] && unknown[0].code < row.code) writeUnknown(w, unknown.shift());
    scratch.clear();
    if (!row.write(scratch, attributes, codec)) continue;
    const isPartial = attributes.partial?.includes(row.code) ? partial : 0;
    writeHeader(w, row.flags | isPartial, row.code, scratch.length);
    w.append(scratch);
  }
  for (const rest of unknown) writeUnknown(w, rest);
}

function writeUnknown(w: Writer, unknown: UnknownAttribute | undefined): void {
  if (unknown) writeAttribute(w, (unknown.flags & (optional | transitive)) | partial, unknown.code, unknown.value);
}

/** Header and value of one attribute; the extended length only where it is needed. */
export function writeAttribute(w: Writer, flags: number, code: number, value: Uint8Array): void {
  writeHeader(w, flags, code, value.length);
  w.bytes(value);
}

function writeHeader(w: Writer, flags: number, code: number, length: number): void {
  const long = length > 255;
  w.u8(long ? flags | extendedLength : flags);
  w.u8(code);
  if (long) w.u16(length);
  else w.u8(length);
}

function readIp4(r: Reader, field: string): Ip {
  return formatIp(r.bytes(4, field));
}

function many<T>(r: Reader, size: number, read: () => T): readonly T[] {
  if (r.left === 0 || r.left % size !== 0) throw new RangeError(`length ${r.left} is not a multiple of ${size}`);
  const found: T[] = [];
  while (r.left > 0) found.push(read());
  return found;
}

function writeIf<T>(value: T | undefined, write: (value: T) => void): boolean {
  if (value === undefined) return false;
  write(value);
  return true;
}

function writeEach<T>(values: readonly T[] | undefined, write: (value: T) => void): boolean {
  if (values === undefined || values.length === 0) return false;
  for (const value of values) write(value);
  return true;
}

function readAggregator(r: Reader, width: 2 | 4): Aggregator {
  const asn = width === 4 ? r.u32('aggregator.asn') : r.u16('aggregator.asn');
  if (asn === 0) throw new RangeError('AS 0');
  return { asn, address: readIp4(r, 'aggregator.address') };
}

function writeAggregator(w: Writer, { asn, address }: Aggregator, width: 2 | 4): void {
  if (width === 4) w.u32(asn);
  else w.u16(asn > 0xffff ? asTrans : asn);
  w.bytes(octetsOf(address));
}
