import { familyOf, type Ip } from '../../model/address.ts';
import type { Forwarding, VxlanRequest, VxlanSettings } from '../types.ts';
import { octetsOf, readIp } from './address-bytes.ts';
import {
  IFLA_INFO_DATA,
  IFLA_INFO_KIND,
  IFLA_LINKINFO,
  NDA_DST,
  NDA_IFINDEX,
  NDA_LLADDR,
  NUD_PERMANENT,
  RTM_GETNEIGH,
} from './constants.ts';
import { formatMac, parseMac } from './link.ts';
import { hostI32, hostU16, hostU32, type MessageWriter, readAttributes } from './message.ts';
import type { NetlinkSocket } from './socket.ts';

/* VXLAN devices (IFLA_VXLAN_*, linux/if_link.h) and their forwarding database: `struct ndmsg` of family AF_BRIDGE. */

const AF_BRIDGE = 7;
const IFLA_VXLAN_ID = 1;
const IFLA_VXLAN_LOCAL = 4;
const IFLA_VXLAN_LEARNING = 7;
const IFLA_VXLAN_PORT = 15;
const IFLA_VXLAN_LOCAL6 = 17;
/** The entry is the device's own, not the bridge's that it might be a port of. */
const NTF_SELF = 0x02;

/** Payload of IFLA_INFO_DATA of a `vxlan` link. */
export function readVxlan(data: Uint8Array): VxlanSettings {
  const attributes = readAttributes(data, 0);
  const id = attributes.get(IFLA_VXLAN_ID);
  const port = attributes.get(IFLA_VXLAN_PORT);
  const local = attributes.get(IFLA_VXLAN_LOCAL) ?? attributes.get(IFLA_VXLAN_LOCAL6);
  return {
    id: id ? hostU32(id, 0) : 0,
    port: port ? ((port[0] ?? 0) << 8) | (port[1] ?? 0) : 0,
    learning: (attributes.get(IFLA_VXLAN_LEARNING)?.[0] ?? 0) !== 0,
    ...(local ? { local: readIp(local) } : {}),
  };
}

/** IFLA_LINKINFO of RTM_NEWLINK: without learning, so that only what we say is forwarded. */
export function writeVxlanInfo(w: MessageWriter, { id, port, local }: VxlanRequest): void {
  const info = w.nest(IFLA_LINKINFO);
  w.attributeText(IFLA_INFO_KIND, 'vxlan');
  const data = w.nest(IFLA_INFO_DATA);
  w.attributeU32(IFLA_VXLAN_ID, id);
  w.attribute(familyOf(local) === 4 ? IFLA_VXLAN_LOCAL : IFLA_VXLAN_LOCAL6, octetsOf(local));
  w.attribute(IFLA_VXLAN_LEARNING, Uint8Array.of(0));
  w.attribute(IFLA_VXLAN_PORT, Uint8Array.of(port >> 8, port & 0xff));
  w.close(data);
  w.close(info);
}

/** Payload of RTM_NEWNEIGH of family AF_BRIDGE; undefined for entries without a destination. */
export function readForwarding(payload: Uint8Array): (Forwarding & { index: number }) | undefined {
  if (payload[0] !== AF_BRIDGE) return undefined;
  const attributes = readAttributes(payload, 12);
  const destination = attributes.get(NDA_DST);
  const mac = attributes.get(NDA_LLADDR);
  if (!destination || mac?.length !== 6) return undefined;
  return {
    index: hostI32(payload, 4),
    mac: formatMac(mac),
    destination: readIp(destination),
    permanent: (hostU16(payload, 8) & NUD_PERMANENT) !== 0,
  };
}

/** Body of RTM_GETNEIGH: the forwarding database of one device. */
export function writeForwardingQuery(w: MessageWriter, index: number): void {
  w.u8(AF_BRIDGE);
  w.u8(0);
  w.u16(0);
  w.u32(0);
  w.u32(0);
  w.attributeU32(NDA_IFINDEX, index);
}

/** Body of RTM_NEWNEIGH or RTM_DELNEIGH. */
export function writeForwarding(w: MessageWriter, index: number, entry: { mac: string; destination?: Ip }): void {
  w.u8(AF_BRIDGE);
  w.u8(0);
  w.u16(0);
  w.u32(index);
  w.u16(NUD_PERMANENT);
  w.u8(NTF_SELF);
  w.u8(0);
  w.attribute(NDA_LLADDR, parseMac(entry.mac));
  if (entry.destination !== undefined) w.attribute(NDA_DST, octetsOf(entry.destination));
}

/** The forwarding database of one device. @throws KernelError */
export function listForwarding(socket: NetlinkSocket, operation: string, device: number): Forwarding[] {
  const found = socket.dump({ operation, type: RTM_GETNEIGH, body: (w) => writeForwardingQuery(w, device) });
  return found.flatMap((payload) => {
    const entry = readForwarding(payload);
    if (entry?.index !== device) return [];
    const { index: _, ...rest } = entry;
    return [rest];
  });
}
