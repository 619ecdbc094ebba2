import { Backoff } from '../base/backoff.ts';
import { type Clock, pause } from '../base/clock.ts';
import type { Log } from '../base/log.ts';
import type { Entry, Store, Write } from '../datastore/store.ts';
import { type Cidr, contains, type Ip, parseCidr } from '../model/address.ts';
import type { Block, Handle } from '../model/ipam.ts';
import {
  addressAt,
  attributeOf,
  collect,
  isEmpty,
  ordinalOf,
  ordinalsOf,
  release,
  sameHandle,
  touched,
} from './block.ts';
import { ContentionError, HolderMismatchError, WriteConflictError } from './errors.ts';
import { decrement } from './handle.ts';
import { blockOf } from './pools.ts';
import type { Settings } from './settings.ts';
import type { Supply } from './supply.ts';

/** An address to free, and optionally who must hold it for that. */
export interface ReleaseRequest {
  readonly address: Ip;
  readonly handle?: string;
  /** `sequenceNumberForAllocation` of the assignment that is meant. */
  readonly sequence?: bigint;
}

export interface ReleaseGroup {
  readonly cidr: Cidr;
  readonly requests: readonly ReleaseRequest[];
}

const attempts = 100;

/** What one attempt to release a handle came to. */
export interface ReleaseStep {
  readonly done: boolean;
  /** Addresses that are free now; after an attempt that was not done, too, where a transaction is several writes. */
  readonly freed: readonly Ip[];
  /** The caller's writes that do not stand yet. */
  readonly left: readonly Write[];
}

type BlockWrite = Extract<Write, { op: 'update' | 'delete' }> & { readonly key: { readonly type: 'Block' } };

/**
 * Freeing addresses. In a transaction the caller's writes come first, so that an endpoint is gone before its address,
 * then blocks, and handles last, so that no address is ever without one.
 */
export class Releaser {
  constructor(
    private readonly scene: { readonly store: Store; readonly clock: Clock; readonly log: Log },
    private readonly supply: Supply,
    private readonly settings: Settings,
  ) {}

  /** One attempt to free what a handle holds. */
  async tryHandle(handle: string, extra: readonly Write[]): Promise<ReleaseStep> {
    const [found, { cooldownSeconds }] = await Promise.all([
      this.scene.store.get({ type: 'Handle', id: handle }),
      this.settings.current(),
    ]);
    const freed: Ip[][] = [];
    const blocks: Entry<'Block'>[] = [];
    const writes: Write[] = [];
    for (const entry of found ? await this.#blocksOf(handle, Object.keys(found.value.block)) : []) {
      const ordinals = ordinalsOf(entry.value, handle);
      if (ordinals.length === 0) continue;
      blocks.push(entry);
      freed.push(ordinals.map((ordinal) => addressAt(entry.value, ordinal)));
      writes.push(this.#without(entry, ordinals, cooldownSeconds));
    }
    if (found) writes.push({ op: 'delete', key: found.key, revision: found.revision });
    const { done, standing } = await this.#commit(extra, blocks, writes);
    const stands = done ? blocks.length : Math.max(0, standing - extra.length);
    return { done, freed: freed.slice(0, stands).flat(), left: extra.slice(standing) };
  }

  /** Requests by the block their address lies in; addresses in no block are nobody's. */
  async byBlock(requests: readonly ReleaseRequest[]): Promise<ReleaseGroup[]> {
    const { pools } = await this.settings.current();
    let stray: readonly Cidr[] | undefined;
    const groups = new Map<Cidr, ReleaseRequest[]>();
    for (const request of requests) {
      let cidr = blockOf(pools, request.address);
      if (cidr === undefined || (await this.scene.store.get({ type: 'Block', cidr })) === undefined) {
        stray ??= (await this.scene.store.list('Block')).entries.map(({ key }) => key.cidr);
        cidr = stray.find((each) => contains(each, request.address));
      }
      if (cidr !== undefined) groups.set(cidr, [...(groups.get(cidr) ?? []), request]);
    }
    return [...groups].map(([cidr, group]) => ({ cidr, requests: group }));
  }

  /** One attempt to free addresses of one block; undefined when something changed underway. */
  async tryBlock({ cidr, requests }: ReleaseGroup): Promise<Ip[] | undefined> {
    const entry = await this.scene.store.get({ type: 'Block', cidr });
    if (entry === undefined) return [];
    const ordinals = [...new Set(requests.flatMap((request) => heldOrdinal(entry.value, request)))];
    if (ordinals.length === 0) return [];
    const { cooldownSeconds } = await this.settings.current();
    const held = holders(entry.value, ordinals);
    const writes = [this.#without(entry, ordinals, cooldownSeconds), ...(await this.#fewer(held, cidr))];
    const { done, standing } = await this.#commit([], [entry], writes);
    if (!done && standing === 0) return undefined;
    if (!done) await this.#uncount([...held].slice(standing - 1), cidr);
    return ordinals.map((ordinal) => addressAt(entry.value, ordinal));
  }

  /** One attempt to free an address of an assignment that did not come about; undefined when something changed underway. */
  async tryUnassign(cidr: Cidr, address: Ip, handle: string): Promise<true | undefined> {
    const entry = await this.scene.store.get({ type: 'Block', cidr });
    const ordinal = entry && ordinalOf(entry.value, address);
    if (entry === undefined || ordinal === undefined || !ordinalsOf(entry.value, handle).includes(ordinal)) return true;
    const { cooldownSeconds } = await this.settings.current();
    const { done } = await this.#commit([], [entry], [this.#without(entry, [ordinal], cooldownSeconds)]);
    return done || undefined;
  }

  /** One attempt to count one address fewer of each block; undefined when the handle changed underway. */
  async tryUncount(id: string, blocks: readonly Cidr[]): Promise<true | undefined> {
    const found = await this.scene.store.get({ type: 'Handle', id });
    if (found === undefined) return true;
    let value: Handle | undefined = found.value;
    for (const block of blocks) value = value && decrement(value, block);
    const { key, revision } = found;
    const { outcome } = value
      ? await this.scene.store.update(key, value, revision)
      : await this.scene.store.delete(key, revision);
    return outcome === 'conflict' ? undefined : true;
  }

  /** Remembered blocks spare a read; should one be stale, the transaction finds out. */
  async #blocksOf(handle: string, texts: readonly string[]): Promise<Entry<'Block'>[]> {
    const cidrs = texts.map((text) => parseCidr(text, `Handle(${handle}).block`));
    const entries = await Promise.all(
      cidrs.map((cidr) => this.supply.known(cidr) ?? this.scene.store.get({ type: 'Block', cidr })),
    );
    return entries.flatMap((entry) => (entry ? [entry] : []));
  }

  #without({ key, value, revision }: Entry<'Block'>, ordinals: readonly number[], cooldownSeconds: number): BlockWrite {
    const now = this.scene.clock.wall();
    const next = collect(release(value, ordinals, now), now, cooldownSeconds);
    if (isEmpty(next) && !value.affinity) return { op: 'delete', key, revision };
    return { op: 'update', key, value: touched(next), revision };
  }

  async #fewer(counts: ReadonlyMap<string, number>, cidr: Cidr): Promise<Write[]> {
    const writes: Write[] = [];
    for (const [id, count] of counts) {
      const found = await this.scene.store.get({ type: 'Handle', id });
      if (found === undefined) continue;
      const { key, revision } = found;
      const value = decrement(found.value, cidr, count);
      writes.push(value ? { op: 'update', key, value, revision } : { op: 'delete', key, revision });
    }
    return writes;
  }

  /** Counts of handles that changed between the release of a block and theirs, where these are several writes. */
  async #uncount(counts: readonly (readonly [string, number])[], cidr: Cidr): Promise<void> {
    for (const [id, count] of counts) {
      const backoff = new Backoff(1, 100);
      const blocks = Array.from({ length: count }, () => cidr);
      for (let round = 1; (await this.tryUncount(id, blocks)) === undefined; round++) {
        if (round === attempts) throw new ContentionError(`handle ${id} changed ${attempts} times in a row`);
        const retryMs = backoff.next();
        this.scene.log.debug({ handle: id, retryMs }, 'a handle met another change');
        await pause(this.scene.clock, retryMs);
      }
    }
  }

  async #commit(extra: readonly Write[], blocks: readonly Entry<'Block'>[], writes: readonly Write[]) {
    try {
      const outcome = await this.scene.store.transact([...extra, ...writes]);
      const revisions = outcome.outcome === 'written' ? outcome.revisions : (outcome.standing ?? []);
      this.#note(writes.slice(0, blocks.length), revisions.slice(extra.length));
      if (outcome.outcome === 'written') return { done: true, standing: revisions.length };
      const lost = extra[outcome.failed];
      if (lost) throw new WriteConflictError(lost);
      const stale = blocks[outcome.failed - extra.length];
      if (stale) await this.supply.reload(stale.key.cidr);
      return { done: false, standing: revisions.length };
    } catch (thrown) {
      if (!(thrown instanceof WriteConflictError)) this.supply.reset();
      throw thrown;
    }
  }

  /** Remembers blocks as they were written. */
  #note(writes: readonly Write[], revisions: readonly (string | undefined)[]): void {
    for (const [at, write] of writes.entries()) {
      const revision = revisions[at];
      if (write.op === 'update' && write.key.type === 'Block' && revision !== undefined)
        this.supply.note({ key: write.key, value: write.value as Block, revision });
    }
  }
}

function heldOrdinal(block: Block, { address, handle, sequence }: ReleaseRequest): number[] {
  const ordinal = ordinalOf(block, address);
  const attribute = ordinal === undefined ? undefined : attributeOf(block, ordinal);
  if (ordinal === undefined || attribute === undefined || attribute.releasedAt !== undefined) return [];
  if (handle !== undefined && !sameHandle(attribute.handle_id, handle))
    throw new HolderMismatchError(`${address} is held by ${attribute.handle_id ?? 'nobody'}, not by ${handle}`);
  const stored = block.sequenceNumberForAllocation[ordinal];
  if (sequence !== undefined && stored !== sequence)
    throw new HolderMismatchError(`${address} was assigned anew: sequence number ${stored}, not ${sequence}`);
  return [ordinal];
}

/** Addresses by the handle that holds them. */
function holders(block: Block, ordinals: readonly number[]): Map<string, number> {
  const counts = new Map<string, number>();
  for (const ordinal of ordinals) {
    const id = attributeOf(block, ordinal)?.handle_id;
    if (id) counts.set(id, (counts.get(id) ?? 0) + 1);
  }
  return counts;
}
