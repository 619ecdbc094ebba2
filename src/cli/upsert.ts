import { Backoff } from '../base/backoff.ts';
import { type Clock, pause } from '../base/clock.ts';
import type { Log } from '../base/log.ts';
import type { Entry, KeyOf, Store, Type, Value } from '../datastore/store.ts';

export interface Upserted {
  readonly outcome: 'created' | 'changed' | 'unchanged';
}

const attempts = 50;

/**
 * Creates or changes one object by compare-and-swap, so that several writers at once lose nothing.
 * @param change gives the value to store from the current one; undefined leaves it as it is
 * @throws Error when others keep winning
 */
export async function upsert<T extends Type>(
  store: Pick<Store, 'get' | 'create' | 'update'>,
  key: KeyOf<T>,
  change: (current: Entry<T> | undefined) => Value<T> | undefined,
  { clock, log, signal }: { clock: Clock; log: Log; signal?: AbortSignal },
): Promise<Upserted> {
  const backoff = new Backoff(2, 250);
  for (let attempt = 1; attempt <= attempts; attempt++) {
    signal?.throwIfAborted();
    const current = await store.get(key);
    const value = change(current);
    if (value === undefined) return { outcome: 'unchanged' };
    const result = current ? await store.update(key, value, current.revision) : await store.create(key, value);
    if (result.outcome === 'written') return { outcome: current ? 'changed' : 'created' };
    log.debug({ key, attempt, outcome: result.outcome }, 'another writer was first; reading again');
    await pause(clock, backoff.next(), signal);
  }
  throw new Error(`${JSON.stringify(key)}: others changed it ${attempts} times while we tried to`);
}
