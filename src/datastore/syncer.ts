import { setImmediate } from 'node:timers/promises';
import { Backoff } from '../base/backoff.ts';
import { type Clock, pause } from '../base/clock.ts';
import { explain } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import { formatJson } from './json.ts';
import type { Type } from './store.ts';
import { type Event, GoneError, type Key, keyText, type Listing, type Store, StoreUnavailableError } from './store.ts';
import type { Consumer } from './update.ts';

/*
 * List and watch as one ordered stream without gaps. After any break everything is listed again, at one revision, and
 * only the difference is told: what changed, and what is gone. A list that fails tells nothing, so an unreachable or
 * refusing datastore never looks like an empty one; and one that suddenly holds nothing at all, not even a Node, counts as
 * away: it was put in the place of the one that was known.
 */

export interface SyncOptions {
  readonly store: Store;
  readonly types: readonly Type[];
  readonly consumer: Consumer;
  readonly log: Log;
  readonly clock: Clock;
  readonly signal: AbortSignal;
  /** Delays between attempts; by default 100 ms growing to 2 s, so that a node is itself again 5 s after its datastore. */
  readonly backoff?: Backoff;
}

/** Events handed over at once while listing; the event loop breathes between two slices. */
const slice = 500;

/** Objects compared at once while listing. */
const compared = 2000;

/**
 * Runs until the signal aborts. The consumer is called synchronously and in order; it is told `inSync` once, after the
 * first complete picture. What cannot be parsed comes as an `invalid` event, and the consumer keeps its last good value.
 * @throws only what is a defect, such as an error of the consumer
 */
export async function sync(options: SyncOptions): Promise<void> {
  const { signal, clock, log, consumer } = options;
  const backoff = options.backoff ?? new Backoff(100, 2000);
  const stream = new Stream(options, () => backoff.reset());
  let up = true;
  while (!signal.aborted) {
    try {
      const listings = await unlessAborted(listAll(options.store, options.types), signal);
      if (listings === undefined) return;
      if (stream.isReplaced(listings))
        throw new StoreUnavailableError('it holds nothing at all, not even a Node, which it did: it was replaced');
      if (!up) consumer({ op: 'connection', up: true });
      up = true;
      await stream.catchUp(listings);
      await stream.follow(listings.at(-1)?.revision ?? '0');
    } catch (thrown) {
      if (signal.aborted) return;
      const lost = thrown instanceof StoreUnavailableError;
      if (!lost && !(thrown instanceof GoneError)) throw thrown;
      const retryMs = backoff.next();
      const reason = explain(thrown);
      log.warn(
        { reason, retryMs },
        lost ? 'datastore unreachable; what is known stays' : 'watch fell behind; listing again',
      );
      if (lost && up) consumer({ op: 'connection', up: false, reason });
      up &&= !lost;
      await pause(clock, retryMs, signal);
    }
  }
}

/** What was told so far, and the telling. */
class Stream {
  /** By canonical key: the revision told, or the error of an invalid value. */
  readonly #told = new Map<string, { readonly key: Key; readonly mark: string }>();
  #inSync = false;

  constructor(
    private readonly options: SyncOptions,
    private readonly onProgress: () => void,
  ) {}

  /** Whether there were Nodes, as in every cluster that works, and now is nothing of any kind. */
  isReplaced(listings: readonly Listing<Type>[]): boolean {
    const isEmpty = listings.every(({ entries, invalid }) => entries.length === 0 && invalid.length === 0);
    return isEmpty && [...this.#told.values()].some(({ key }) => key.type === 'Node');
  }

  /** Tells the difference between the lists and what was told. */
  async catchUp(listings: readonly Listing<Type>[]): Promise<void> {
    const { consumer, log, signal } = this.options;
    const events = await this.#difference(listings);
    for (let at = 0; at < events.length && !signal.aborted; at += slice) {
      this.#tell(events.slice(at, at + slice));
      if (at + slice < events.length) await setImmediate();
    }
    if (signal.aborted) return;
    const [first] = listings;
    if (first) consumer({ op: 'listed', revision: first.revision });
    if (this.#inSync) return;
    this.#inSync = true;
    log.info({ objects: this.#told.size }, 'datastore in sync');
    consumer({ op: 'inSync' });
  }

  /** Tells changes after `revision` until the watch breaks or the signal aborts. */
  async follow(revision: string): Promise<void> {
    const { store, types, signal } = this.options;
    for await (const events of store.watch(types, revision, signal)) {
      if (signal.aborted) return;
      this.onProgress();
      this.#tell(events);
    }
    if (!signal.aborted) throw new StoreUnavailableError('the watch ended');
  }

  /** Nothing else is told meanwhile; the event loop breathes while many objects are compared. */
  async #difference(listings: readonly Listing<Type>[]): Promise<Event[]> {
    const events: Event[] = [];
    const present = new Set<string>();
    const note = (event: Exclude<Event, { op: 'delete' }>) => {
      const text = keyText(event.entry.key);
      present.add(text);
      if (this.#told.get(text)?.mark !== markOf(event)) events.push(event);
    };
    for (const { entries, invalid } of listings) {
      for (const entry of entries) {
        note({ op: 'set', entry });
        if (present.size % compared === 0) await setImmediate();
      }
      for (const entry of invalid) note({ op: 'invalid', entry });
    }
    const gone = [...this.#told].filter(([text]) => !present.has(text));
    return [...gone.map(([, { key }]): Event => ({ op: 'delete', key })), ...events];
  }

  #tell(events: readonly Event[]): void {
    for (const event of events) {
      if (event.op === 'invalid')
        this.options.log.error(
          { key: keyText(event.entry.key), reason: explain(event.entry.error) },
          'stored value refused',
        );
      if (event.op === 'delete') this.#told.delete(keyText(event.key));
      else this.#told.set(keyText(event.entry.key), { key: event.entry.key, mark: markOf(event) });
    }
    this.options.consumer({ op: 'events', events });
  }
}

function markOf(event: Exclude<Event, { op: 'delete' }>): string {
  if (event.op === 'set') return event.entry.revision;
  return `invalid: ${event.entry.error.message} ${formatJson(event.entry.value ?? null)}`;
}

/** Lists of all types, each at the revision of the one before; the last one's covers them all. */
async function listAll(store: Store, types: readonly Type[]): Promise<Listing<Type>[]> {
  const listings: Listing<Type>[] = [];
  for (const type of types) {
    const before = listings.at(-1);
    listings.push(await store.list(type, before ? { revision: before.revision } : {}));
  }
  return listings;
}

/** The result, or undefined as soon as the signal aborts. */
function unlessAborted<T>(work: Promise<T>, signal: AbortSignal): Promise<T | undefined> {
  return new Promise((resolve, reject) => {
    const abort = () => resolve(undefined);
    signal.addEventListener('abort', abort, { once: true });
    work.then(resolve, reject).finally(() => signal.removeEventListener('abort', abort));
  });
}
