import { Backoff } from '../base/backoff.ts';
import { type Clock, pause } from '../base/clock.ts';
import type { Log } from '../base/log.ts';
import type { Store } from '../datastore/store.ts';

/** What start-up does with a store. */
export type Writable = Pick<Store, 'get' | 'list' | 'create' | 'update'>;

/**
 * The store for writers that must change nothing while it is locked (`datastoreReady: false` of the ClusterInformation):
 * their writes wait for its end, and then fail by compare-and-swap where something changed meanwhile. Reads go on.
 */
export function heedingLock(store: Store, deps: { clock: Clock; log: Log; signal?: AbortSignal }): Writable {
  return {
    get: (key) => store.get(key),
    list: (type, scope) => store.list(type, scope),
    create: async (key, value) => {
      await unlocked(store, deps);
      return store.create(key, value);
    },
    update: async (key, value, revision) => {
      await unlocked(store, deps);
      return store.update(key, value, revision);
    },
  };
}

async function unlocked(
  store: Store,
  { clock, log, signal }: { clock: Clock; log: Log; signal?: AbortSignal },
): Promise<void> {
  const backoff = new Backoff(500, 15_000);
  for (;;) {
    signal?.throwIfAborted();
    const cluster = await store.get({ type: 'ClusterInformation', name: 'default' });
    if (cluster?.value.spec.datastoreReady !== false) return;
    const retryMs = backoff.next();
    log.warn({ retryMs }, 'the datastore is locked (datastoreReady: false); start-up waits before it writes');
    await pause(clock, retryMs, signal);
  }
}
