import { fitting } from '../base/id-index.ts';
import type { PrefixId } from '../model/prefixes.ts';
import type { AttributeId } from './intern.ts';
import type { Rib } from './rib.ts';
import type { SourceId } from './sources.ts';

/**
 * At most one route of each prefix, packed: the selected ones (Loc-RIB), or what an update group tells (Adj-RIB-Out).
 * RFC 4271 §3.2. Each retains its prefix, its attributes and its source.
 */
export class ChosenRoutes {
  #attributes = new Int32Array(256);
  #sources = new Int32Array(256);
  #count = 0;
  /** Routes by source. */
  #countOf = new Uint32Array(16);

  constructor(private readonly rib: Rib) {}

  get count(): number {
    return this.#count;
  }

  /** Every prefix of a route is below. */
  get bound(): PrefixId {
    return this.#attributes.length;
  }

  /** Routes that come from the source. */
  countOf(source: SourceId): number {
    return this.#countOf[source] ?? 0;
  }

  /** 0: no route. */
  attributes(id: PrefixId): AttributeId {
    return this.#attributes[id] ?? 0;
  }

  source(id: PrefixId): SourceId {
    return this.#sources[id] ?? 0;
  }

  /** Both 0: no route any longer. @returns whether anything changed */
  set(id: PrefixId, attributes: AttributeId, source: SourceId): boolean {
    const before = this.attributes(id);
    const beforeSource = this.source(id);
    if (before === attributes && beforeSource === source) return false;
    const { prefixes, sources, interner } = this.rib;
    this.#attributes = fitting(this.#attributes, id);
    this.#sources = fitting(this.#sources, id);
    this.#attributes[id] = attributes;
    this.#sources[id] = source;
    if (attributes !== 0) {
      if (before === 0) prefixes.retain(id);
      interner.retain(attributes);
      sources.retain(source);
      this.#add(source, 1);
    }
    if (before !== 0) {
      this.#add(beforeSource, -1);
      sources.release(beforeSource);
      interner.release(before);
      if (attributes === 0) prefixes.release(id);
    }
    return true;
  }

  *ids(): Generator<PrefixId> {
    for (let id = 0; id < this.bound; id++) if (this.attributes(id) !== 0) yield id;
  }

  /** The prefixes but those of one source, those with the same attributes together: a counting sort. */
  byAttributes(except: SourceId = 0): Int32Array {
    const all = this.#attributes;
    const sources = this.#sources;
    let most = 0;
    for (let id = 0; id < all.length; id++) most = Math.max(most, all[id] ?? 0);
    /** Where the prefixes of the attributes begin in the result. */
    const starts = new Int32Array(most + 2);
    for (let id = 0; id < all.length; id++) {
      const attributes = all[id] ?? 0;
      if (attributes !== 0 && sources[id] !== except) starts[attributes + 1] = (starts[attributes + 1] ?? 0) + 1;
    }
    for (let i = 1; i < starts.length; i++) starts[i] = (starts[i] ?? 0) + (starts[i - 1] ?? 0);
    const sorted = new Int32Array(this.#count - this.countOf(except));
    for (let id = 0; id < all.length; id++) {
      const attributes = all[id] ?? 0;
      if (attributes === 0 || sources[id] === except) continue;
      const at = starts[attributes] ?? 0;
      sorted[at] = id;
      starts[attributes] = at + 1;
    }
    return sorted;
  }

  #add(source: SourceId, by: number): void {
    this.#count += by;
    this.#countOf = fitting(this.#countOf, source);
    this.#countOf[source] = (this.#countOf[source] ?? 0) + by;
  }
}
