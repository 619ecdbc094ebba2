import type { Clock } from '../base/clock.ts';
import type { Entry, Store, Write } from '../datastore/store.ts';
import { type Cidr, contains, type Ip, parseCidr } from '../model/address.ts';
import type { Block } from '../model/ipam.ts';
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
import { HolderMismatchError, WriteConflictError } from './errors.ts';
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

type BlockWrite = Extract<Write, { op: 'update' | 'delete' }> & { readonly key: { readonly type: 'Block' } };

/**
 * Freeing addresses. In a transaction the caller's writes come first, so that an endpoint is gone before its address,
 * then blocks, and handles last, so that no address is ever without one.
 */
export class Releaser {
  constructor(
    private readonly scene: { readonly store: Store; readonly clock: Clock },
    private readonly supply: Supply,
    private readonly settings: Settings,
  ) {}

  /** One attempt to free what a handle holds; undefined when something changed underway. */
  async tryHandle(handle: string, extra: readonly Write[]): Promise<Ip[] | undefined> {
    const [found, { cooldownSeconds }] = await Promise.all([
      this.scene.store.get({ type: 'Handle', id: handle }),
      this.settings.current(),
    ]);
    const freed: Ip[] = [];
    const blocks: Entry<'Block'>[] = [];
    const writes: Write[] = [];
    for (const entry of found ? await this.#blocksOf(handle, Object.keys(found.value.block)) : []) {
      const ordinals = ordinalsOf(entry.value, handle);
      if (ordinals.length === 0) continue;
      blocks.push(entry);
      freed.push(...ordinals.map((ordinal) => addressAt(entry.value, ordinal)));
      writes.push(this.#without(entry, ordinals, cooldownSeconds));
    }
    if (found) writes.push({ op: 'delete', key: found.key, revision: found.revision });
    return (await this.#commit(extra, blocks, writes)) ? freed : undefined;
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
    const writes = [
      this.#without(entry, ordinals, cooldownSeconds),
      ...(await this.#fewer(holders(entry.value, ordinals), cidr)),
    ];
    const done = await this.#commit([], [entry], writes);
    return done ? ordinals.map((ordinal) => addressAt(entry.value, ordinal)) : undefined;
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

  async #commit(
    extra: readonly Write[],
    blocks: readonly Entry<'Block'>[],
    writes: readonly Write[],
  ): Promise<boolean> {
    try {
      const outcome = await this.scene.store.transact([...extra, ...writes]);
      if (outcome.outcome === 'conflict') {
        const lost = extra[outcome.failed];
        if (lost) throw new WriteConflictError(lost);
        const stale = blocks[outcome.failed - extra.length];
        if (stale) await this.supply.reload(stale.key.cidr);
        return false;
      }
      for (const [at] of blocks.entries()) {
        const write = writes[at];
        const revision = outcome.revisions[extra.length + at];
        if (write?.op === 'update' && write.key.type === 'Block' && revision !== undefined)
          this.supply.note({ key: write.key, value: write.value as Block, revision });
      }
      return true;
    } catch (thrown) {
      if (!(thrown instanceof WriteConflictError)) this.supply.reset();
      throw thrown;
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
