import type { Clock } from '../base/clock.ts';
import { explain, InputError } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import type { FoundRoute } from '../kernel/rtnetlink/lookup.ts';
import { KernelError } from '../kernel/types.ts';
import { type Cidr, cidrParts } from '../model/address.ts';
import { type Hop, hopParts } from '../model/feed.ts';
import type { PrefixId } from '../model/prefixes.ts';
import type { DeviceOf } from './filters.ts';
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

/** What changed in how next hops are reached and where own prefixes lead. */
export interface WayChanges {
  readonly hops: ReadonlySet<Hop>;
  /** Some of them are reached through another device. */
  readonly moved: boolean;
  /** Own prefixes that lead through another device. */
  readonly own: ReadonlySet<Cidr>;
}

export interface NextHopDeps {
  /** The route to a gateway or an address; undefined when there is none. @throws KernelError when it cannot be found out */
  readonly lookup: (hop: Hop) => FoundRoute | undefined;
  readonly clock: Clock;
  readonly log: Log;
  readonly changed: (changes: WayChanges) => void;
}

/** How a next hop is reached, or where an own prefix leads. */
interface Way {
  /** Infinity: not at all. */
  readonly cost: number;
  readonly device: string;
}

/** Of what cannot be found out. */
const unknown: Way = { cost: 0, device: '' };

/** Milliseconds between two rounds at least, and how many times as long as a round took. */
const interval = 2000;
const restFactor = 20;
/** Lookups between two turns of the event loop. */
const slice = 256;
/** Next hops and own prefixes known at most; the oldest gives way, and its routes stay as they are until they are told again. */
export const maxHops = 16_384;

/**
 * How the next hops of the routes are reached, and through which devices: asked when a route first has one, and again
 * every few seconds, so that changes of other routes and devices reach the decision process and the filters. What cannot
 * be found out counts as near, and as leading through no device.
 */
export class NextHops {
  readonly #ways = new Map<Hop | Cidr, Way>();
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
    const hops = [...this.#ways].flatMap(([key, { cost }]) => (isPrefix(key) ? [] : [{ hop: key, cost }]));
    const unreachable = hops.flatMap(({ hop, cost }) => (cost === Number.POSITIVE_INFINITY ? [hop] : []));
    return { known: hops.length, unreachable };
  }

  readonly costOf: CostOf = (candidate) => {
    if (candidate.source.kind === 'local') return 0;
    const hop = hopOf(candidate);
    return hop === undefined ? 0 : this.#way(hop).cost;
  };

  /** Of what a peer told, that of the way to its next hop; of an own prefix, that of the kernel's route to just it. */
  readonly deviceOf: DeviceOf = ({ source, attributes, prefix }) => {
    if (source.kind === 'local') return this.#way(prefix).device;
    const hop = hopOf({ source, attributes });
    if (hop === undefined) return '';
    return hopParts(hop).device ?? this.#way(hop).device;
  };

  #way(key: Hop | Cidr): Way {
    const known = this.#ways.get(key);
    if (known !== undefined) return known;
    const way = this.#look(key) ?? unknown;
    if (this.#ways.size >= maxHops) {
      const [oldest] = this.#ways.keys();
      if (oldest !== undefined) this.#ways.delete(oldest);
    }
    this.#ways.set(key, way);
    return way;
  }

  #later(milliseconds: number): void {
    this.#cancel = this.deps.clock.after(milliseconds, () => void this.#round());
  }

  async #round(): Promise<void> {
    const { clock } = this.deps;
    const begin = clock.monotonic();
    const hops = new Set<Hop>();
    const own = new Set<Cidr>();
    let moved = false;
    let looked = 0;
    for (const [key, before] of [...this.#ways]) {
      const way = this.#look(key) ?? before;
      if ((way.cost !== before.cost || way.device !== before.device) && this.#ways.has(key)) {
        this.#ways.set(key, way);
        if (isPrefix(key)) own.add(key);
        else hops.add(key);
        moved ||= !isPrefix(key) && way.device !== before.device;
      }
      if (++looked % slice === 0) await new Promise((resolve) => setImmediate(resolve));
      if (this.#stopped) return;
    }
    if (hops.size + own.size > 0) this.#tell({ hops, moved, own });
    this.#later(Math.max(interval, (clock.monotonic() - begin) * restFactor));
  }

  #tell(changes: WayChanges): void {
    for (const hop of changes.hops)
      if (this.#ways.get(hop)?.cost === Number.POSITIVE_INFINITY) this.deps.log.warn({ hop }, 'next hop has no route');
    this.deps.changed(changes);
  }

  /** Undefined: it cannot be found out. Said once until it can again. */
  #look(key: Hop | Cidr): Way | undefined {
    try {
      const way = isPrefix(key) ? this.#own(key) : this.#toHop(key);
      this.#failed = false;
      return way;
    } catch (thrown) {
      if (!(thrown instanceof KernelError)) throw thrown;
      if (!this.#failed) this.deps.log.error({ hop: key, reason: explain(thrown) }, 'next hops cannot be looked up');
      this.#failed = true;
      return undefined;
    }
  }

  #toHop(hop: Hop): Way {
    const found = this.deps.lookup(hop);
    return found ? { cost: found.metric, device: found.device } : { cost: Number.POSITIVE_INFINITY, device: '' };
  }

  #own(prefix: Cidr): Way {
    const { address, length } = cidrParts(prefix);
    const found = this.deps.lookup(address);
    return { cost: 0, device: found && !found.local && found.length === length ? found.device : '' };
  }
}

function isPrefix(key: Hop | Cidr): key is Cidr {
  return key.includes('/');
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
