import { setImmediate } from 'node:timers/promises';
import { type Commit, type Kv, type KvEntry, type KvEvent, type KvWrite, meets } from './kv.ts';
import { KvStore } from './kv-store.ts';
import { GoneError, type Store, StoreUnavailableError } from './store.ts';

/** What tests may do to a memory store beyond the contract. */
export interface MemoryStore extends Store {
  /** Forgets the history: watches and lists from before now end with GoneError. */
  compact(): void;
  /** Makes every call fail, and every watch end, with StoreUnavailableError until `connect`. */
  disconnect(): void;
  connect(): void;
  /** The stored texts by etcd key, as another client would see them. */
  dump(): ReadonlyMap<string, string>;
  /** Stores a raw text, valid or not; undefined removes the key. */
  plant(key: string, text: string | undefined): void;
}

/** A store in this process with the semantics of the etcd driver: revisions, transactions, watch, compaction. */
export function createMemoryStore(now: () => Date = () => new Date()): MemoryStore {
  return new MemoryKvStore(new MemoryKv(), now);
}

class MemoryKvStore extends KvStore implements MemoryStore {
  constructor(
    private readonly memory: MemoryKv,
    now: () => Date,
  ) {
    super(memory, now);
  }

  compact(): void {
    this.memory.compact();
  }

  disconnect(): void {
    this.memory.setUp(false);
  }

  connect(): void {
    this.memory.setUp(true);
  }

  dump(): ReadonlyMap<string, string> {
    return this.memory.dump();
  }

  plant(key: string, text: string | undefined): void {
    this.memory.plant(key, text);
  }
}

/** Entries that are put into order without a turn of the event loop of their own. */
const sortedAtOnce = 1000;

interface Change {
  readonly revision: number;
  readonly events: readonly KvEvent[];
}

/** A key-value store in this process with etcd's revisions. */
export class MemoryKv implements Kv {
  #revision = 1;
  #compacted = 0;
  #up = true;
  #current = new Map<string, KvEntry>();
  #base = new Map<string, KvEntry>();
  #history: Change[] = [];
  readonly #wake = new Set<() => void>();

  async get(key: string): Promise<KvEntry | undefined> {
    this.#check();
    return this.#current.get(key);
  }

  async range(prefix: string, revision?: string) {
    this.#check();
    const at = revision === undefined ? this.#revision : Number(revision);
    const keys = at === this.#revision ? this.#current : this.#asOf(at);
    const found = [...keys.values()].filter(({ key }) => key.startsWith(prefix));
    if (found.length > sortedAtOnce) await setImmediate();
    const ordered = inOrder(found);
    if (found.length > sortedAtOnce) await setImmediate();
    return { entries: ordered, revision: String(at) };
  }

  async commit(writes: readonly KvWrite[]): Promise<Commit> {
    this.#check();
    if (new Set(writes.map(({ key }) => key)).size < writes.length)
      throw new TypeError('a transaction that writes one key twice');
    const found = writes.map(({ key }) => this.#current.get(key)?.revision);
    if (writes.some(({ expect }, at) => !meets(expect, found[at]))) return { committed: false, found };
    return { committed: true, revision: this.#apply(writes) };
  }

  async *watch(prefix: string, revision: string, signal: AbortSignal): AsyncIterable<readonly KvEvent[]> {
    let next = Number(revision) + 1;
    while (!signal.aborted) {
      this.#check();
      if (next <= this.#compacted) throw new GoneError(`revision ${next} is compacted`);
      const events: KvEvent[] = [];
      // Revisions follow one another, so that of a change is also its place.
      const from = Math.max(0, next - (this.#history[0]?.revision ?? next));
      for (const change of this.#history.slice(from))
        for (const event of change.events) if (keyOf(event).startsWith(prefix)) events.push(event);
      next = Math.max(next, this.#revision + 1);
      if (events.length > 0) yield events;
      else await this.#changed(signal);
    }
  }

  close(): void {
    this.setUp(false);
  }

  compact(): void {
    this.#compacted = this.#revision;
    this.#base = new Map(this.#current);
    this.#history = [];
    this.#wakeAll();
  }

  setUp(up: boolean): void {
    this.#up = up;
    this.#wakeAll();
  }

  dump(): ReadonlyMap<string, string> {
    return new Map([...this.#current].sort(([a], [b]) => (a < b ? -1 : 1)).map(([key, { value }]) => [key, value]));
  }

  plant(key: string, text: string | undefined): void {
    const expect = { is: 'present' } as const;
    this.#apply([text === undefined ? { op: 'delete', key, expect } : { op: 'put', key, value: text, expect }]);
  }

  #apply(writes: readonly KvWrite[]): string {
    const revision = String(++this.#revision);
    const events = writes.map((write): KvEvent => {
      if (write.op === 'delete') {
        this.#current.delete(write.key);
        return { op: 'delete', key: write.key, revision };
      }
      const entry = { key: write.key, value: write.value, revision };
      this.#current.set(write.key, entry);
      return { op: 'put', entry };
    });
    this.#history.push({ revision: this.#revision, events });
    this.#wakeAll();
    return revision;
  }

  /** The keys as they were after `revision`: the history replayed on what the last compaction kept. */
  #asOf(revision: number): Map<string, KvEntry> {
    if (revision < this.#compacted) throw new GoneError(`revision ${revision} is compacted`);
    const keys = new Map(this.#base);
    for (const change of this.#history) {
      if (change.revision > revision) break;
      for (const event of change.events) {
        if (event.op === 'put') keys.set(event.entry.key, event.entry);
        else keys.delete(event.key);
      }
    }
    return keys;
  }

  #changed(signal: AbortSignal): Promise<void> {
    return new Promise((resolve) => {
      const done = () => {
        this.#wake.delete(done);
        signal.removeEventListener('abort', done);
        resolve();
      };
      this.#wake.add(done);
      signal.addEventListener('abort', done, { once: true });
      if (signal.aborted) done();
    });
  }

  #wakeAll(): void {
    for (const wake of [...this.#wake]) wake();
  }

  #check(): void {
    if (!this.#up) throw new StoreUnavailableError('the memory store is disconnected');
  }
}

/** As etcd orders them, by the octets of their keys, which is JavaScript's order but for surrogates. */
function inOrder(entries: readonly KvEntry[]): KvEntry[] {
  if (entries.some(({ key }) => /[\ud800-\uffff]/.test(key))) {
    const marked = entries.map((entry) => ({ octets: Buffer.from(entry.key), entry }));
    return marked.sort((a, b) => Buffer.compare(a.octets, b.octets)).map(({ entry }) => entry);
  }
  return entries.toSorted((a, b) => (a.key < b.key ? -1 : 1));
}

function keyOf(event: KvEvent): string {
  return event.op === 'put' ? event.entry.key : event.key;
}
