import type { Clock } from '../base/clock.ts';
import { explain, InputError } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import { KernelError } from '../kernel/types.ts';
import type { Hop } from '../model/feed.ts';
import type { PrefixId } from '../model/prefixes.ts';
import { hopOf } from './nexthop.ts';
import type { Candidate, Rib } from './rib.ts';

/**
 * Whether next hops are followed: MARGAY_BGPNEXTHOPTRACKING, `true` or `false`.
 * @throws InputError that names the variable
 */
export function tracksNextHops(env: Readonly<Record<string, string | undefined>>, otherwise: boolean): boolean {
  const text = (env['MARGAY_BGPNEXTHOPTRACKING'] ?? '').toLowerCase();
  if (!['', 'true', 'false'].includes(text)) throw new InputError('MARGAY_BGPNEXTHOPTRACKING', text, 'true or false');
  return text === '' ? otherwise : text === 'true';
}

/** The metric of the route to a candidate's next hop; Infinity where there is none. RFC 4271 §9.1.2. */
export type CostOf = (candidate: Candidate) => number;

export interface NextHopDeps {
  /** The metric of the route to a gateway; undefined when there is none. @throws KernelError when it cannot be found out */
  readonly lookup: (hop: Hop) => number | undefined;
  readonly clock: Clock;
  readonly log: Log;
  /** Next hops that changed in how they are reached. */
  readonly changed: (hops: ReadonlySet<Hop>) => void;
}

/** Milliseconds between two rounds at least, and how many times as long as a round took. */
const interval = 2000;
const restFactor = 20;
/** Lookups between two turns of the event loop. */
const slice = 256;
/** Next hops known at most; the oldest gives way, and its routes stay as they are until they are told again. */
export const maxHops = 16_384;

/**
 * How the next hops of the routes are reached: asked when a route first has one, and again every few seconds, so that
 * changes of other routes and devices reach the decision process. What cannot be found out counts as near.
 */
export class NextHops {
  readonly #costs = new Map<Hop, number>();
  #cancel: (() => void) | undefined;
  #failed = false;
  #stopped = false;

  constructor(private readonly deps: NextHopDeps) {}

  start(): void {
    this.#later(interval);
  }

  stop(): void {
    this.#stopped = true;
    this.#cancel?.();
  }

  status(): { readonly known: number; readonly unreachable: readonly Hop[] } {
    const unreachable = [...this.#costs].flatMap(([hop, cost]) => (cost === Number.POSITIVE_INFINITY ? [hop] : []));
    return { known: this.#costs.size, unreachable };
  }

  readonly costOf: CostOf = (candidate) => {
    if (candidate.source.kind === 'local') return 0;
    const hop = hopOf(candidate);
    if (hop === undefined) return 0;
    const known = this.#costs.get(hop);
    if (known !== undefined) return known;
    const cost = this.#look(hop);
    if (this.#costs.size >= maxHops) {
      const [oldest] = this.#costs.keys();
      if (oldest !== undefined) this.#costs.delete(oldest);
    }
    this.#costs.set(hop, cost ?? 0);
    return cost ?? 0;
  };

  #later(milliseconds: number): void {
    this.#cancel = this.deps.clock.after(milliseconds, () => void this.#round());
  }

  async #round(): Promise<void> {
    const { clock } = this.deps;
    const begin = clock.monotonic();
    const changed = new Set<Hop>();
    let looked = 0;
    for (const [hop, before] of [...this.#costs]) {
      const cost = this.#look(hop) ?? before;
      if (cost !== before && this.#costs.has(hop)) {
        this.#costs.set(hop, cost);
        changed.add(hop);
      }
      if (++looked % slice === 0) await new Promise((resolve) => setImmediate(resolve));
      if (this.#stopped) return;
    }
    if (changed.size > 0) this.#tell(changed);
    this.#later(Math.max(interval, (clock.monotonic() - begin) * restFactor));
  }

  #tell(changed: ReadonlySet<Hop>): void {
    for (const hop of changed)
      if (this.#costs.get(hop) === Number.POSITIVE_INFINITY) this.deps.log.warn({ hop }, 'next hop has no route');
    this.deps.changed(changed);
  }

  /** Undefined: it cannot be found out. Said once until it can again. */
  #look(hop: Hop): number | undefined {
    try {
      const cost = this.deps.lookup(hop) ?? Number.POSITIVE_INFINITY;
      this.#failed = false;
      return cost;
    } catch (thrown) {
      if (!(thrown instanceof KernelError)) throw thrown;
      if (!this.#failed) this.deps.log.error({ hop, reason: explain(thrown) }, 'next hops cannot be looked up');
      this.#failed = true;
      return undefined;
    }
  }
}

/** Paths looked at between two turns of the event loop. */
const pathSlice = 16_384;

/** The prefixes with a path over one of the next hops, in slices. The table may change between two of them. */
export function* pathsOver(rib: Rib, hops: ReadonlySet<Hop>): Generator<PrefixId[]> {
  for (let from = 1; from < rib.bound; from += pathSlice) {
    const found: PrefixId[] = [];
    const known = new Map<string, boolean>();
    for (let path = from; path < Math.min(from + pathSlice, rib.bound); path++) {
      if (rib.source(path) === 0) continue;
      const key = `${rib.attributes(path)} ${rib.source(path)}`;
      let over = known.get(key);
      if (over === undefined) {
        const hop = hopOf(rib.candidate(path));
        over = hop !== undefined && hops.has(hop);
        known.set(key, over);
      }
      if (over) found.push(rib.prefix(path));
    }
    yield found;
  }
}
