import type { Event } from './store.ts';

/** What a syncer tells its consumer: ordered, gap-free changes, and where the first complete picture ends. */
export type Update =
  | { readonly op: 'events'; readonly events: readonly Event[] }
  /** Everything that existed at `revision` has been delivered; said after each list, the first one included. */
  | { readonly op: 'listed'; readonly revision: string }
  /** The first list has been delivered; said once, and never taken back. */
  | { readonly op: 'inSync' }
  /** The datastore became unreachable or reachable again; what is known stays known. */
  | { readonly op: 'connection'; readonly up: boolean; readonly reason?: string };

export type Consumer = (update: Update) => void;
