import { bits, type Cidr, cidrParts, type Family, familyOf, ipNumber } from '../model/address.ts';

/** Addresses from `from` to before `to`, as numbers. */
interface Span {
  readonly from: bigint;
  readonly to: bigint;
}

/** Of a block, which ordinals are reserved. */
export type ReservedOrdinals = (ordinal: number) => boolean;

/** The addresses that IPReservations keep from being given automatically. */
export class Reserved {
  static readonly none = new Reserved([]);

  readonly #spans: Readonly<Record<Family, readonly Span[]>>;

  constructor(cidrs: Iterable<Cidr>) {
    const all = [...cidrs];
    const ofFamily = (family: Family) => merged(all.filter((cidr) => familyOf(cidr) === family).map(spanOf));
    this.#spans = { 4: ofFamily(4), 6: ofFamily(6) };
  }

  /** Undefined when nothing of the block is reserved, which is the rule. */
  ordinalsOf(block: Cidr): ReservedOrdinals | undefined {
    const inside = this.#within(block);
    if (inside.length === 0) return undefined;
    const { from: base } = spanOf(block);
    const ranges = inside.map(({ from, to }) => [Number(from - base), Number(to - base)] as const);
    return (ordinal) => ranges.some(([from, to]) => ordinal >= from && ordinal < to);
  }

  /** How many addresses of a prefix are reserved. */
  countIn(cidr: Cidr): bigint {
    return this.#within(cidr).reduce((sum, { from, to }) => sum + to - from, 0n);
  }

  /** Whether no address of the block may be given, so that no node has a use for it. */
  covers(block: Cidr): boolean {
    const [only] = this.#within(block);
    const { from, to } = spanOf(block);
    return only !== undefined && only.from === from && only.to === to;
  }

  /** What of a prefix is reserved, ascending, clipped to it. */
  #within(cidr: Cidr): Span[] {
    const spans = this.#spans[familyOf(cidr)];
    if (spans.length === 0) return [];
    const { from, to } = spanOf(cidr);
    const found: Span[] = [];
    for (let at = firstEndingAfter(spans, from); at < spans.length; at++) {
      const span = spans[at];
      if (span === undefined || span.from >= to) break;
      found.push({ from: span.from > from ? span.from : from, to: span.to < to ? span.to : to });
    }
    return found;
  }
}

function spanOf(cidr: Cidr): Span {
  const { address, length, family } = cidrParts(cidr);
  const from = ipNumber(address);
  return { from, to: from + (1n << BigInt(bits(family) - length)) };
}

/** The same addresses in spans that neither overlap nor touch, ascending. */
function merged(spans: readonly Span[]): Span[] {
  const out: Span[] = [];
  for (const span of [...spans].sort((a, b) => (a.from < b.from ? -1 : a.from > b.from ? 1 : 0))) {
    const last = out.at(-1);
    if (last === undefined || span.from > last.to) out.push(span);
    else if (span.to > last.to) out[out.length - 1] = { from: last.from, to: span.to };
  }
  return out;
}

function firstEndingAfter(spans: readonly Span[], value: bigint): number {
  let [low, high] = [0, spans.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    const span = spans[middle];
    if (span !== undefined && span.to <= value) low = middle + 1;
    else high = middle;
  }
  return low;
}
