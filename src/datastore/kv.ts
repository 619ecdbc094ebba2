/*
 * What the store needs of an ordered key-value store with revisions: etcd's model. The etcd and the memory driver
 * differ only below this line.
 */

export interface KvEntry {
  readonly key: string;
  readonly value: string;
  /** Revision of the last change, decimal text. */
  readonly revision: string;
}

/** What must hold of a key for a commit to go through. */
export type Expectation =
  | { readonly is: 'absent' }
  | { readonly is: 'present' }
  | { readonly is: 'at'; readonly revision: string };

export type KvWrite =
  | { readonly op: 'put'; readonly key: string; readonly value: string; readonly expect: Expectation }
  | { readonly op: 'delete'; readonly key: string; readonly expect: Expectation };

export type Commit =
  | { readonly committed: true; readonly revision: string }
  /** Revision found of every write's key, in order; undefined where there is none. */
  | { readonly committed: false; readonly found: readonly (string | undefined)[] };

export type KvEvent =
  | { readonly op: 'put'; readonly entry: KvEntry }
  | { readonly op: 'delete'; readonly key: string; readonly revision: string };

/** Every call rejects with StoreUnavailableError when the store does not answer in time. */
export interface Kv {
  get(key: string): Promise<KvEntry | undefined>;
  /**
   * All keys that begin with `prefix`, by key, at one revision.
   * @throws GoneError when the revision asked for is compacted
   */
  range(
    prefix: string,
    revision?: string,
  ): Promise<{ readonly entries: readonly KvEntry[]; readonly revision: string }>;
  /**
   * Writes without a condition. With a TTL the key goes by itself unless it is written again in time; absent where keys
   * cannot go by themselves.
   */
  put?(key: string, value: string, ttlSeconds?: number): Promise<void>;
  /** All or none. */
  commit(writes: readonly KvWrite[]): Promise<Commit>;
  /** Changes after `revision` below `prefix`, a batch never splitting a commit. @throws GoneError, StoreUnavailableError */
  watch(prefix: string, revision: string, signal: AbortSignal): AsyncIterable<readonly KvEvent[]>;
  close(): void;
}

/** Whether a key at `found` meets the expectation. */
export function meets(expect: Expectation, found: string | undefined): boolean {
  switch (expect.is) {
    case 'absent':
      return found === undefined;
    case 'present':
      return found !== undefined;
    case 'at':
      return found === expect.revision;
  }
}
