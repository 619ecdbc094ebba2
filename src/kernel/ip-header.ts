import type { Family } from '../model/address.ts';
import type { PacketFields } from '../model/packet.ts';
import { readIp } from './rtnetlink/address-bytes.ts';

/** What policy asks of a packet, read from its first octets; `protocol` is that of what is inside. */
export interface PacketHead extends PacketFields {
  readonly family: Family;
}

const withPorts = new Set([6, 17, 132, 136]);
const ICMP = 1;
const ICMPV6 = 58;
/** Extension headers of IPv6 that another header follows, with their length in octets of eight. RFC 8200 §4. */
const extensions = new Set([0, 43, 60, 135]);
const FRAGMENT = 44;
const AUTHENTICATION = 51;
/** No packet of good will has more. */
const mostExtensions = 8;

/**
 * The head of an IP packet of which the first octets are there. Ports and types are absent where they are not among them,
 * as in a later fragment. RFC 791 §3.1, RFC 8200 §3.
 * @returns undefined for what is no IP packet, or ends before its addresses do
 */
export function readPacketHead(bytes: Uint8Array): PacketHead | undefined {
  const version = (bytes[0] ?? 0) >> 4;
  if (version === 4) return readPacket4(bytes);
  if (version === 6) return readPacket6(bytes);
  return undefined;
}

function readPacket4(bytes: Uint8Array): PacketHead | undefined {
  const length = ((bytes[0] ?? 0) & 0xf) * 4;
  if (bytes.length < 20 || length < 20) return undefined;
  const protocol = bytes[9] ?? 0;
  const first = (u16(bytes, 6) & 0x1fff) === 0;
  return {
    family: 4,
    source: readIp(bytes.subarray(12, 16)),
    destination: readIp(bytes.subarray(16, 20)),
    protocol,
    ...(first && readTransport(bytes.subarray(length), protocol)),
  };
}

function readPacket6(bytes: Uint8Array): PacketHead | undefined {
  if (bytes.length < 40) return undefined;
  let protocol = bytes[6] ?? 0;
  let at = 40;
  let first = true;
  for (let count = 0; count < mostExtensions && at + 8 <= bytes.length; count++) {
    const words = bytes[at + 1] ?? 0;
    if (extensions.has(protocol)) {
      protocol = bytes[at] ?? 0;
      at += (words + 1) * 8;
    } else if (protocol === AUTHENTICATION) {
      protocol = bytes[at] ?? 0;
      at += (words + 2) * 4;
    } else if (protocol === FRAGMENT) {
      first = u16(bytes, at + 2) >> 3 === 0;
      protocol = bytes[at] ?? 0;
      at += 8;
      if (!first) break;
    } else break;
  }
  return {
    family: 6,
    source: readIp(bytes.subarray(8, 24)),
    destination: readIp(bytes.subarray(24, 40)),
    protocol,
    ...(first && readTransport(bytes.subarray(at), protocol)),
  };
}

function readTransport(bytes: Uint8Array, protocol: number): Partial<PacketHead> {
  if (withPorts.has(protocol) && bytes.length >= 4)
    return { sourcePort: u16(bytes, 0), destinationPort: u16(bytes, 2) };
  if ((protocol === ICMP || protocol === ICMPV6) && bytes.length >= 2)
    return { icmp: { type: bytes[0] ?? 0, code: bytes[1] ?? 0 } };
  return {};
}

function u16(bytes: Uint8Array, at: number): number {
  return ((bytes[at] ?? 0) << 8) | (bytes[at + 1] ?? 0);
}
