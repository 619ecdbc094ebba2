import { fitting } from '../base/id-index.ts';
import type { Family } from '../model/address.ts';
import { type PrefixId, PrefixTable } from '../model/prefixes.ts';
import type { AttributeId, AttributeInterner } from './intern.ts';
import { type Source, type SourceId, SourceTable } from './sources.ts';
import type { Attributes } from './wire/attributes.ts';

export { AdjRibIn } from './adj-rib-in.ts';
export type { Source } from './sources.ts';

/** A route without its prefix. */
export interface Candidate {
  readonly source: Source;
  readonly attributes: Attributes;
  /** Kept over the peer's restart, not yet told again. RFC 4724 §4.2. */
  readonly stale: boolean;
  /** As the peer identifies it among its paths to the prefix; absent: it tells only one. RFC 7911. */
  readonly pathId?: number;
}

/**
 * Work in slices: called until it returns false, each time until `over`, with the event loop in between. The first slice
 * runs at once.
 */
export type Background = (slice: (over: () => boolean) => boolean) => void;

/** To the end at once. */
const atOnce: Background = (slice) => {
  while (slice(() => false));
};

/** A path of a prefix as a small integer, never 0. */
export type PathId = number;

/**
 * All paths of a family's prefixes in packed arrays, those of a prefix chained, and which prefixes changed since they
 * were last looked at. A path retains its prefix, its attributes and its source.
 */
export class Rib {
  readonly prefixes: PrefixTable;
  readonly sources = new SourceTable();
  /** First path by prefix; 0: none. */
  #first = new Int32Array(256);
  #prefix = new Int32Array(256);
  #source = new Int32Array(256);
  #attributes = new Int32Array(256);
  /** The next path of the prefix, or the next free one; 0: none. */
  #next = new Int32Array(256);
  /** In which of its source's generations the path was told (adj-rib-in.ts). */
  #generation = new Uint8Array(256);
  /** Each source's present one: paths of another are stale. */
  #current = new Uint8Array(16);
  #identifier = new Uint32Array(256);
  #free = 0;
  #bound = 1;
  /** By prefix: 1: it waits in the queue. */
  #marked = new Uint8Array(256);
  /** Each is retained. */
  #dirty = new Int32Array(256);
  #dirtyFrom = 0;
  #dirtyTo = 0;

  constructor(
    readonly family: Family,
    readonly interner: AttributeInterner,
    private readonly changed: () => void,
    readonly background: Background = atOnce,
  ) {
    this.prefixes = new PrefixTable(family);
  }

  /** The paths of a prefix in the order in which they came. */
  candidates(id: PrefixId): Candidate[] {
    const found: Candidate[] = [];
    for (let path = this.first(id); path !== 0; path = this.next(path)) found.push(this.candidate(path));
    return found;
  }

  candidate(path: PathId): Candidate {
    const pathId = this.#identifier[path] ?? 0;
    return {
      source: this.sources.get(this.source(path)),
      attributes: this.interner.get(this.attributes(path)),
      stale: this.isStale(path),
      ...(pathId > 0 ? { pathId } : {}),
    };
  }

  /** 0: none. */
  first(id: PrefixId): PathId {
    return this.#first[id] ?? 0;
  }

  next(path: PathId): PathId {
    return this.#next[path] ?? 0;
  }

  source(path: PathId): SourceId {
    return this.#source[path] ?? 0;
  }

  attributes(path: PathId): AttributeId {
    return this.#attributes[path] ?? 0;
  }

  isStale(path: PathId): boolean {
    return this.#generation[path] !== this.#current[this.source(path)];
  }

  generation(path: PathId): number {
    return this.#generation[path] ?? 0;
  }

  /** From now on the source's paths of other generations are stale. */
  begin(source: SourceId, generation: number): void {
    this.#current = fitting(this.#current, source);
    this.#current[source] = generation;
  }

  prefix(path: PathId): PrefixId {
    return this.#prefix[path] ?? 0;
  }

  /** Of the path in its source's words; 0: none. */
  identifier(path: PathId): number {
    return this.#identifier[path] ?? 0;
  }

  /** Every path is below; those in between that are free have no source. */
  get bound(): PathId {
    return this.#bound;
  }

  /** The source's path with the identifier; 0: there is none. */
  find(id: PrefixId, source: SourceId, identifier: number): PathId {
    let path = this.first(id);
    while (path !== 0 && !(this.#source[path] === source && this.#identifier[path] === identifier))
      path = this.#next[path] ?? 0;
    return path;
  }

  /** A new path, behind the others of the prefix. */
  add(id: PrefixId, source: SourceId, identifier: number, attributes: AttributeId, generation: number): PathId {
    const path = this.#allocate();
    this.#first = fitting(this.#first, id);
    let last = this.#first[id] ?? 0;
    if (last === 0) this.#first[id] = path;
    else {
      while (this.#next[last] !== 0) last = this.#next[last] ?? 0;
      this.#next[last] = path;
    }
    this.#prefix[path] = id;
    this.#source[path] = source;
    this.#identifier[path] = identifier;
    this.#attributes[path] = attributes;
    this.#generation[path] = generation;
    this.#next[path] = 0;
    this.prefixes.retain(id);
    this.sources.retain(source);
    this.interner.retain(attributes);
    this.touch(id);
    return path;
  }

  /** A generation alone decides nothing. */
  change(path: PathId, attributes: AttributeId, generation: number): void {
    const before = this.#attributes[path] ?? 0;
    this.#generation[path] = generation;
    if (before === attributes) return;
    this.interner.retain(attributes);
    this.interner.release(before);
    this.#attributes[path] = attributes;
    this.touch(this.prefix(path));
  }

  remove(path: PathId): void {
    const id = this.prefix(path);
    this.touch(id);
    const after = this.next(path);
    if (this.#first[id] === path) this.#first[id] = after;
    else {
      let before = this.first(id);
      while (this.#next[before] !== path) before = this.next(before);
      this.#next[before] = after;
    }
    this.sources.release(this.source(path));
    this.interner.release(this.attributes(path));
    this.prefixes.release(id);
    this.#source[path] = 0;
    this.#next[path] = this.#free;
    this.#free = path;
  }

  /** Prefixes that have a path. */
  *ids(): Generator<PrefixId> {
    for (let id = 0; id < this.prefixes.bound; id++) if (this.first(id) !== 0) yield id;
  }

  /** Changed prefixes that `takeDirty` has not yet told. */
  get pending(): number {
    return this.#dirtyTo - this.#dirtyFrom;
  }

  /** A changed prefix, retained and the caller's to release. */
  takeDirty(): PrefixId {
    const id = this.#dirty[this.#dirtyFrom++] ?? 0;
    this.#marked[id] = 0;
    if (this.#dirtyFrom === this.#dirtyTo) {
      this.#dirtyFrom = 0;
      this.#dirtyTo = 0;
    }
    return id;
  }

  /** The prefix is to be looked at again. */
  touch(id: PrefixId): void {
    this.#marked = fitting(this.#marked, id);
    if (this.#marked[id] === 1) return;
    this.#marked[id] = 1;
    if (this.#dirtyTo === this.#dirty.length && this.#dirtyFrom * 2 > this.#dirtyTo) this.#closeUp();
    this.#dirty = fitting(this.#dirty, this.#dirtyTo);
    this.#dirty[this.#dirtyTo++] = id;
    this.prefixes.retain(id);
    if (this.pending === 1) this.changed();
  }

  #closeUp(): void {
    this.#dirty.copyWithin(0, this.#dirtyFrom, this.#dirtyTo);
    this.#dirtyTo -= this.#dirtyFrom;
    this.#dirtyFrom = 0;
  }

  #allocate(): PathId {
    if (this.#free > 0) {
      const path = this.#free;
      this.#free = this.next(path);
      return path;
    }
    const path = this.#bound++;
    this.#prefix = fitting(this.#prefix, path);
    this.#source = fitting(this.#source, path);
    this.#attributes = fitting(this.#attributes, path);
    this.#next = fitting(this.#next, path);
    this.#generation = fitting(this.#generation, path);
    this.#identifier = fitting(this.#identifier, path);
    return path;
  }
}
