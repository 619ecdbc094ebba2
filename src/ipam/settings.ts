import type { Clock } from '../base/clock.ts';
import { explain } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import { type Event, keyText, type Store } from '../datastore/store.ts';
import type { Update } from '../datastore/update.ts';
import { parseCidr } from '../model/address.ts';
import type { IpamConfig } from '../model/ipam.ts';
import type { IpPool, IpReservation, Node } from '../model/kinds.ts';
import { Reserved } from './reserved.ts';

/** What decides where addresses come from. */
export interface Snapshot {
  readonly pools: readonly IpPool[];
  readonly labels: Readonly<Record<string, string>>;
  readonly strictAffinity: boolean;
  readonly autoAllocateBlocks: boolean;
  /** Blocks of one family that a node may own. */
  readonly maxBlocksPerHost: number;
  readonly cooldownSeconds: number;
  readonly reserved: Reserved;
}

/**
 * Pools, reservations, this node's labels and the IPAM settings: read from the store, at most once in `maxAgeMs`, or taken from a
 * syncer's updates, which cost no reads, once these are in sync and as long as the store is reachable.
 */
export class Settings {
  #read: { readonly at: number; readonly snapshot: Promise<Snapshot> } | undefined;
  readonly #pools = new Map<string, IpPool>();
  readonly #reservations = new Map<string, IpReservation>();
  #reserved = Reserved.none;
  #node: Node | undefined;
  #config: IpamConfig | undefined;
  #fed = { inSync: false, up: true };

  constructor(
    private readonly store: Store,
    private readonly node: string,
    private readonly clock: Clock,
    private readonly log: Log,
    /** Below the 500 ms that a pool's deletion waits between disabling it and taking its blocks. */
    private readonly maxAgeMs = 400,
  ) {}

  /** Takes a syncer's update; its types must include IPPool, IPReservation, Node and IpamConfig. */
  consume(update: Update): void {
    if (update.op === 'listed') return;
    if (update.op === 'connection') this.#fed.up = update.up;
    else if (update.op === 'inSync') this.#fed.inSync = true;
    else for (const event of update.events) this.#apply(event);
  }

  current(): Promise<Snapshot> {
    if (this.#fed.inSync && this.#fed.up)
      return Promise.resolve(snapshotOf([...this.#pools.values()], this.#reserved, this.#node, this.#config));
    const now = this.clock.monotonic();
    if (this.#read === undefined || now - this.#read.at > this.maxAgeMs) {
      const read = { at: now, snapshot: this.#load() };
      this.#read = read;
      read.snapshot.catch(() => {
        if (this.#read === read) this.#read = undefined;
      });
    }
    return this.#read.snapshot;
  }

  async #load(): Promise<Snapshot> {
    const [pools, reservations, node, config] = await Promise.all([
      this.store.list('IPPool'),
      this.store.list('IPReservation'),
      this.store.get({ type: 'Node', name: this.node }),
      this.store.get({ type: 'IpamConfig' }),
    ]);
    for (const { key, error } of [...pools.invalid, ...reservations.invalid])
      this.log.error({ key: keyText(key), reason: explain(error) }, `${key.type} left out`);
    return snapshotOf(
      pools.entries.map(({ value }) => value),
      reservedBy(reservations.entries.map(({ value }) => value)),
      node?.value,
      config?.value,
    );
  }

  #apply(event: Event): void {
    if (event.op === 'set') {
      const { key, value } = event.entry;
      if (key.type === 'IPPool') this.#pools.set(keyText(key), value as IpPool);
      if (key.type === 'IPReservation') this.#reserve(keyText(key), value as IpReservation);
      if (key.type === 'Node' && key.name === this.node) this.#node = value as Node;
      if (key.type === 'IpamConfig') this.#config = value as IpamConfig;
    } else if (event.op === 'delete') {
      const { key } = event;
      if (key.type === 'IPPool') this.#pools.delete(keyText(key));
      if (key.type === 'IPReservation') this.#reserve(keyText(key), undefined);
      if (key.type === 'Node' && key.name === this.node) this.#node = undefined;
      if (key.type === 'IpamConfig') this.#config = undefined;
    }
  }

  #reserve(key: string, reservation: IpReservation | undefined): void {
    if (reservation) this.#reservations.set(key, reservation);
    else this.#reservations.delete(key);
    this.#reserved = reservedBy(this.#reservations.values());
  }
}

/** What any of them reserves. */
export function reservedBy(reservations: Iterable<IpReservation>): Reserved {
  return new Reserved([...reservations].flatMap(({ spec }) => spec.reservedCIDRs.map((text) => parseCidr(text))));
}

/** An absent configuration means automatic blocks and borrowing; a present one means exactly what it says. */
function snapshotOf(
  pools: readonly IpPool[],
  reserved: Reserved,
  node: Node | undefined,
  config: IpamConfig | undefined,
): Snapshot {
  return {
    pools,
    reserved,
    labels: node?.metadata.labels ?? {},
    strictAffinity: config?.strict_affinity ?? false,
    autoAllocateBlocks: config === undefined || (config.auto_allocate_blocks ?? false),
    maxBlocksPerHost: config?.maxBlocksPerHost || 20,
    cooldownSeconds: config?.ipCooldownSeconds ?? 0,
  };
}
