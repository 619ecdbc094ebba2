import { Backoff } from '../base/backoff.ts';
import { type Clock, pause } from '../base/clock.ts';
import { InputError } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import type { Entry, Store, Write } from '../datastore/store.ts';
import type { Update } from '../datastore/update.ts';
import { type Cidr, type Family, familyOf, hostCidr, type Ip, parseCidr } from '../model/address.ts';
import { type AllocationAttribute, ownerParts } from '../model/ipam.ts';
import { Batches } from './batches.ts';
import { addressAt, allocate, allocateAt, ordinalsOf, touched } from './block.ts';
import { ContentionError, WriteConflictError } from './errors.ts';
import { increment } from './handle.ts';
import { Lock } from './lock.ts';
import { choosePools, type PoolUse, poolFor, poolOf } from './pools.ts';
import { type ReleaseRequest, Releaser } from './releaser.ts';
import { Settings } from './settings.ts';
import { type Source, Supply } from './supply.ts';
import { goTime } from './time.ts';
import { assignTogether, batchKey, type TogetherOptions } from './together.ts';

/** An address somebody holds. */
export interface Assignment {
  readonly address: Ip;
  /** The address as /32 or /128. */
  readonly cidr: Cidr;
  readonly block: Cidr;
  /** Name of the pool; empty when no pool covers the address any more. */
  readonly pool: string;
}

export interface AssignRequest {
  /** Who holds the addresses: `<network name>.<container ID>`. */
  readonly handle: string;
  /** One address of each. */
  readonly families: readonly Family[];
  /** Stored beside the addresses (`namespace`, `pod`); `node` and `timestamp` are added. */
  readonly attributes: Readonly<Record<string, string>>;
  /** Names or prefixes of pools; without them, all that are meant for this node. */
  readonly pools?: readonly string[];
  /** These very addresses, at most one of each family; reserved ones, too. */
  readonly addresses?: readonly Ip[];
  /** Of the workload's namespace, for pools that select namespaces. */
  readonly namespaceLabels?: Readonly<Record<string, string>>;
  /** What the addresses are for (default `Workload`); pools say what they allow. */
  readonly use?: PoolUse;
  /** Writes that belong to the same transaction, such as the workload endpoint's. */
  readonly extra?: (addresses: readonly Assignment[]) => readonly Write[];
  /** Told the revisions of `extra`, in its order, before `assign` resolves. */
  readonly onWritten?: (revisions: readonly (string | undefined)[]) => void;
}

export interface IpamOptions {
  readonly store: Store;
  /** Whose blocks these are: a node's name, or `virtual:load-balancer`. */
  readonly node: string;
  readonly clock: Clock;
  readonly log: Log;
  /** Tries of a transaction before it is given up; default 100. */
  readonly attempts?: number;
}

const usualAttempts = 100;
/** Requests in one transaction. */
const atOnce = 32;

/**
 * Calico-compatible address management for one node. All state lies in the store, written by compare-and-swap, so any
 * number of nodes and processes may work beside each other; calls within one process wait for each other by family.
 */
export class Ipam {
  readonly #settings: Settings;
  readonly #supply: Supply;
  readonly #releaser: Releaser;
  readonly #locks: Readonly<Record<Family, Lock>> = { 4: new Lock(), 6: new Lock() };
  readonly #batches = new Batches<AssignRequest, Assignment[]>(atOnce, (members) =>
    assignTogether(members, this.#together()),
  );

  constructor(private readonly options: IpamOptions) {
    const { store, node, clock, log } = options;
    this.#settings = new Settings(store, node, clock, log);
    this.#supply = new Supply(options, node);
    this.#releaser = new Releaser(options, this.#supply, this.#settings);
  }

  /** Takes a syncer's update (types IPPool, IPReservation, Node and IpamConfig among them), which spares reading these from the store. */
  consume(update: Update): void {
    this.#settings.consume(update);
  }

  /**
   * One address of each family, all or none, in one transaction with the request's own writes.
   * @throws PoolExhaustedError, AddressTakenError, NoPoolError, WriteConflictError (nothing is written), InputError; StoreUnavailableError:
   *   whether it was written is unknown, `byHandle` or `release` tells
   */
  async assign(request: AssignRequest, signal: AbortSignal): Promise<Assignment[]> {
    if (request.handle === '') throw new InputError('handle', request.handle, 'a name');
    if (request.families.length === 0) throw new InputError('families', request.families, 'at least one of 4 and 6');
    const families = [...new Set(request.families)];
    const wanted = { ...request, families };
    if (!this.options.store.atomic || request.addresses)
      return this.#alone(families, signal, () => this.#assignOne(wanted, signal));
    return this.#batches.join(batchKey(families, request), wanted, signal, (task) =>
      this.#alone(families, undefined, task),
    );
  }

  /**
   * Claims a block if the node owns none with a free address, so that the first workload need not wait for it.
   * @returns the block the next address comes from; another node's when this one may have none of its own
   */
  async ensureAffinity(family: Family, signal: AbortSignal): Promise<Cidr> {
    return this.#alone([family], signal, async () => {
      const snapshot = await this.#settings.current();
      const source = await this.#supply.take(family, choosePools({ ...snapshot, family }), snapshot);
      return source.entry.value.cidr;
    });
  }

  /** What a handle holds, IPv4 first; empty for an unknown handle. */
  async byHandle(handle: string): Promise<Assignment[]> {
    const { store } = this.options;
    const found = await store.get({ type: 'Handle', id: handle });
    if (found === undefined) return [];
    const cidrs = Object.keys(found.value.block).map((text) => parseCidr(text, `Handle(${handle}).block`));
    const [{ pools }, ...blocks] = await Promise.all([
      this.#settings.current(),
      ...cidrs.map((cidr) => store.get({ type: 'Block', cidr })),
    ]);
    return blocks
      .flatMap((entry) => (entry ? [entry.value] : []))
      .flatMap((block) => ordinalsOf(block, handle).map((ordinal) => ({ block, address: addressAt(block, ordinal) })))
      .map(({ block, address }) => ({
        address,
        cidr: hostCidr(address),
        block: block.cidr,
        pool: poolOf(pools, address)?.metadata.name ?? '',
      }))
      .sort((a, b) => familyOf(a.address) - familyOf(b.address));
  }

  /**
   * Frees all that a handle holds, in one transaction with `extra`, which comes first. An unknown handle is success.
   * @returns the addresses that were held
   * @throws WriteConflictError (nothing was written), StoreUnavailableError
   */
  async release({ handle }: { readonly handle: string }, extra: readonly Write[] = []): Promise<Ip[]> {
    const freed: Ip[] = [];
    let left = extra;
    return this.#alone([4, 6], undefined, () =>
      this.#retry(undefined, async () => {
        const step = await this.#releaser.tryHandle(handle, left);
        freed.push(...step.freed);
        left = step.left;
        return step.done ? freed : undefined;
      }),
    );
  }

  /**
   * Frees single addresses; those that nobody holds are left alone.
   * @returns the addresses that were held
   * @throws HolderMismatchError when one is held by another handle, or was assigned anew since
   */
  async releaseAddresses(requests: readonly ReleaseRequest[]): Promise<Ip[]> {
    const freed: Ip[] = [];
    await this.#alone([4, 6], undefined, async () => {
      for (const group of await this.#releaser.byBlock(requests))
        freed.push(...(await this.#retry(undefined, () => this.#releaser.tryBlock(group))));
    });
    return freed;
  }

  #assignOne(request: AssignRequest, signal: AbortSignal): Promise<Assignment[]> {
    let handle: Entry<'Handle'> | undefined;
    return this.#retry(signal, async () => {
      const outcome = await this.#tryAssign(request, handle);
      if (!('handle' in outcome)) return outcome.done;
      if (outcome.handle) handle = await this.options.store.get({ type: 'Handle', id: request.handle });
      return undefined;
    });
  }

  /** Requests that wait for each other's transactions share the next. */
  #together(): TogetherOptions {
    return {
      ...this.options,
      supply: this.#supply,
      sources: (request) => this.#sources(request),
      assignment: assignmentOf,
      attribute: (request) => this.#attribute(request),
      handle: (request, assignments) => handleWrite(request.handle, undefined, assignments),
      single: (request, signal) => this.#assignOne(request, signal),
    };
  }

  async #tryAssign(
    request: AssignRequest,
    handle: Entry<'Handle'> | undefined,
  ): Promise<{ readonly done: Assignment[] } | { readonly handle: boolean }> {
    const kept = handle ? await this.#leftBehind(request) : [];
    const families = request.families.filter((family) => !kept.some(({ address }) => familyOf(address) === family));
    const sources = await this.#sources({ ...request, families });
    const taken = this.#allocate(request, sources);
    const given = taken.map(({ assignment }) => assignment);
    const assignments = inOrderOf(request.families, [...kept, ...given]);
    const extra = request.extra?.(assignments) ?? [];
    const own =
      taken.length === 0 ? [] : [handleWrite(request.handle, handle, given), ...taken.map(({ write }) => write)];
    const outcome = await this.#transact([...own, ...extra]);
    if (outcome.outcome === 'conflict') {
      const { failed, standing = [] } = outcome;
      if (standing.length > 0) await this.#takeBack(request.handle, given, standing.length);
      const lost = extra[failed - own.length];
      if (lost) throw new WriteConflictError(lost);
      const block = sources[failed - 1];
      if (block) await this.#supply.reload(block.entry.value.cidr);
      return { handle: failed === 0 || standing.length > 0 };
    }
    request.onWritten?.(outcome.revisions.slice(own.length));
    for (const [at, { write }] of taken.entries()) {
      const revision = outcome.revisions[at + 1];
      if (revision !== undefined) this.#supply.note({ key: write.key, value: write.value, revision });
    }
    return { done: assignments };
  }

  /**
   * Where transactions are several writes, an earlier run may have ended between the addresses and the caller's own
   * write, whose addresses the handle holds then: they are the ones to give out.
   */
  async #leftBehind({ handle, families, addresses, extra }: AssignRequest): Promise<Assignment[]> {
    if (this.options.store.atomic || extra === undefined) return [];
    const held = (await this.byHandle(handle)).filter(({ address }) => addresses?.includes(address) ?? true);
    return families.flatMap((family) => held.find(({ address }) => familyOf(address) === family) ?? []);
  }

  /** Frees what stands of a transaction that conflicted half way: the handle's counts, and the first blocks'. */
  async #takeBack(handle: string, given: readonly Assignment[], standing: number): Promise<void> {
    this.#supply.reset();
    for (const { block, address } of given.slice(0, standing - 1).reverse())
      await this.#retry(undefined, () => this.#releaser.tryUnassign(block, address, handle));
    await this.#retry(undefined, () =>
      this.#releaser.tryUncount(
        handle,
        given.map(({ block }) => block),
      ),
    );
  }

  async #sources({ families, pools: named, addresses = [], use, namespaceLabels }: AssignRequest): Promise<Source[]> {
    const snapshot = await this.#settings.current();
    const sources: Source[] = [];
    for (const family of families) {
      const address = addresses.find((each) => familyOf(each) === family);
      if (address !== undefined) {
        sources.push(await this.#supply.at(address, poolFor(address, snapshot.pools, use), snapshot));
        continue;
      }
      const pools = choosePools({
        ...snapshot,
        family,
        ...(named && { named }),
        ...(use && { use }),
        ...(namespaceLabels && { namespaceLabels }),
      });
      sources.push(await this.#supply.take(family, pools, snapshot));
    }
    return sources;
  }

  #attribute({ handle, attributes }: AssignRequest): AllocationAttribute {
    const { clock, node } = this.options;
    const where = ownerParts(node).type === 'host' ? { node } : {};
    return { handle_id: handle, secondary: sorted({ ...where, timestamp: goTime(clock.wall()), ...attributes }) };
  }

  #allocate(request: AssignRequest, sources: readonly Source[]) {
    const attribute = this.#attribute(request);
    return sources.map((source) => {
      const { entry, block, address } = source;
      const taken = address ? allocateAt(block, address, attribute) : allocate(block, attribute, source.reserved);
      if (taken === undefined) throw new TypeError(`block ${block.cidr} was said to have a free address`);
      const assignment = assignmentOf(source, taken);
      const write = { op: 'update', key: entry.key, value: touched(taken.block), revision: entry.revision } as const;
      return { assignment, write };
    });
  }

  async #transact(writes: readonly Write[]) {
    try {
      return await this.options.store.transact(writes);
    } catch (thrown) {
      this.#supply.reset();
      throw thrown;
    }
  }

  /** Runs `attempt` until it gives something, with growing pauses after each conflict. */
  async #retry<T>(signal: AbortSignal | undefined, attempt: () => Promise<T | undefined>): Promise<T> {
    const { clock, log, attempts = usualAttempts } = this.options;
    const backoff = new Backoff(1, 100);
    for (let round = 1; round <= attempts; round++) {
      signal?.throwIfAborted();
      const done = await attempt();
      if (done !== undefined) return done;
      const retryMs = backoff.next();
      log.debug({ round, retryMs }, 'address transaction met another change');
      await pause(clock, retryMs, signal);
    }
    throw new ContentionError(`${attempts} transactions in a row met changes by others`);
  }

  /** Holds the locks of the families, IPv4's first. */
  #alone<T>(families: readonly Family[], signal: AbortSignal | undefined, task: () => Promise<T>): Promise<T> {
    const [first, second] = [...families].sort();
    const inner = second === undefined ? task : () => this.#locks[second].hold(task, signal);
    return first === undefined ? task() : this.#locks[first].hold(inner, signal);
  }
}

function assignmentOf({ block, pool }: Source, { address }: { readonly address: Ip }): Assignment {
  return { address, cidr: hostCidr(address), block: block.cidr, pool: pool.name };
}

function handleWrite(id: string, found: Entry<'Handle'> | undefined, assignments: readonly Assignment[]): Write {
  const key = { type: 'Handle', id } as const;
  let value = found?.value;
  for (const { block } of assignments) value = increment(value, block);
  if (value === undefined) throw new TypeError('a handle of no address');
  return found ? { op: 'update', key, value, revision: found.revision } : { op: 'create', key, value };
}

function inOrderOf(families: readonly Family[], assignments: readonly Assignment[]): Assignment[] {
  return families.flatMap((family) => assignments.find(({ address }) => familyOf(address) === family) ?? []);
}

/** Go prints maps by key. */
function sorted(record: Readonly<Record<string, string>>): Record<string, string> {
  return Object.fromEntries(Object.entries(record).sort(([a], [b]) => (a < b ? -1 : 1)));
}
