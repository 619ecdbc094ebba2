import { type Event, type Store, StoreUnavailableError } from '../datastore/store.ts';
import type { Update } from '../datastore/update.ts';
import { CniError, cniCodes } from './error.ts';

/**
 * ClusterInformation(default).spec.datastoreReady: false while the datastore is being migrated, when nothing may be
 * written. Taken from a syncer's updates once these are in sync and while the store is reachable, else read.
 */
export class DatastoreGate {
  #ready = true;
  #inSync = false;
  #up = true;

  constructor(private readonly store: Store) {}

  /** Takes a syncer's update; its types must include ClusterInformation. */
  consume(update: Update): void {
    if (update.op === 'listed') return;
    if (update.op === 'connection') this.#up = update.up;
    else if (update.op === 'inSync') this.#inSync = true;
    else for (const event of update.events) this.#apply(event);
  }

  /** @throws CniError with code 11 while the datastore is locked; StoreUnavailableError */
  async requireReady(): Promise<void> {
    if (!(await this.#isReady())) throw locked();
  }

  /** As `requireReady`, but asks nobody while the store is known to be away: for DEL, which waits on the disk then. */
  async requireReadyNow(): Promise<void> {
    this.#refuseAway();
    await this.requireReady();
  }

  /** As `requireReady`, but asks the store unless it is known to be away: for STATUS, which tells whether it answers. */
  async requireReachable(): Promise<void> {
    this.#refuseAway();
    if (!(await this.#read())) throw locked();
  }

  #refuseAway(): void {
    if (this.#inSync && !this.#up) throw new StoreUnavailableError('the connection is lost');
  }

  #isReady(): boolean | Promise<boolean> {
    return this.#inSync && this.#up ? this.#ready : this.#read();
  }

  async #read(): Promise<boolean> {
    const cluster = await this.store.get({ type: 'ClusterInformation', name: 'default' });
    return cluster?.value.spec.datastoreReady !== false;
  }

  #apply(event: Event): void {
    if (event.op === 'invalid') return;
    const key = event.op === 'set' ? event.entry.key : event.key;
    if (key.type !== 'ClusterInformation' || key.name !== 'default') return;
    const spec = event.op === 'set' ? (event.entry.value as { spec: { datastoreReady?: boolean } }).spec : {};
    this.#ready = spec.datastoreReady !== false;
  }
}

function locked(): CniError {
  return new CniError(
    cniCodes.tryAgain,
    'ClusterInformation(default).spec.datastoreReady: false: the datastore is locked; pods wait until it is true',
  );
}
