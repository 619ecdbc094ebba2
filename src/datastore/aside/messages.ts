import type { EtcdConfig } from '../config.ts';
import type { Commit, KvEntry, KvEvent, KvWrite } from '../kv.ts';

/*
 * What the two threads say to each other. Every call has a number that its answers carry; a range and a watch are
 * answered in parts.
 */

export interface WorkerInput {
  readonly config: EtcdConfig;
  readonly options: AsideOptions;
}

/** The plain ones among the options of the store, see EtcdOptions. */
export interface AsideOptions {
  readonly timeoutMs?: number;
  readonly probeMs?: number;
  readonly recheckMs?: number;
  readonly chunk?: number;
}

export type Call =
  | { readonly do: 'get'; readonly id: number; readonly key: string }
  | { readonly do: 'range'; readonly id: number; readonly prefix: string; readonly revision: string | undefined }
  | {
      readonly do: 'put';
      readonly id: number;
      readonly key: string;
      readonly value: string;
      readonly ttlSeconds: number | undefined;
    }
  | { readonly do: 'commit'; readonly id: number; readonly writes: readonly KvWrite[] }
  | { readonly do: 'watch'; readonly id: number; readonly prefix: string; readonly revision: string }
  /** Ends a watch. */
  | { readonly do: 'end'; readonly id: number }
  /** So many of a watch's batches are used up. */
  | { readonly do: 'more'; readonly id: number; readonly batches: number };

/** What a call is answered with at last. */
export type Result =
  | { readonly of: 'get'; readonly entry: KvEntry | undefined }
  | { readonly of: 'range'; readonly revision: string }
  | { readonly of: 'commit'; readonly commit: Commit }
  | { readonly of: 'put' | 'watch' };

export type Answer =
  | { readonly type: 'done'; readonly id: number; readonly result: Result }
  | { readonly type: 'failed'; readonly id: number; readonly failure: Failure }
  | { readonly type: 'entries'; readonly id: number; readonly entries: readonly KvEntry[] }
  | { readonly type: 'events'; readonly id: number; readonly events: readonly KvEvent[] }
  /** One line of the thread's log, as JSON. */
  | { readonly type: 'log'; readonly line: string };

/** An error without its class, which does not pass from thread to thread. */
export interface Failure {
  readonly kind: 'gone' | 'unavailable' | 'other';
  readonly message: string;
  /** The chain of causes as text. */
  readonly cause?: string;
}

/** Batches of a watch that may be on the way before the other side has used one up. */
export const batchesAhead = 256;
/** Entries in one part of a range: so many are taken over in about a millisecond. */
export const entriesAtOnce = 500;
