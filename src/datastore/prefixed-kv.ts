import type { Commit, Kv, KvEntry, KvEvent, KvWrite } from './kv.ts';

/**
 * A part of a key-value store: every key begins with a prefix that users of this part do not see, so several clusters
 * can share one etcd.
 */
export class PrefixedKv implements Kv {
  readonly put?: NonNullable<Kv['put']>;

  /** @param prefix without `/` at its end, as keys begin with one */
  constructor(
    private readonly kv: Kv,
    private readonly prefix: string,
  ) {
    if (kv.put) this.put = async (key, value, ttlSeconds) => kv.put?.(prefix + key, value, ttlSeconds);
  }

  async get(key: string): Promise<KvEntry | undefined> {
    const found = await this.kv.get(this.prefix + key);
    return found && this.#within(found);
  }

  async range(prefix: string, revision?: string) {
    const found = await this.kv.range(this.prefix + prefix, revision);
    return { entries: found.entries.map((entry) => this.#within(entry)), revision: found.revision };
  }

  commit(writes: readonly KvWrite[]): Promise<Commit> {
    return this.kv.commit(writes.map((write) => ({ ...write, key: this.prefix + write.key })));
  }

  async *watch(prefix: string, revision: string, signal: AbortSignal): AsyncIterable<readonly KvEvent[]> {
    for await (const events of this.kv.watch(this.prefix + prefix, revision, signal))
      yield events.map((event) =>
        event.op === 'put'
          ? { ...event, entry: this.#within(event.entry) }
          : { ...event, key: event.key.slice(this.prefix.length) },
      );
  }

  close(): void {
    this.kv.close();
  }

  #within(entry: KvEntry): KvEntry {
    return { ...entry, key: entry.key.slice(this.prefix.length) };
  }
}
