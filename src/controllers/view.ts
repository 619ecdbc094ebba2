import { type Entry, type Event, type InvalidEntry, type Key, keyText, type Type } from '../datastore/store.ts';
import type { Consumer } from '../datastore/update.ts';

/** What is known of one key. */
export type Known = { readonly entry: Entry } | { readonly invalid: InvalidEntry } | undefined;

/** What a syncer told of a datastore, for looking up. */
export interface View {
  known(key: Key): Known;
  /** Readable objects of a type, by name or canonical key. */
  of<T extends Type>(type: T): ReadonlyMap<string, Entry<T>>;
  /** Whether some object of the type cannot be read. */
  hasUnreadable(type: Type): boolean;
}

/** A view that follows a syncer. An object that becomes unreadable counts as such, and no longer by its old value. */
export class SyncedView implements View {
  readonly #entries = new Map<Type, Map<string, Entry>>();
  readonly #invalid = new Map<Type, Map<string, InvalidEntry>>();
  #inSync = false;
  #up = true;

  /** @param onChange told the keys that changed; undefined: everything is there now */
  constructor(private readonly onChange: (keys: readonly Key[] | undefined) => void) {}

  /** Whether everything that there is has been told. */
  get inSync(): boolean {
    return this.#inSync;
  }

  get connected(): boolean {
    return this.#up;
  }

  readonly consume: Consumer = (update) => {
    switch (update.op) {
      case 'events':
        for (const event of update.events) this.#take(event);
        if (this.#inSync) this.onChange(update.events.map((event) => ('key' in event ? event.key : event.entry.key)));
        return;
      case 'inSync':
        this.#inSync = true;
        this.onChange(undefined);
        return;
      case 'connection':
        this.#up = update.up;
        return;
      case 'listed':
        return;
    }
  };

  known(key: Key): Known {
    const text = keyText(key);
    const entry = this.#entries.get(key.type)?.get(text);
    if (entry) return { entry };
    const invalid = this.#invalid.get(key.type)?.get(text);
    return invalid && { invalid };
  }

  of<T extends Type>(type: T): ReadonlyMap<string, Entry<T>> {
    return (this.#entries.get(type) ?? new Map()) as unknown as ReadonlyMap<string, Entry<T>>;
  }

  hasUnreadable(type: Type): boolean {
    return (this.#invalid.get(type)?.size ?? 0) > 0;
  }

  /** Every key that is known. */
  *keys(): Generator<Key> {
    for (const entries of this.#entries.values()) for (const { key } of entries.values()) yield key;
    for (const entries of this.#invalid.values()) for (const { key } of entries.values()) yield key;
  }

  #take(event: Event): void {
    const key = 'key' in event ? event.key : event.entry.key;
    const text = keyText(key);
    this.#entries.get(key.type)?.delete(text);
    this.#invalid.get(key.type)?.delete(text);
    if (event.op === 'set') mapOf(this.#entries, key.type).set(text, event.entry);
    else if (event.op === 'invalid') mapOf(this.#invalid, key.type).set(text, event.entry);
  }
}

function mapOf<V>(maps: Map<Type, Map<string, V>>, type: Type): Map<string, V> {
  const found = maps.get(type) ?? new Map<string, V>();
  maps.set(type, found);
  return found;
}
