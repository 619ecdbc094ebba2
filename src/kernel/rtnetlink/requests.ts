import type { MessageWriter } from './message.ts';

/* What a netlink socket is asked to send. */

/** A message to send: its type, its flags beyond REQUEST and ACK, and its body. */
export interface Request {
  /** For errors: `add route 10.0.0.0/26`. */
  readonly operation: string;
  readonly type: number;
  readonly flags?: number;
  readonly body: (w: MessageWriter) => void;
}

/** A change, and a question about what has come of it. */
export interface AsideRequest {
  readonly request: Request;
  readonly query?: Request;
}

/** Messages of one type that differ only in what their bodies say. */
export interface Batch {
  readonly count: number;
  readonly type: number;
  readonly flags?: number;
  readonly body: (w: MessageWriter, at: number) => void;
  /** For errors. */
  readonly operation: (at: number) => string;
}

/** What one send holds. */
export interface Most {
  readonly messages: number;
  readonly octets: number;
}

/** Messages that are written many at a time. */
export interface PackedBatch {
  readonly count: number;
  /**
   * Writes whole messages from the one at `at` on, each with REQUEST and numbered from `sequence` on, at least one and
   * no more than are allowed; returns how many, and where the last one begins.
   */
  readonly write: (w: MessageWriter, at: number, most: Most, sequence: number) => { count: number; last: number };
  /** For errors. */
  readonly operation: (at: number) => string;
}
