import { parseIp } from '../../src/model/address.ts';
import type { Packet } from '../../src/policy/evaluate.ts';
import type { Connection } from './oracle.ts';

/** The first packet of a generated connection; of ICMP an echo request. */
export function packetOf({ source, destination, protocol, port }: Connection): Omit<Packet, 'endpoint' | 'direction'> {
  const addresses = { source: parseIp(source), destination: parseIp(destination) };
  if (protocol === 'ICMP') {
    const six = source.includes(':');
    return { ...addresses, protocol: six ? 58 : 1, icmp: { type: six ? 128 : 8, code: 0 } };
  }
  const number = { TCP: 6, UDP: 17, SCTP: 132 }[protocol];
  return { ...addresses, protocol: number, sourcePort: 40_000, ...(port && { destinationPort: port }) };
}
