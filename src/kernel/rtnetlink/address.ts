import { type Family, familyOf, splitCidr } from '../../model/address.ts';
import type { AddressOnLink, Neighbour } from '../types.ts';
import { familyFrom, kernelFamily, kernelFamilyOf, octetsOf, readIp } from './address-bytes.ts';
import {
  AF_UNSPEC,
  IFA_ADDRESS,
  IFA_F_NODAD,
  IFA_FLAGS,
  IFA_LOCAL,
  NDA_DST,
  NDA_IFINDEX,
  NDA_LLADDR,
  NUD_PERMANENT,
  RTM_GETNEIGH,
} from './constants.ts';
import { formatMac, parseMac } from './link.ts';
import { hostI32, hostU16, hostU32, type MessageWriter, readAttributes } from './message.ts';
import type { NetlinkSocket } from './socket.ts';

/* `struct ifaddrmsg` (linux/if_addr.h) and `struct ndmsg` (linux/neighbour.h). */

/** Payload of RTM_NEWADDR or RTM_DELADDR; undefined for other families. `device` is the caller's to add. */
export function readAddress(payload: Uint8Array): Omit<AddressOnLink, 'device'> | undefined {
  if (familyFrom(payload[0] ?? 0) === undefined) return undefined;
  const attributes = readAttributes(payload, 8);
  // On point-to-point devices IFA_ADDRESS is the peer; IFA_LOCAL is ours where both are given.
  const octets = attributes.get(IFA_LOCAL) ?? attributes.get(IFA_ADDRESS);
  if (!octets) return undefined;
  const address = readIp(octets);
  const prefixLength = payload[1] ?? 0;
  const index = hostU32(payload, 4);
  return { index, address, prefixLength, cidr: `${address}/${prefixLength}`, scope: payload[3] ?? 0 };
}

/** Body of RTM_GETADDR. */
export function writeAddressQuery(w: MessageWriter, family: Family | undefined): void {
  w.u8(family === undefined ? AF_UNSPEC : kernelFamily(family));
  w.u8(0);
  w.u16(0);
  w.u32(0);
}

/** Body of RTM_NEWADDR or RTM_DELADDR. @param cidr address with prefix length, host bits kept */
export function writeAddress(w: MessageWriter, index: number, cidr: string, noDad: boolean): void {
  const { address, length } = splitCidr(cidr, 'address');
  w.u8(kernelFamilyOf(address));
  w.u8(length);
  w.u8(0);
  w.u8(0);
  w.u32(index);
  const octets = octetsOf(address);
  w.attribute(IFA_LOCAL, octets);
  w.attribute(IFA_ADDRESS, octets);
  if (noDad && familyOf(address) === 6) w.attributeU32(IFA_FLAGS, IFA_F_NODAD);
}

/** Payload of RTM_NEWNEIGH; undefined for entries of other families (bridge) and those without an address. */
export function readNeighbour(payload: Uint8Array): (Omit<Neighbour, 'device'> & { index: number }) | undefined {
  if (familyFrom(payload[0] ?? 0) === undefined) return undefined;
  const attributes = readAttributes(payload, 12);
  const destination = attributes.get(NDA_DST);
  if (!destination) return undefined;
  const mac = attributes.get(NDA_LLADDR);
  return {
    index: hostI32(payload, 4),
    address: readIp(destination),
    ...(mac?.length === 6 ? { mac: formatMac(mac) } : {}),
    permanent: (hostU16(payload, 8) & NUD_PERMANENT) !== 0,
  };
}

/** Body of RTM_GETNEIGH: all entries of one device. */
export function writeNeighbourQuery(w: MessageWriter, index: number): void {
  for (let i = 0; i < 3; i++) w.u32(0);
  w.attributeU32(NDA_IFINDEX, index);
}

/** Body of RTM_NEWNEIGH, a permanent entry, or RTM_DELNEIGH. */
export function writeNeighbour(
  w: MessageWriter,
  index: number,
  neighbour: Omit<Neighbour, 'device' | 'permanent'>,
): void {
  w.u8(kernelFamilyOf(neighbour.address));
  w.u8(0);
  w.u16(0);
  w.u32(index);
  w.u16(NUD_PERMANENT);
  w.u16(0);
  w.attribute(NDA_DST, octetsOf(neighbour.address));
  if (neighbour.mac !== undefined) w.attribute(NDA_LLADDR, parseMac(neighbour.mac));
}

/** The neighbours of one device. @throws KernelError */
export function listNeighbours(
  socket: NetlinkSocket,
  operation: string,
  device: number,
): Omit<NonNullable<ReturnType<typeof readNeighbour>>, 'index'>[] {
  const found = socket.dump({ operation, type: RTM_GETNEIGH, body: (w) => writeNeighbourQuery(w, device) });
  return found.flatMap((payload) => {
    const neighbour = readNeighbour(payload);
    if (neighbour?.index !== device) return [];
    const { index: _, ...rest } = neighbour;
    return [rest];
  });
}
