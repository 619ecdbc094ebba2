import {
  bits,
  type Cidr,
  cidrOf,
  type Family,
  familyOf,
  formatIp,
  type Ip,
  ipBytes,
  octets,
} from '../../model/address.ts';
import { AF_INET, AF_INET6 } from './constants.ts';
import { NetlinkFormatError } from './message.ts';

/** Canonical address → network-order octets. */
export function octetsOf(address: Ip): Uint8Array {
  if (address.includes(':')) return ipBytes(address);
  const out = new Uint8Array(4);
  new DataView(out.buffer).setUint32(0, number4(address));
  return out;
}

/** A canonical IPv4 address, or the one of a prefix, as a number: a hundred thousand routes pass here at once. */
export function number4(text: Ip | Cidr): number {
  let value = 0;
  let octet = 0;
  for (let i = 0; i < text.length; i++) {
    const code = text.charCodeAt(i);
    if (code === 46) {
      value = (value << 8) | octet;
      octet = 0;
    } else if (code === 47) break;
    else octet = octet * 10 + code - 48;
  }
  return ((value << 8) | octet) >>> 0;
}

/** Prefix length of a canonical prefix. */
export function lengthOf(cidr: Cidr): number {
  let length = 0;
  for (let i = cidr.indexOf('/') + 1; i < cidr.length; i++) length = length * 10 + cidr.charCodeAt(i) - 48;
  return length;
}

/** Network-order octets of an attribute → address. @throws NetlinkFormatError */
export function readIp(bytes: Uint8Array): Ip {
  if (bytes.length !== 4 && bytes.length !== 16) throw new NetlinkFormatError(`address of ${bytes.length} octets`);
  return formatIp(bytes);
}

/** RTA_DST and its length → prefix; without the attribute, the default route of the family. @throws NetlinkFormatError */
export function readCidr(bytes: Uint8Array | undefined, length: number, family: Family): Cidr {
  const address = bytes ?? new Uint8Array(octets(family));
  if (address.length !== octets(family) || length > bits(family))
    throw new NetlinkFormatError(`IPv${family} prefix of ${address.length} octets, length ${length}`);
  return cidrOf(address, length);
}

export function kernelFamily(family: Family): number {
  return family === 4 ? AF_INET : AF_INET6;
}

/** Family of an address as the kernel numbers it. */
export function kernelFamilyOf(address: Ip | Cidr): number {
  return kernelFamily(familyOf(address));
}

/** Undefined for a family that is neither IPv4 nor IPv6 (multicast routing, MPLS). */
export function familyFrom(number: number): Family | undefined {
  if (number === AF_INET) return 4;
  return number === AF_INET6 ? 6 : undefined;
}

/** `0.` to `255.` */
const dotted = Array.from({ length: 256 }, (_, octet) => `${octet}.`);
/** `/0` to `/32` */
const lengths = Array.from({ length: 33 }, (_, length) => `/${length}`);

/** Four octets in network order, as `number4` gives them. */
export function network32(bytes: Uint8Array, at: number): number {
  const high = ((bytes[at] ?? 0) << 8) | (bytes[at + 1] ?? 0);
  return high * 65_536 + (((bytes[at + 2] ?? 0) << 8) | (bytes[at + 3] ?? 0));
}

/** As the kernel says it: host bits are zero. @throws NetlinkFormatError for a length beyond 32 */
export function cidr4(value: number, length: number): Cidr {
  const after = lengths[length];
  if (after === undefined) throw new NetlinkFormatError(`IPv4 prefix of length ${length}`);
  return `${text3(value)}${value & 255}${after}` as Cidr;
}

function text3(value: number): string {
  return `${dotted[value >>> 24] ?? ''}${dotted[(value >>> 16) & 255] ?? ''}${dotted[(value >>> 8) & 255] ?? ''}`;
}
