import type { PrefixId } from '../model/prefixes.ts';
import type { AttributeId } from './intern.ts';
import type { Candidate, PathId, Rib } from './rib.ts';
import type { Source, SourceId } from './sources.ts';

/** Paths looked at between two looks at the clock. */
const step = 1024;

/** Hears of each path that leaves after it was given up, slice by slice, before it goes. */
export interface Leavers {
  /** @param identifier of the path in the peer's words; 0: it tells only one. RFC 7911 */
  leaves(id: PrefixId, identifier: number): void;
  /** The slice is over. */
  over(): void;
}

/**
 * What one source has told of one family: its Adj-RIB-In after import checks. RFC 4271 §3.2.
 *
 * Every path carries the generation in which it was told. That a peer restarts, or is gone, makes a new generation: its
 * paths are stale or given up from then on, all at once, and those given up leave the table in slices, since a peer may
 * have told a million. One that is told again meanwhile just stays.
 */
export class AdjRibIn {
  #count = 0;
  #staleCount = 0;
  /** Given up, but still in the table. */
  #doomed = 0;
  #generation = 0;
  /** That of the stale paths, where there are any. */
  #staleGeneration = -1;
  #leaving = false;
  #leavers: Leavers | undefined;
  /** The next path that the slices look at. */
  #cursor: PathId = 1;
  /** Valid while there are paths. */
  #id: SourceId = 0;

  constructor(
    private readonly source: Source,
    private readonly rib: Rib,
  ) {}

  get count(): number {
    return this.#count;
  }

  get staleCount(): number {
    return this.#staleCount;
  }

  /** @param identifier of the path in the peer's words; 0: it tells only one. RFC 7911 */
  announce(id: PrefixId, attributes: AttributeId, identifier = 0): void {
    const { rib } = this;
    if (this.#count + this.#doomed === 0) {
      this.#id = rib.sources.intern(this.source);
      rib.begin(this.#id, this.#generation);
    }
    const path = rib.find(id, this.#id, identifier);
    if (path === 0) {
      this.#count++;
      rib.add(id, this.#id, identifier, attributes, this.#generation);
      return;
    }
    this.#disown(path);
    this.#count++;
    rib.change(path, attributes, this.#generation);
  }

  /** A prefix as it stands on the wire. */
  announceAt(octets: Uint8Array, at: number, length: number, attributes: AttributeId, identifier: number): void {
    this.announce(this.rib.prefixes.intern(octets, at, length), attributes, identifier);
  }

  /** A prefix as it stands on the wire; one that is not known needs nothing. */
  withdrawAt(octets: Uint8Array, at: number, length: number, identifier: number): void {
    const id = this.rib.prefixes.find(octets, at, length);
    if (id !== undefined) this.withdraw(id, identifier);
  }

  withdraw(id: PrefixId, identifier = 0): void {
    if (this.#count + this.#doomed === 0) return;
    const path = this.rib.find(id, this.#id, identifier);
    if (path !== 0) this.#drop(path);
  }

  /** The peer is restarting: routes stay until told again. Those still stale from before go. RFC 4724 §4.2. */
  markStale(): void {
    this.sweep();
    if (this.#count === 0) return;
    this.#staleGeneration = this.#generation;
    this.#staleCount = this.#count;
    this.#next();
  }

  /**
   * Gives stale routes other attributes, or drops those without, in slices.
   * @param begin before each slice: says what becomes of attributes
   * @param done how many were dropped
   */
  rewriteStale(
    begin: () => (attributes: AttributeId) => AttributeId | undefined,
    done: (dropped: number) => void,
  ): void {
    if (this.#staleCount === 0) {
      done(0);
      return;
    }
    let dropped = 0;
    let next: PathId = 1;
    const generation = this.#staleGeneration;
    this.rib.background((over) => {
      if (this.#staleGeneration !== generation) return false;
      const change = begin();
      const bound = this.rib.bound;
      do {
        for (const end = Math.min(next + step, bound); next < end; next++) {
          if (this.#generationOf(next) !== generation) continue;
          const changed = change(this.rib.attributes(next));
          if (changed !== undefined) this.rib.change(next, changed, generation);
          else {
            this.#drop(next);
            dropped++;
          }
        }
      } while (next < bound && this.#staleCount > 0 && !over());
      if (next < bound && this.#staleCount > 0) return true;
      done(dropped);
      return false;
    });
  }

  /**
   * Gives up what is stale; returns how many.
   * @param leavers hears of them as they leave, until everything is given up
   */
  sweep(leavers = this.#leavers): number {
    this.#leavers = leavers;
    const swept = this.#staleCount;
    this.#staleCount = 0;
    this.#staleGeneration = -1;
    this.#giveUp(swept);
    return swept;
  }

  /** Gives up everything, and nobody hears of it. */
  clear(): void {
    this.#leavers = undefined;
    const count = this.#count;
    this.#staleCount = 0;
    this.#staleGeneration = -1;
    if (count > 0) this.#next();
    this.#giveUp(count);
  }

  *entries(): Generator<[PrefixId, Candidate]> {
    const { rib } = this;
    for (let path = 1; path < rib.bound; path++)
      if (this.#count > 0 && this.#isKept(this.#generationOf(path))) yield [rib.prefix(path), rib.candidate(path)];
  }

  /** -1: not one of this source's. */
  #generationOf(path: PathId): number {
    return this.#count + this.#doomed > 0 && this.rib.source(path) === this.#id ? this.rib.generation(path) : -1;
  }

  #isKept(generation: number): boolean {
    return generation >= 0 && (generation === this.#generation || generation === this.#staleGeneration);
  }

  #next(): void {
    // Before a number comes again those of its first time have left; if not, there is no other way.
    if (this.#generation >= 254 && this.#doomed > 0) this.#leave(() => false);
    this.#generation = (this.#generation + 1) & 255;
    this.rib.begin(this.#id, this.#generation);
  }

  #giveUp(count: number): void {
    this.#count -= count;
    this.#doomed += count;
    if (this.#doomed === 0 || this.#leaving) return;
    this.#leaving = true;
    this.rib.background((over) => {
      this.#leave(over);
      this.#leaving = this.#doomed > 0;
      return this.#leaving;
    });
  }

  /** Takes given up paths out of the table until none is left or the slice is over. */
  #leave(over: () => boolean): void {
    this.#takeOut(over);
    this.#leavers?.over();
    if (this.#doomed === 0) this.#leavers = undefined;
  }

  #takeOut(over: () => boolean): void {
    const { rib } = this;
    do {
      for (let i = 0; i < step && this.#doomed > 0; i++) {
        if (this.#cursor >= rib.bound) this.#cursor = 1;
        const path = this.#cursor++;
        const generation = this.#generationOf(path);
        if (generation < 0 || this.#isKept(generation)) continue;
        this.#leavers?.leaves(rib.prefix(path), rib.identifier(path));
        this.#drop(path);
      }
    } while (this.#doomed > 0 && !over());
  }

  /** The path is no longer counted as what it was. */
  #disown(path: PathId): void {
    const generation = this.rib.generation(path);
    if (!this.#isKept(generation)) {
      this.#doomed--;
      return;
    }
    this.#count--;
    if (generation === this.#staleGeneration) this.#staleCount--;
  }

  #drop(path: PathId): void {
    this.#disown(path);
    this.rib.remove(path);
  }
}
