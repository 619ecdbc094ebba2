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
    let known = this.#known.get(verdict);
    if (!known) {
      known = new Map();
      this.#known.set(verdict, known);
    }
    const key = attributes * 0x100000 + source;
    let result = known.get(key);
    if (result === undefined) {
      result = this.#form(attributes, source, verdict);
      known.set(key, result);
    }
    return result;
  }

  /** The batch ends: identifiers mean something else from now on. */
  forget(): void {
    this.#known.clear();
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
    return filter.judge(this.#judged, 0, length, interner.get(attributes), sources.get(source).kind !== 'local');
  }
}
