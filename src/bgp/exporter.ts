import type { PrefixId } from '../model/prefixes.ts';
import { type ExportContext, exported } from './exporting.ts';
import type { Verdict } from './filters.ts';
import type { AttributeId } from './intern.ts';
import { reflectedOctets } from './reflecting.ts';
import type { Rib } from './rib.ts';
import type { SourceId } from './sources.ts';
import { octetsFor } from './wire/nlri.ts';

/** Gives routes the form in which an update group tells them. */
export class Exporter {
  /** What became of attributes within one batch, by verdict, then by attributes and source. */
  readonly #known = new Map<Verdict, Map<number, AttributeId>>();
  /** The last of them, which mostly comes again. */
  #lastVerdict: Verdict;
  #lastAttributes: AttributeId = 0;
  #lastSource: SourceId = 0;
  #lastResult: AttributeId = 0;
  readonly #judged = new Uint8Array(16);

  constructor(
    private readonly context: ExportContext,
    private readonly rib: Rib,
  ) {}

  /** @returns attributes that nobody retains yet; 0: the route is not for these peers */
  export(id: PrefixId, attributes: AttributeId, source: SourceId): AttributeId {
    if (attributes === 0) return 0;
    const verdict = this.#judge(id, attributes, source);
    if (verdict === 'reject') return 0;
    if (attributes === this.#lastAttributes && source === this.#lastSource && verdict === this.#lastVerdict)
      return this.#lastResult;
    if (this.#lastAttributes !== 0) this.#keepLast();
    const result = this.#known.get(verdict)?.get(keyOf(attributes, source)) ?? this.#form(attributes, source, verdict);
    this.#lastVerdict = verdict;
    this.#lastAttributes = attributes;
    this.#lastSource = source;
    this.#lastResult = result;
    return result;
  }

  /** Another one takes its place. */
  #keepLast(): void {
    let known = this.#known.get(this.#lastVerdict);
    if (!known) {
      known = new Map();
      this.#known.set(this.#lastVerdict, known);
    }
    known.set(keyOf(this.#lastAttributes, this.#lastSource), this.#lastResult);
  }

  /** The batch ends: identifiers mean something else from now on. */
  forget(): void {
    this.#lastAttributes = 0;
    if (this.#known.size > 0) this.#known.clear();
  }

  #form(id: AttributeId, sourceId: SourceId, verdict: Exclude<Verdict, 'reject'>): AttributeId {
    const { interner, sources } = this.rib;
    const source = sources.get(sourceId);
    const octets = verdict ? undefined : reflectedOctets(interner.octets(id), source, this.context);
    if (octets) return interner.internOctets(octets);
    const attributes = exported({ source, attributes: interner.get(id), stale: false }, this.context, verdict);
    return attributes ? interner.intern(attributes) : 0;
  }

  #judge(id: PrefixId, attributes: AttributeId, source: SourceId): Verdict {
    const { filter } = this.context;
    if (!filter) return undefined;
    const { prefixes, interner, sources } = this.rib;
    const length = prefixes.length(id);
    prefixes.copy(id, this.#judged, 0, octetsFor(length));
    return filter.judge(this.#judged, 0, length, interner.get(attributes), sources.get(source));
  }
}

function keyOf(attributes: AttributeId, source: SourceId): number {
  return attributes * 0x100000 + source;
}
