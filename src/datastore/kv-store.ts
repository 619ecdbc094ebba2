import { setImmediate } from 'node:timers/promises';
import { decode, type Encoded, encode, parseLoosely, stamped } from './codec.ts';
import { formatJson } from './json.ts';
import { type Expectation, type Kv, type KvEntry, type KvEvent, type KvWrite, meets } from './kv.ts';
import {
  commonPrefix,
  etcdKey,
  etcdPrefix,
  parseEtcdKey,
  parseOtherKey,
  reportKey,
  resourcesPrefix,
} from './layout.ts';
import type {
  DeleteOutcome,
  Entry,
  Event,
  InvalidEntry,
  Key,
  KeyOf,
  Listing,
  Other,
  Scope,
  Store,
  TransactionOutcome,
  Type,
  Value,
  Write,
  WriteOutcome,
} from './store.ts';

/** Values decoded before the event loop gets its turn. */
const slice = 100;

/** Values written last that are remembered: a node writes a few blocks, each again and again. */
const remembered = 64;

/** Calico's layout over any key-value store with revisions. */
export class KvStore implements Store {
  readonly atomic = true;
  readonly report?: NonNullable<Store['report']>;
  /** etcd key → what was written here last, which the watch tells of a moment later. */
  readonly #written = new Map<string, Encoded>();

  constructor(
    protected readonly kv: Kv,
    private readonly now: () => Date,
  ) {
    if (kv.put)
      this.report = async (node, report, value, ttlSeconds) =>
        kv.put?.(reportKey(node, report), formatJson(value), ttlSeconds);
  }

  async get<T extends Type>(key: KeyOf<T>): Promise<Entry<T> | undefined> {
    const found = await this.kv.get(etcdKey(key as Key));
    return found && { key, value: decode<T>(key, found.value, found.revision), revision: found.revision };
  }

  async list<T extends Type>(type: T, scope: Scope = {}): Promise<Listing<T>> {
    const { entries, revision } = await this.kv.range(etcdPrefix(type, scope), scope.revision);
    const found: Entry<T>[] = [];
    const invalid: InvalidEntry[] = [];
    const long = entries.length > slice;
    for (const [at, stored] of entries.entries()) {
      if (long && at % slice === 0) await setImmediate();
      const key = parseEtcdKey(stored.key);
      if (key?.type !== type) continue;
      const event = read(key, stored);
      if (event.op === 'set') found.push(event.entry as Entry<T>);
      else invalid.push(event.entry);
    }
    return { entries: found, invalid, revision };
  }

  create<T extends Type>(key: KeyOf<T>, value: Value<T>): Promise<WriteOutcome<T>> {
    return this.#put(key, value, { is: 'absent' });
  }

  update<T extends Type>(key: KeyOf<T>, value: Value<T>, revision: string): Promise<WriteOutcome<T>> {
    return this.#put(key, value, { is: 'at', revision });
  }

  async delete<T extends Type>(key: KeyOf<T>, revision?: string): Promise<DeleteOutcome> {
    const expect: Expectation = revision === undefined ? { is: 'present' } : { is: 'at', revision };
    const done = await this.kv.commit([{ op: 'delete', key: etcdKey(key as Key), expect }]);
    if (done.committed) return { outcome: 'written' };
    return { outcome: done.found[0] === undefined ? 'missing' : 'conflict' };
  }

  async transact(writes: readonly Write[]): Promise<TransactionOutcome> {
    if (writes.length === 0) return { outcome: 'written', revisions: [] };
    const steps = writes.map((write) => this.#kvWrite(write));
    const done = await this.kv.commit(steps);
    if (done.committed)
      return { outcome: 'written', revisions: steps.map(({ op }) => (op === 'put' ? done.revision : undefined)) };
    const failed = steps.findIndex(({ expect }, at) => !meets(expect, done.found[at]));
    return { outcome: 'conflict', failed };
  }

  async *watch(types: readonly Type[], revision: string, signal: AbortSignal): AsyncIterable<readonly Event[]> {
    const wanted = new Set<Type>(types);
    for await (const batch of this.kv.watch(commonPrefix(types), revision, signal)) {
      const events = batch.flatMap((change) => this.#understood(change, wanted));
      if (events.length > 0) yield events;
    }
  }

  async others(): Promise<readonly Other[]> {
    const { entries } = await this.kv.range(resourcesPrefix);
    return entries.flatMap(({ key }) => parseOtherKey(key) ?? []);
  }

  close(): void {
    this.kv.close();
  }

  async #put<T extends Type>(key: KeyOf<T>, value: Value<T>, expect: Expectation): Promise<WriteOutcome<T>> {
    const place = etcdKey(key as Key);
    const { text } = encode(key as Key, stamped(key as Key, value as Value<Type>, this.now()));
    const done = await this.kv.commit([{ op: 'put', key: place, value: text, expect }]);
    if (done.committed) {
      const { revision } = done;
      return { outcome: 'written', entry: { key, value: decode<T>(key, text, revision), revision } };
    }
    return { outcome: expect.is === 'at' && done.found[0] === undefined ? 'missing' : 'conflict' };
  }

  #kvWrite(write: Write): KvWrite {
    const key = etcdKey(write.key);
    const expect: Expectation = write.op === 'create' ? { is: 'absent' } : { is: 'at', revision: write.revision };
    if (write.op === 'delete') return { op: 'delete', key, expect };
    const encoded = encode(write.key, stamped(write.key, write.value, this.now()));
    this.#remember(key, encoded);
    return { op: 'put', key, value: encoded.text, expect };
  }

  #remember(key: string, encoded: Encoded): void {
    this.#written.delete(key);
    if (encoded.decoded === undefined) return;
    this.#written.set(key, encoded);
    if (this.#written.size <= remembered) return;
    for (const oldest of this.#written.keys()) {
      this.#written.delete(oldest);
      return;
    }
  }

  /** A change as the consumer sees it; nothing for keys of other types. */
  #understood(change: KvEvent, wanted: ReadonlySet<Type>): readonly Event[] {
    const key = parseEtcdKey(change.op === 'put' ? change.entry.key : change.key);
    if (key === undefined || !wanted.has(key.type)) return [];
    if (change.op === 'delete') return [{ op: 'delete', key }];
    const { entry } = change;
    const own = this.#written.get(entry.key);
    if (own?.decoded === undefined || own.text !== entry.value) return [read(key, entry)];
    return [{ op: 'set', entry: { key, value: own.decoded(entry.revision), revision: entry.revision } as Entry }];
  }
}

/** A stored value checked: what cannot be understood is reported, not thrown. */
function read(key: Key, stored: KvEntry): Extract<Event, { op: 'set' | 'invalid' }> {
  try {
    const value = decode(key, stored.value, stored.revision);
    return { op: 'set', entry: { key, value, revision: stored.revision } };
  } catch (thrown) {
    const error = thrown instanceof Error ? thrown : new Error(String(thrown));
    return { op: 'invalid', entry: { key, error, value: parseLoosely(stored.value) } };
  }
}
