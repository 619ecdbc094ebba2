import type { PrefixId } from '../model/prefixes.ts';
import type { AttributeId } from './intern.ts';
import type { PathId, Rib } from './rib.ts';
import type { SourceId } from './sources.ts';

/** A path as the members are told it; its number is its identifier on the wire, stable while it lasts. */
export interface ToldPath {
  readonly path: PathId;
  readonly attributes: AttributeId;
  readonly source: SourceId;
}

const none: readonly ToldPath[] = [];

/**
 * The Adj-RIB-Out of peers that are told several paths of a prefix. RFC 7911. Each path retains its attributes and its
 * source, any path the prefix.
 */
export class ToldPaths {
  /** By prefix, without holes. */
  readonly #lists: (readonly ToldPath[])[] = [];
  /** Paths told, by source. */
  readonly #counts = new Map<SourceId, number>();
  #count = 0;

  constructor(private readonly rib: Rib) {}

  /** Every prefix with a path is below. */
  get bound(): PrefixId {
    return this.#lists.length;
  }

  /** Of all sources. */
  get count(): number {
    return this.#count;
  }

  countOf(source: SourceId): number {
    return this.#counts.get(source) ?? 0;
  }

  of(id: PrefixId): readonly ToldPath[] {
    return this.#lists[id] ?? none;
  }

  find(id: PrefixId, path: PathId): ToldPath | undefined {
    return this.of(id).find((one) => one.path === path);
  }

  set(id: PrefixId, after: readonly ToldPath[]): void {
    const { prefixes, interner, sources } = this.rib;
    const before = this.of(id);
    for (const { attributes, source } of after) {
      interner.retain(attributes);
      sources.retain(source);
      this.#tally(source, 1);
    }
    if (before.length === 0 && after.length > 0) prefixes.retain(id);
    while (this.#lists.length <= id) this.#lists.push(none);
    this.#lists[id] = after;
    for (const { attributes, source } of before) {
      this.#tally(source, -1);
      interner.release(attributes);
      sources.release(source);
    }
    if (before.length > 0 && after.length === 0) prefixes.release(id);
  }

  #tally(source: SourceId, by: number): void {
    this.#count += by;
    const count = this.countOf(source) + by;
    if (count === 0) this.#counts.delete(source);
    else this.#counts.set(source, count);
  }
}
