import type { Entry } from '../datastore/store.ts';
import { type Cidr, cidrOf, contains, type Family, familyOf, type Ip, ipBytes } from '../model/address.ts';
import type { AllocationAttribute, Block } from '../model/ipam.ts';
import { claimBlock, isConfirmed, releaseAffinity, type Scene } from './affinity.ts';
import { affinityOf, attributeOf, collect, hasFree, isEmpty, ordinalOf } from './block.ts';
import { freeBlocks } from './candidates.ts';
import { AddressTakenError, ContentionError, PoolExhaustedError } from './errors.ts';
import type { UsablePool } from './pools.ts';
import type { ReservedOrdinals } from './reserved.ts';
import type { Snapshot } from './settings.ts';

/** A block with at least one free address. */
export interface Source {
  /** What is stored, to compare on writing. */
  readonly entry: Entry<'Block'>;
  /** The same block, cooled addresses freed. */
  readonly block: Block;
  readonly pool: UsablePool;
  /** What of it is not for this request; undefined: nothing. */
  readonly reserved?: ReservedOrdinals;
  /** The one that is asked for by name; undefined: any. */
  readonly address?: Ip;
}

/** How long a foreign block must have been claimed before it may be taken from its owner for being empty. */
const reclaimAfterMs = 60_000;

/**
 * Where the next address comes from: the node's own blocks, which are remembered; then a new block; then an empty block
 * that another node has had for a minute; and last, unless affinity is strict, a free address in another node's block.
 */
export class Supply {
  readonly #own = new Map<Cidr, Entry<'Block'>>();

  constructor(
    private readonly scene: Scene,
    private readonly node: string,
  ) {}

  /** @throws PoolExhaustedError */
  async take(family: Family, pools: readonly UsablePool[], snapshot: Snapshot): Promise<Source> {
    const remembered = this.#pick([...this.#own.values()], pools, snapshot);
    if (remembered) return remembered;
    await this.#refresh(family, pools);
    const owned = this.#pick([...this.#own.values()], pools, snapshot);
    if (owned) return owned;
    const refusal = this.#mayClaim(family, snapshot);
    const gained = refusal === undefined ? await this.#claimFree(pools, snapshot) : undefined;
    if (gained) return gained;
    return this.#fromOthers(family, pools, snapshot, refusal);
  }

  /**
   * The block of an address that is asked for by name, reserved or not; a block that is not there becomes the node's.
   * @throws AddressTakenError
   */
  async at(address: Ip, pool: UsablePool, { strictAffinity, cooldownSeconds }: Snapshot): Promise<Source> {
    const { store, clock } = this.scene;
    const cidr = cidrOf(ipBytes(address), pool.blockLength);
    const read = () => store.get({ type: 'Block', cidr });
    const entry = (await read()) ?? (await claimBlock(this.scene, this.node, cidr)) ?? (await read());
    if (entry === undefined) throw new ContentionError(`block ${cidr} could be neither claimed nor read`);
    this.note(entry);
    const { affinity } = entry.value;
    if (strictAffinity && affinity !== affinityOf(this.node))
      throw new AddressTakenError(address, `affinity is strict, and its block ${cidr} is of ${affinity || 'nobody'}`);
    const block = collect(entry.value, clock.wall(), cooldownSeconds);
    const ordinal = ordinalOf(block, address);
    if (ordinal === undefined || !block.unallocated.includes(ordinal))
      throw new AddressTakenError(address, heldBy(attributeOf(block, ordinal ?? -1)));
    return { entry, block, pool, address };
  }

  /** What is remembered of a block, if it is the node's own. */
  known(cidr: Cidr): Entry<'Block'> | undefined {
    return this.#own.get(cidr);
  }

  /** Takes note of a block's newest state. */
  note(entry: Entry<'Block'>): void {
    if (entry.value.affinity === affinityOf(this.node)) this.#own.set(entry.key.cidr, entry);
    else this.#own.delete(entry.key.cidr);
  }

  /** Reads a block again after somebody else changed it. */
  async reload(cidr: Cidr): Promise<void> {
    this.#own.delete(cidr);
    const entry = await this.scene.store.get({ type: 'Block', cidr });
    if (entry) this.note(entry);
  }

  /** Nothing remembered can be trusted any more: a write's outcome is unknown. */
  reset(): void {
    this.#own.clear();
  }

  #pick(entries: readonly Entry<'Block'>[], pools: readonly UsablePool[], snapshot: Snapshot): Source | undefined {
    for (const pool of pools)
      for (const entry of entries) {
        if (!contains(pool.cidr, entry.value.cidr)) continue;
        const block = collect(entry.value, this.scene.clock.wall(), snapshot.cooldownSeconds);
        const reserved = snapshot.reserved.ordinalsOf(block.cidr);
        if (hasFree(block, reserved)) return { entry, block, pool, ...(reserved && { reserved }) };
      }
    return undefined;
  }

  /** Reads the node's own blocks anew and mends what a crash left between affinity and block. */
  async #refresh(family: Family, pools: readonly UsablePool[]): Promise<void> {
    const { store } = this.scene;
    const { entries } = await store.list('BlockAffinity', { host: this.node });
    for (const cidr of this.#own.keys()) if (familyOf(cidr) === family) this.#own.delete(cidr);
    for (const { key, value } of entries) {
      if (familyOf(key.cidr) !== family || !pools.some((pool) => contains(pool.cidr, key.cidr))) continue;
      const block = await store.get({ type: 'Block', cidr: key.cidr });
      const sound = isConfirmed(value) && block?.value.affinity === affinityOf(this.node);
      const entry = sound ? block : await claimBlock(this.scene, this.node, key.cidr);
      if (entry) this.note(entry);
    }
  }

  /** Why the node may not own one more block, if so. */
  #mayClaim(family: Family, { autoAllocateBlocks, maxBlocksPerHost }: Snapshot): string | undefined {
    if (!autoAllocateBlocks) return 'blocks are not allocated automatically';
    const owned = [...this.#own.keys()].filter((cidr) => familyOf(cidr) === family).length;
    return owned < maxBlocksPerHost ? undefined : `this node owns ${owned} blocks, the limit`;
  }

  /**
   * Affinities tell cheaply what is taken. Where all is, those left unconfirmed by a node that died may stand for no
   * block at all; creating the block decides.
   */
  async #claimFree(pools: readonly UsablePool[], snapshot: Snapshot): Promise<Source | undefined> {
    const { entries } = await this.scene.store.list('BlockAffinity');
    // Affinities of services are listed with nobody else's.
    const own = [...this.#own.keys()];
    const taken = new Set([...own, ...entries.map(({ key }) => key.cidr)]);
    const sure = new Set([...own, ...entries.flatMap(({ key, value }) => (isConfirmed(value) ? [key.cidr] : []))]);
    return (
      (await this.#claimOutside(taken, pools, snapshot)) ??
      (taken.size > sure.size ? await this.#claimOutside(sure, pools, snapshot) : undefined)
    );
  }

  /** All blocks are listed only when a claim shows that there are some without affinity. */
  async #claimOutside(used: Set<Cidr>, pools: readonly UsablePool[], snapshot: Snapshot): Promise<Source | undefined> {
    let listed = false;
    for (const pool of pools)
      for (const cidr of freeBlocks(pool, this.node, used)) {
        if (snapshot.reserved.covers(cidr)) continue;
        const entry = await claimBlock(this.scene, this.node, cidr);
        if (entry) {
          this.scene.log.info({ block: cidr, pool: pool.name }, 'block claimed');
          this.note(entry);
          const source = this.#pick([entry], pools, snapshot);
          if (source) return source;
        } else if (!listed) {
          listed = true;
          for (const block of await this.#allBlocks()) used.add(block.value.cidr);
        }
      }
    return undefined;
  }

  async #fromOthers(
    family: Family,
    pools: readonly UsablePool[],
    snapshot: Snapshot,
    refusal: string | undefined,
  ): Promise<Source> {
    const blocks = (await this.#allBlocks()).filter(({ value }) =>
      pools.some((pool) => contains(pool.cidr, value.cidr)),
    );
    const reclaimed = refusal === undefined ? await this.#reclaim(blocks, pools, snapshot) : undefined;
    if (reclaimed) return reclaimed;
    const names = pools.map(({ name }) => name);
    if (snapshot.strictAffinity) throw new PoolExhaustedError(family, names, refusal ?? 'affinity is strict');
    const borrowed = this.#pick(this.#rotated(blocks), pools, snapshot);
    if (borrowed === undefined) throw new PoolExhaustedError(family, names, refusal);
    this.scene.log.debug(
      { block: borrowed.entry.value.cidr, owner: borrowed.entry.value.affinity },
      'address borrowed',
    );
    return borrowed;
  }

  /** Takes over the first block that stood empty with another node long enough. */
  async #reclaim(
    blocks: readonly Entry<'Block'>[],
    pools: readonly UsablePool[],
    snapshot: Snapshot,
  ): Promise<Source | undefined> {
    for (const { value } of blocks) {
      const host = value.affinity?.startsWith('host:') ? value.affinity.slice('host:'.length) : undefined;
      const since = Date.parse(value.affinity_claim_time ?? '');
      const recent = this.scene.clock.wall().getTime() - since < reclaimAfterMs;
      if (host === undefined || host === this.node || recent || !isEmpty(value)) continue;
      if (snapshot.reserved.covers(value.cidr)) continue;
      const condition = { onlyEmpty: true, sequence: value.sequenceNumber };
      if (!(await releaseAffinity(this.scene, host, value.cidr, condition))) continue;
      const entry = await claimBlock(this.scene, this.node, value.cidr);
      if (entry === undefined) continue;
      this.scene.log.info({ block: value.cidr, from: host }, 'empty block taken over');
      this.note(entry);
      return this.#pick([entry], pools, snapshot);
    }
    return undefined;
  }

  /** In another order for each node, so that borrowers spread. */
  #rotated(blocks: readonly Entry<'Block'>[]): Entry<'Block'>[] {
    const seed = [...this.node].reduce((sum, letter) => (sum * 31 + letter.charCodeAt(0)) >>> 0, 7);
    const start = blocks.length === 0 ? 0 : seed % blocks.length;
    return [...blocks.slice(start), ...blocks.slice(0, start)];
  }

  async #allBlocks(): Promise<readonly Entry<'Block'>[]> {
    const { entries, invalid } = await this.scene.store.list('Block');
    for (const { error } of invalid) this.scene.log.error({ reason: error.message }, 'block left out');
    return entries;
  }
}

function heldBy(attribute: AllocationAttribute | undefined): string {
  if (attribute?.releasedAt !== undefined) return `it cools down since its release at ${attribute.releasedAt}`;
  return `it is held by ${attribute?.handle_id ?? 'nobody that its block names'}`;
}
