import type { Ip } from './address.ts';

/** What rules ask of a packet, wherever it is met. */
export interface PacketFields {
  readonly source: Ip;
  readonly destination: Ip;
  /** IP protocol number. */
  readonly protocol: number;
  readonly sourcePort?: number;
  readonly destinationPort?: number;
  readonly icmp?: { readonly type: number; readonly code: number };
}
