import { fitting } from '../base/id-index.ts';
import type { PrefixId, PrefixTable } from '../model/prefixes.ts';
import type { Owed } from './group.ts';
import type { PathId } from './rib.ts';
import type { SourceId } from './sources.ts';
import type { ToldPaths } from './told-paths.ts';

export interface OwedPath {
  readonly id: PrefixId;
  readonly path: PathId;
  /** The member knows the path, so that it must hear of its end. */
  readonly told: boolean;
}

/** Prefixes that one call looks at, at most. */
const step = 16_384;
const never = Number.POSITIVE_INFINITY;

/**
 * Paths that one member must still be told of; each retains its prefix. A whole table is not listed when it is asked
 * for: it is walked by and by, prefix by prefix, as the member takes it.
 */
export class OwedPaths implements Owed {
  readonly #owed = new Map<number, OwedPath>();
  /** Of these prefixes and those after them the member has heard nothing, and will hear as the walk comes to them. */
  #unheard: PrefixId = never;
  /** From here on to `#unheard` everything is to be said once more. */
  #again: PrefixId = never;
  /** Prefix and path in turns, each known to the member from another group; and how many of them are done. */
  #known = new Int32Array(0);
  #knownDone = 0;
  /** It came from that group, and may know any path: each is withdrawn where it ends, told or not. RFC 4271 §9.1.4. */
  #moved = false;

  constructor(
    private readonly prefixes: PrefixTable,
    private readonly out: ToldPaths,
  ) {}

  /** At least 1 while anything is owed. */
  get size(): number {
    const walking = this.#unheard !== never || this.#again !== never || this.#knownDone < this.#known.length;
    return this.#owed.size + (walking ? 1 : 0);
  }

  /** A path changed, and the member is not up to date. */
  add(id: PrefixId, path: PathId, told: boolean): void {
    if (id < this.#unheard || this.#moved) this.#list(id, path, told);
  }

  /** Everything. @param told the member knows all of it already */
  addAll(told: boolean): void {
    if (told) this.#again = 0;
    else this.#unheard = 0;
  }

  /** What another group's member was told there, or is still to be told of the end of. @param self its own paths */
  addKnown(out: ToldPaths, before: OwedPaths | undefined, self: SourceId): void {
    this.#moved = true;
    for (const { id, path, told } of before ? before.#owed.values() : []) this.#list(id, path, told);
    const earlier = before ? before.#known.subarray(before.#knownDone) : this.#known;
    let known = new Int32Array(Math.max(64, out.count * 2 + earlier.length));
    known.set(earlier);
    let at = earlier.length;
    const end = before && !before.#moved ? Math.min(out.bound, before.#unheard) : out.bound;
    for (let id = 0; id < end; id++)
      for (const { path, source } of out.of(id)) {
        if (source === self || this.#owed.has(keyOf(id, path))) continue;
        known = fitting(known, at + 1);
        known[at++] = id;
        known[at++] = path;
      }
    for (let i = 0; i < at; i += 2) this.prefixes.retain(known[i] ?? 0);
    this.#known = known.subarray(0, at);
    this.#knownDone = 0;
  }

  /** Some of them, about so many; their prefixes are the caller's to release. @param self the member's own paths */
  take(most: number, self: SourceId): OwedPath[] {
    this.#walk(most, self);
    const taken: OwedPath[] = [];
    for (const [key, owed] of this.#owed) {
      if (taken.length >= most) break;
      taken.push(owed);
      this.#owed.delete(key);
    }
    return taken;
  }

  clear(): void {
    for (const { id } of this.#owed.values()) this.prefixes.release(id);
    this.#owed.clear();
    for (let i = this.#knownDone; i < this.#known.length; i += 2) this.prefixes.release(this.#known[i] ?? 0);
    this.#known = new Int32Array(0);
    this.#knownDone = 0;
    this.#unheard = never;
    this.#again = never;
  }

  /** Lists until so many are listed, or the slice's prefixes are over: what is known first, since it may be withdrawn. */
  #walk(most: number, self: SourceId): void {
    for (let looked = 0; looked < step && this.#owed.size < most; looked++) {
      if (this.#knownDone < this.#known.length) this.#walkKnown();
      else if (this.#again !== never) this.#again = this.#walkOne(this.#again, self, true, this.#unheard);
      else if (this.#unheard !== never) this.#unheard = this.#walkOne(this.#unheard, self, false, never);
      else return;
    }
  }

  #walkKnown(): void {
    const id = this.#known[this.#knownDone] ?? 0;
    this.#list(id, this.#known[this.#knownDone + 1] ?? 0, true);
    this.#knownDone += 2;
    this.prefixes.release(id);
  }

  /** @returns the next prefix to look at */
  #walkOne(id: PrefixId, self: SourceId, told: boolean, end: PrefixId): PrefixId {
    if (id >= Math.min(end, this.out.bound)) return never;
    for (const { path, source } of this.out.of(id)) if (source !== self) this.#list(id, path, told);
    return id + 1;
  }

  #list(id: PrefixId, path: PathId, told: boolean): void {
    const key = keyOf(id, path);
    if (this.#owed.has(key)) return;
    this.#owed.set(key, { id, path, told: told || this.#moved });
    this.prefixes.retain(id);
  }
}

function keyOf(id: PrefixId, path: PathId): number {
  return id * 0x4000000 + path;
}
