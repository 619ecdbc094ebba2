import { createLog } from '../../src/base/log.ts';
import type { Event } from '../../src/datastore/store.ts';
import { parseIp } from '../../src/model/address.ts';
import { answer } from '../../src/policy/question.ts';
import { node } from './cluster.ts';
import type { RawPacket } from './raw-packets.ts';

const log = createLog('test', 'silent');
const transports: Readonly<Record<number, 'tcp' | 'udp' | 'sctp'>> = { 6: 'tcp', 17: 'udp', 132: 'sctp' };

/**
 * Whether explain says that a packet passes; undefined for one that cannot be written as its question.
 * @param own addresses of this node
 */
export function told(events: readonly Event[], packet: RawPacket, own: readonly string[]): boolean | undefined {
  const { protocol, destinationPort: port, icmp, sourcePort } = packet;
  const named = transports[protocol];
  if (named ? sourcePort !== 40_000 : icmp?.code !== 0) return undefined;
  const end = (address: string) => (own.includes(address) ? { host: node } : { address: parseIp(address) });
  const [source, destination] = [end(packet.source), end(packet.destination)];
  const transport = named && port !== undefined ? { protocol: named, port } : ({ protocol: 'icmp' } as const);
  const family = packet.source.includes(':') ? 6 : 4;
  return answer(events, { source, destination, transport, family }, log).verdict === 'allow';
}
