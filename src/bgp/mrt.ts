import { Writer } from '../base/bytes.ts';
import { type Cidr, cidrParts, type Family, familyOf, type Ip, ipBytes, parseIp } from '../model/address.ts';
import type { Candidate } from './rib.ts';
import { type Attributes, codes, optional, writeAttribute, writeAttributes } from './wire/attributes.ts';
import { octetsFor } from './wire/nlri.ts';

/*
 * A dump of the tables in MRT's TABLE_DUMP_V2. RFC 6396 §4. Each candidate becomes an entry, so that the dump tells what
 * every peer said, not what was selected.
 */

const tableDumpV2 = 13;
const subtypes = { peerIndexTable: 1, ribIpv4Unicast: 2, ribIpv6Unicast: 4 } as const;
/** Entries with a path identifier. RFC 8050 §4.3. */
const addPathSubtypes = { ribIpv4Unicast: 8, ribIpv6Unicast: 10 } as const;
/** Bits of a peer's type: an IPv6 address, a four-octet AS number. RFC 6396 §4.3.1. */
const peerFlags = { six: 1, fourOctetAs: 2 } as const;
/** A count is of two octets. */
const most = 0xffff;

/** A peer as the index names it. */
export interface DumpPeer {
  /** `name` of the source of its candidates. */
  readonly name: string;
  readonly identifier: Ip;
  readonly address: Ip;
  readonly asn: number;
}

export interface DumpInput {
  /** Seconds since 1970. When a route was learnt is not recorded: entries carry the time of the dump. */
  readonly seconds: number;
  readonly identifier: Ip;
  /** At most 65535; candidates of others are left out. */
  readonly peers: readonly DumpPeer[];
  /** By family, as RFC 6396 wants one prefix after another. */
  readonly routes: Iterable<{ readonly prefix: Cidr; readonly candidates: readonly Candidate[] }>;
}

/** The records of a dump, the index of the peers first. */
export function* tableDump({ seconds, identifier, peers, routes }: DumpInput): Generator<Uint8Array> {
  const known = peers.slice(0, most);
  yield record(seconds, subtypes.peerIndexTable, (w) => writePeers(w, identifier, known));
  const index = new Map(known.map(({ name }, at) => [name, at]));
  const sequences = { 4: 0, 6: 0 };
  for (const { prefix, candidates } of routes) {
    const entries = candidates.filter(({ source }) => index.has(source.name)).slice(0, most);
    if (entries.length === 0) continue;
    const family = familyOf(prefix);
    const several = entries.some(({ pathId }) => pathId !== undefined);
    const kinds = several ? addPathSubtypes : subtypes;
    const subtype = family === 4 ? kinds.ribIpv4Unicast : kinds.ribIpv6Unicast;
    yield record(seconds, subtype, (w) => {
      w.u32(sequences[family]++);
      writePrefix(w, prefix);
      w.u16(entries.length);
      for (const { source, attributes, pathId = 0 } of entries) {
        w.u16(index.get(source.name) ?? 0);
        w.u32(seconds);
        if (several) w.u32(pathId);
        writeEntry(w, family, attributes);
      }
    });
  }
}

/** The common header and a body. RFC 6396 §2. */
function record(seconds: number, subtype: number, body: (w: Writer) => void): Uint8Array {
  const content = new Writer(256);
  body(content);
  const w = new Writer(12 + content.length);
  w.u32(seconds);
  w.u16(tableDumpV2);
  w.u16(subtype);
  w.u32(content.length);
  w.bytes(content.finish());
  return w.finish();
}

/** RFC 6396 §4.3.1; the view has no name. */
function writePeers(w: Writer, identifier: Ip, peers: readonly DumpPeer[]): void {
  w.bytes(ipBytes(identifier));
  w.u16(0);
  w.u16(peers.length);
  for (const { identifier: theirs, address, asn } of peers) {
    w.u8(peerFlags.fourOctetAs | (familyOf(address) === 6 ? peerFlags.six : 0));
    w.bytes(ipBytes(theirs));
    w.bytes(ipBytes(address));
    w.u32(asn);
  }
}

function writePrefix(w: Writer, prefix: Cidr): void {
  const { address, length } = cidrParts(prefix);
  w.u8(length);
  w.bytes(ipBytes(address).subarray(0, octetsFor(length)));
}

/** The next hop of what this node originates, as other speakers write it. */
const unspecified: Readonly<Record<Family, Ip>> = { 4: parseIp('0.0.0.0'), 6: parseIp('::') };

/** Length and attributes; AS numbers have four octets, MP_REACH_NLRI only the next hop. RFC 6396 §4.3.4. */
function writeEntry(w: Writer, family: Family, { nextHop = unspecified[family], ...rest }: Attributes): void {
  const lengthAt = w.length;
  w.u16(0);
  writeAttributes(w, { ...rest, nextHop }, { fourOctetAs: true, external: false });
  if (familyOf(nextHop) === 6) {
    const value = new Writer(17);
    value.u8(16);
    value.bytes(ipBytes(nextHop));
    writeAttribute(w, optional, codes.mpReach, value.finish());
  }
  w.patch16(lengthAt, w.length - lengthAt - 2);
}
