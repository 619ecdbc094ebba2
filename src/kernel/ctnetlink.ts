import { type Family, familyOf, type Ip, octets } from '../model/address.ts';
import type { PacketFields } from '../model/packet.ts';
import { octetsOf, readIp } from './rtnetlink/address-bytes.ts';
import { AF_INET, AF_INET6 } from './rtnetlink/constants.ts';
import { type MessageWriter, NetlinkFormatError, readAttributes } from './rtnetlink/message.ts';

/*
 * Connection tracking over netlink: messages of subsystem NFNL_SUBSYS_CTNETLINK, each with a `struct nfgenmsg` before
 * its attributes (linux/netfilter/nfnetlink.h, nfnetlink_conntrack.h). Numbers in attributes are in network order.
 */

const subsystem = 1 << 8;
export const IPCTNL_MSG_CT_GET = subsystem | 1;
export const IPCTNL_MSG_CT_DELETE = subsystem | 2;
export const IPCTNL_MSG_CT_GET_STATS = subsystem | 5;

/** Length of `struct nfgenmsg`. */
const headLength = 4;
const NLA_F_NESTED = 0x8000;
const CTA_TUPLE_ORIG = 1;
const CTA_TUPLE_REPLY = 2;
const CTA_STATUS = 3;
/** Bit 0 of the status, whose octets are in network order. */
const IPS_EXPECTED = 1;
const CTA_TUPLE_PROTO = 2;
const CTA_PROTO_NUM = 1;
const CTA_PROTO_SRC_PORT = 2;
const CTA_PROTO_DST_PORT = 3;
const CTA_PROTO_ICMP_TYPE = 5;
const CTA_PROTO_ICMP_CODE = 6;
const CTA_PROTO_ICMPV6_TYPE = 8;
const CTA_PROTO_ICMPV6_CODE = 9;
const CTA_ID = 12;
const CTA_ZONE = 18;
const CTA_FILTER = 25;
const CTA_TUPLE_IP = 1;
const CTA_STATS_GLOBAL_ENTRIES = 1;
const ipAttributes = {
  4: { source: 1, destination: 2 },
  6: { source: 3, destination: 4 },
} as const;

/** The four places of an address in a flow; those of the reply are what address translation made of them. */
export const places = [
  { direction: 'original', side: 'source' },
  { direction: 'original', side: 'destination' },
  { direction: 'reply', side: 'source' },
  { direction: 'reply', side: 'destination' },
] as const;

export type Place = (typeof places)[number];

const tupleOf = { original: CTA_TUPLE_ORIG, reply: CTA_TUPLE_REPLY } as const;
const filterFlagsOf = { original: 1, reply: 2 } as const;
const filterBitOf = { source: 1, destination: 2 } as const;

/** A tracked flow: its addresses, and the attributes that name it, as the kernel gave them. */
export interface Flow {
  readonly family: Family;
  /** In the order of `places`. */
  readonly addresses: readonly Ip[];
  /** CTA_TUPLE_ORIG; a zone of this direction only is in it. */
  readonly tuple: Uint8Array;
  /** CTA_ID: tells a flow from a later one with the same tuple. */
  readonly id: Uint8Array;
  /** CTA_ZONE; absent in the default zone. */
  readonly zone?: Uint8Array;
}

/** Payload of IPCTNL_MSG_CT_NEW; undefined for a flow that cannot be named or is of another family. @throws NetlinkFormatError */
export function readFlow(payload: Uint8Array): Flow | undefined {
  const family = payload[0] === AF_INET ? 4 : payload[0] === AF_INET6 ? 6 : undefined;
  const attributes = readAttributes(payload, headLength);
  const tuple = attributes.get(CTA_TUPLE_ORIG);
  const reply = attributes.get(CTA_TUPLE_REPLY);
  const id = attributes.get(CTA_ID);
  const zone = attributes.get(CTA_ZONE);
  if (!family || !tuple || !reply || !id) return undefined;
  const addresses = [...readAddresses(tuple, family), ...readAddresses(reply, family)];
  return { family, addresses, tuple, id, ...(zone && { zone }) };
}

/** What the forwarding rules see of the first packet of a flow: after destination translation, before that of sources. */
export interface Connection extends PacketFields {
  /** What it was sent to, where that was translated. */
  readonly sentTo?: { readonly destination: Ip; readonly destinationPort?: number };
  /** A helper expected it: it passed as related to another, without being asked for itself. */
  readonly expected: boolean;
}

/** The connection of a payload of IPCTNL_MSG_CT_NEW that `readFlow` reads. @throws NetlinkFormatError */
export function readConnection(payload: Uint8Array, { addresses }: Flow): Connection {
  const attributes = readAttributes(payload, headLength);
  const part = (type: number) =>
    readAttributes(
      readAttributes(attributes.get(type) ?? new Uint8Array(), 0).get(CTA_TUPLE_PROTO) ?? new Uint8Array(),
      0,
    );
  const [original, reply] = [part(CTA_TUPLE_ORIG), part(CTA_TUPLE_REPLY)];
  const [source, sentTo, destination] = addresses;
  const protocol = original.get(CTA_PROTO_NUM)?.[0];
  if (!source || !destination || protocol === undefined) throw new NetlinkFormatError('flow without a protocol');
  const sourcePort = readPort(original.get(CTA_PROTO_SRC_PORT));
  const destinationPort = readPort(reply.get(CTA_PROTO_SRC_PORT));
  const sentToPort = readPort(original.get(CTA_PROTO_DST_PORT));
  const translated = sentTo !== undefined && (sentTo !== destination || sentToPort !== destinationPort);
  const type = original.get(CTA_PROTO_ICMP_TYPE)?.[0] ?? original.get(CTA_PROTO_ICMPV6_TYPE)?.[0];
  const code = original.get(CTA_PROTO_ICMP_CODE)?.[0] ?? original.get(CTA_PROTO_ICMPV6_CODE)?.[0];
  return {
    source,
    destination,
    protocol,
    ...(sourcePort !== undefined && { sourcePort }),
    ...(destinationPort !== undefined && { destinationPort }),
    ...(type !== undefined && code !== undefined && { icmp: { type, code } }),
    ...(translated && {
      sentTo: { destination: sentTo, ...(sentToPort !== undefined && { destinationPort: sentToPort }) },
    }),
    expected: ((attributes.get(CTA_STATUS)?.[3] ?? 0) & IPS_EXPECTED) !== 0,
  };
}

function readPort(bytes: Uint8Array | undefined): number | undefined {
  return bytes?.length === 2 ? ((bytes[0] ?? 0) << 8) | (bytes[1] ?? 0) : undefined;
}

/** Entries of the table, of a payload that answers IPCTNL_MSG_CT_GET_STATS. @throws NetlinkFormatError */
export function readEntries(payload: Uint8Array): number {
  const entries = readAttributes(payload, headLength).get(CTA_STATS_GLOBAL_ENTRIES);
  if (entries?.length !== 4) throw new NetlinkFormatError('conntrack statistics without the number of entries');
  return new DataView(entries.buffer, entries.byteOffset).getUint32(0);
}

/** Body of IPCTNL_MSG_CT_GET_STATS. */
export function writeStatisticsQuery(w: MessageWriter): void {
  writeHead(w, 0);
}

/** Body of a dump: all flows of a family. */
export function writeQuery(w: MessageWriter, family: Family): void {
  writeHead(w, family === 4 ? AF_INET : AF_INET6);
}

/**
 * Body of a dump: the flows that have the address in that place. A kernel before 5.8 does not know CTA_FILTER and gives
 * all of the family.
 */
export function writeFilteredQuery(w: MessageWriter, address: Ip, { direction, side }: Place): void {
  const family = familyOf(address);
  writeQuery(w, family);
  const tuple = w.nest(tupleOf[direction] | NLA_F_NESTED);
  const ip = w.nest(CTA_TUPLE_IP | NLA_F_NESTED);
  w.attribute(ipAttributes[family][side], octetsOf(address));
  w.close(ip);
  w.close(tuple);
  const filter = w.nest(CTA_FILTER | NLA_F_NESTED);
  // The kernel reads both, in host order: which fields of each tuple must be equal.
  for (const of of ['original', 'reply'] as const)
    w.attributeU32(filterFlagsOf[of], of === direction ? filterBitOf[side] : 0);
  w.close(filter);
}

/** Body of IPCTNL_MSG_CT_DELETE. It always has a tuple: without one the kernel would delete every flow. */
export function writeDeletion(w: MessageWriter, { family, tuple, id, zone }: Flow): void {
  writeQuery(w, family);
  w.attribute(CTA_TUPLE_ORIG | NLA_F_NESTED, tuple);
  w.attribute(CTA_ID, id);
  if (zone) w.attribute(CTA_ZONE, zone);
}

/** Source and destination of a tuple. @throws NetlinkFormatError */
function readAddresses(tuple: Uint8Array, family: Family): [Ip, Ip] {
  const ip = readAttributes(readAttributes(tuple, 0).get(CTA_TUPLE_IP) ?? new Uint8Array(), 0);
  const { source, destination } = ipAttributes[family];
  const read = (type: number) => {
    const bytes = ip.get(type);
    if (bytes?.length !== octets(family))
      throw new NetlinkFormatError(`flow with an address of ${bytes?.length ?? 0} octets`);
    return readIp(bytes);
  };
  return [read(source), read(destination)];
}

/** `struct nfgenmsg`: family, NFNETLINK_V0, no resource. */
function writeHead(w: MessageWriter, family: number): void {
  w.u8(family);
  w.u8(0);
  w.u16(0);
}
