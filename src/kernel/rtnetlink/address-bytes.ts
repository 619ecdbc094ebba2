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

/** Canonical address → network-order octets. IPv4 takes a short way: ten thousand routes pass here at once. */
export function octetsOf(address: Ip): Uint8Array {
  if (address.includes(':')) return ipBytes(address);
  const out = new Uint8Array(4);
  let octet = 0;
  let at = 0;
  for (let i = 0; i < address.length; i++) {
    const code = address.charCodeAt(i);
    if (code === 46) {
      out[at++] = octet;
      octet = 0;
    } else octet = octet * 10 + code - 48;
  }
  out[at] = octet;
  return out;
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
