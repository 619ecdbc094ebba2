import type { Ip } from '../../model/address.ts';
import type { Change, State } from './fsm.ts';

/** The per-peer option. */
export interface BfdSettings {
  /** Least milliseconds between our packets once the session is Up. */
  readonly minTxMs: number;
  /** Least milliseconds between packets that we ask the peer to keep to. */
  readonly minRxMs: number;
  /** Of our packets, how many the peer may miss. */
  readonly multiplier: number;
  /** RFC 5883 (UDP 4784, any distance) instead of RFC 5881 (UDP 3784, TTL 255 only). */
  readonly multihop: boolean;
}

/** A session to keep up. */
export interface BfdTarget extends BfdSettings {
  /** The peer's name, for logs. */
  readonly name: string;
  readonly address: Ip;
  readonly localAddress?: Ip;
  /** Device of a link-local address. */
  readonly interface?: string;
}

/** Where a packet came from; the zone is the device of a link-local address. */
export interface BfdSender {
  readonly address: string;
  readonly zone?: string;
}

/** A session as an operator sees it. */
export interface BfdStatus {
  readonly state: State;
  readonly remoteState: State;
  /** Why the session last left Up, and what the peer says of that. */
  readonly diagnostic: string;
  readonly remoteDiagnostic: string;
  readonly localDiscriminator: number;
  readonly remoteDiscriminator: number;
  /** Negotiated: milliseconds between our packets, and of silence until the session counts as down. */
  readonly transmitMs: number;
  readonly detectionMs: number;
  /** Why there is no session at present. */
  readonly problem?: string;
}

export const initialStatus: BfdStatus = {
  state: 'Down',
  remoteState: 'Down',
  diagnostic: 'none',
  remoteDiagnostic: 'none',
  localDiscriminator: 0,
  remoteDiscriminator: 0,
  transmitMs: 0,
  detectionMs: 0,
};

/** Sessions at the same time; each costs a socket. */
export const maxSessions = 512;

/** Counters that the worker writes and the main thread reads, each a place in a shared Int32Array. */
export const counters = [
  'received',
  'sent',
  'sendErrors',
  'malformed',
  'unknownDiscriminator',
  'unknownPeer',
  'wrongSource',
] as const;
export type Counter = (typeof counters)[number];

/** Main thread → worker. `key` names a session over its life. */
export type Order =
  | { readonly do: 'open'; readonly key: number; readonly target: BfdTarget }
  | { readonly do: 'close'; readonly key: number }
  | { readonly do: 'stop' };

/** Worker → main thread. */
export type Report =
  | { readonly type: 'status'; readonly key: number; readonly status: BfdStatus; readonly change?: Change }
  | { readonly type: 'problem'; readonly key: number; readonly problem: string };

export interface WorkerInput {
  /** Int32Array of `counters.length` over shared memory. */
  readonly counts: Int32Array;
}
