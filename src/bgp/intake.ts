import { type Cidr, cidrOf, type Family, octets as octetsOf } from '../model/address.ts';
import type { SpeakerContext } from './context.ts';
import { type Filter, operated, type Verdict } from './filters.ts';
import { type ImportContext, rejectAttributes, rejectPrefix } from './importing.ts';
import type { AttributeId } from './intern.ts';
import { limitExceeded, limitState } from './prefix-limit.ts';
import { Rejections } from './rejections.ts';
import type { AdjRibIn } from './rib.ts';
import type { PeerConfig } from './settings.ts';
import type { WireError } from './wire/errors.ts';
import { eachPrefix, octetsFor, type PathCidr, type PrefixBlock, pathCidrsOf } from './wire/nlri.ts';
import type { Announced, Update } from './wire/update.ts';

/** Prefixes of one family that a peer told and withdrew in the session. */
export interface Tally {
  received: number;
  withdrawn: number;
}

/** What a session's import depends on. */
export interface ImportRules {
  readonly context: ImportContext;
  readonly filters: ReadonlyMap<Family, Filter>;
}

/** What a peer tells, on its way through the import checks into its Adj-RIB-In, and what is refused or malformed. */
export class Intake {
  readonly rejections = new Rejections();
  readonly #tallies = new Map<Family, Tally>();
  readonly #faults = new Map<string, number>();
  readonly #rejected = new Map<string, number>();
  readonly #logged = new Set<string>();
  /** Families near their limit, of which the log has told in this session. */
  readonly #warned = new Set<Family>();
  #rules: ImportRules | undefined;

  constructor(
    private readonly name: string,
    private readonly ribs: ReadonlyMap<Family, AdjRibIn>,
    private readonly context: Pick<SpeakerContext, 'interner' | 'tables' | 'log' | 'monitor'>,
  ) {}

  /** A session begins. */
  open(rules: ImportRules, families: readonly Family[]): void {
    this.#rules = rules;
    this.#warned.clear();
    for (const family of families) this.#tallies.set(family, { received: 0, withdrawn: 0 });
  }

  /** What comes from now on is judged so. */
  adopt(rules: ImportRules): void {
    this.#rules = rules;
  }

  tally(family: Family): Tally {
    return this.#tallies.get(family) ?? { received: 0, withdrawn: 0 };
  }

  get faults(): Readonly<Record<string, number>> {
    return Object.fromEntries(this.#faults);
  }

  get rejected(): Readonly<Record<string, number>> {
    return Object.fromEntries(this.#rejected);
  }

  /** What ends the session when more is kept of a family than may be; a warning is logged on the way there. */
  overLimit(family: Family, { maxPrefixes }: Pick<PeerConfig, 'maxPrefixes'>): WireError | undefined {
    if (!maxPrefixes) return undefined;
    const count = this.ribs.get(family)?.count ?? 0;
    const state = limitState(count, maxPrefixes);
    if (state === 'within') {
      this.#warned.delete(family);
      return undefined;
    }
    if (!this.#warned.has(family))
      this.context.log.warn(
        { peer: this.name, family, count, limit: maxPrefixes.limit },
        'peer nears its prefix limit',
      );
    this.#warned.add(family);
    return state === 'exceeded' && !maxPrefixes.warnOnly ? limitExceeded(family, count, maxPrefixes) : undefined;
  }

  /** @throws WireError that ends the session: the peer tells more than it may */
  update(update: Update, config: Pick<PeerConfig, 'maxPrefixes'>): void {
    const { monitor } = this.context;
    if (monitor.wantsReceived) monitor.received(this.name, update);
    for (const { field, remedy, message } of update.faults) {
      count(this.#faults, `${field} ${remedy}`);
      this.logOnce(`${field} ${remedy}`, { field, remedy, detail: message }, 'malformed attribute in UPDATE');
    }
    for (const block of update.withdrawn) this.#withdraw(block);
    for (const announced of update.announced) {
      this.#announce(announced);
      const excess = this.overLimit(announced.block.family, config);
      if (excess) throw excess;
    }
  }

  /** The first of its kind in this peer's life is a line in the log; counters tell of the rest. */
  logOnce(key: string, fields: object, message: string): void {
    if (this.#logged.has(key) || this.#logged.size > 64) return;
    this.#logged.add(key);
    this.context.log.warn({ peer: this.name, ...fields }, message);
  }

  #announce({ block, attributes, id }: Announced): void {
    const { family } = block;
    const adj = this.ribs.get(family);
    const rules = this.#rules;
    if (!adj || !rules) return;
    const { monitor, interner } = this.context;
    const rejection = rejectAttributes(attributes, rules.context);
    const { prefixes } = this.context.tables[family].rib;
    const filter = rules.filters.get(family);
    const shared = new Map<Verdict, AttributeId>();
    if (id !== undefined) shared.set(undefined, id);
    const told = monitor.active ? new Map<AttributeId, PathCidr[]>() : undefined;
    const gone: PathCidr[] = [];
    const named = (prefix: Cidr, pathId: number): PathCidr => (block.paths ? { prefix, pathId } : prefix);
    const tally = this.#tallies.get(family);
    eachPrefix(block, (octets, at, length, pathId) => {
      if (tally) tally.received++;
      const reason = rejection ?? rejectPrefix(family, octets, at, length, rules.context);
      const verdict = reason ? 'reject' : filter?.judge(octets, at, length, attributes, true);
      if (verdict !== 'reject') {
        this.#unreject(family, octets, at, length);
        const kept = shared.get(verdict) ?? interner.intern(operated(attributes, verdict ?? []));
        shared.set(verdict, kept);
        if (told) listIn(told, kept).push(named(prefixAt(family, octets, at, length), pathId));
        adj.announce(prefixes.intern(octets, at, length), kept, pathId);
        return;
      }
      this.#reject(reason ?? 'filter');
      const prefix = prefixAt(family, octets, at, length);
      const which = block.paths ? { pathId } : {};
      this.rejections.add({ prefix, ...which, reason: reason ?? 'filter', attributes });
      const known = prefixes.find(octets, at, length);
      if (known === undefined) return;
      adj.withdraw(known, pathId);
      gone.push(named(prefix, pathId));
    });
    for (const [kept, list] of told ?? []) monitor.announced(this.name, family, interner.get(kept), list);
    monitor.withdrawn(this.name, family, gone);
  }

  #withdraw(block: PrefixBlock): void {
    const { family } = block;
    const adj = this.ribs.get(family);
    const { prefixes } = this.context.tables[family].rib;
    const { monitor } = this.context;
    if (monitor.active) monitor.withdrawn(this.name, family, pathCidrsOf(block));
    const tally = this.#tallies.get(family);
    eachPrefix(block, (octets, at, length, pathId) => {
      if (tally) tally.withdrawn++;
      this.#unreject(family, octets, at, length);
      const id = prefixes.find(octets, at, length);
      if (id !== undefined) adj?.withdraw(id, pathId);
    });
  }

  #unreject(family: Family, octets: Uint8Array, at: number, length: number): void {
    if (this.rejections.size > 0) this.rejections.delete(prefixAt(family, octets, at, length));
  }

  #reject(reason: string): void {
    count(this.#rejected, reason);
    this.logOnce(reason, { reason }, 'routes from peer rejected');
  }
}

function count(tally: Map<string, number>, key: string): void {
  tally.set(key, (tally.get(key) ?? 0) + 1);
}

function prefixAt(family: Family, octets: Uint8Array, at: number, length: number): Cidr {
  const address = new Uint8Array(octetsOf(family));
  address.set(octets.subarray(at, at + octetsFor(length)));
  return cidrOf(address, length);
}

function listIn<K, V>(lists: Map<K, V[]>, key: K): V[] {
  const list = lists.get(key) ?? [];
  lists.set(key, list);
  return list;
}
