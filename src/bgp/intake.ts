import type { Cidr, Family } from '../model/address.ts';
import type { SpeakerContext } from './context.ts';
import { type Filter, operated, type Verdict } from './filters.ts';
import { type ImportContext, type Rejection, rejectAttributes, rejectPrefix } from './importing.ts';
import type { AttributeId } from './intern.ts';
import { limitExceeded, limitState } from './prefix-limit.ts';
import { Rejections } from './rejections.ts';
import type { AdjRibIn } from './rib.ts';
import type { PeerConfig } from './settings.ts';
import type { Source } from './sources.ts';
import type { Attributes } from './wire/attributes.ts';
import type { WireError } from './wire/errors.ts';
import {
  eachPrefix,
  octetsFor,
  type PathCidr,
  type PrefixBlock,
  pathCidrsOf,
  pathIdAt,
  prefixAt,
} from './wire/nlri.ts';
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
  /** What was judged last, under these rules. */
  #last: { readonly attributes: Attributes; readonly rejection: Rejection | undefined } | undefined;

  constructor(
    private readonly source: Source,
    private readonly ribs: ReadonlyMap<Family, AdjRibIn>,
    private readonly context: Pick<SpeakerContext, 'interner' | 'tables' | 'log' | 'monitor'>,
  ) {}

  /** A session begins. */
  open(rules: ImportRules, families: readonly Family[]): void {
    this.adopt(rules);
    this.#warned.clear();
    for (const family of families) this.#tallies.set(family, { received: 0, withdrawn: 0 });
  }

  /** What comes from now on is judged so. */
  adopt(rules: ImportRules): void {
    this.#rules = rules;
    this.#last = undefined;
  }

  /** Families whose filter looks at devices. */
  get judgedByDevice(): readonly Family[] {
    return [...(this.#rules?.filters ?? [])].flatMap(([family, { byDevice }]) => (byDevice ? [family] : []));
  }

  /** Of this session, or of the last one. */
  tally(family: Family): Tally {
    let tally = this.#tallies.get(family);
    if (!tally) {
      tally = { received: 0, withdrawn: 0 };
      this.#tallies.set(family, tally);
    }
    return tally;
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
        { peer: this.source.name, family, count, limit: maxPrefixes.limit },
        'peer nears its prefix limit',
      );
    this.#warned.add(family);
    return state === 'exceeded' && !maxPrefixes.warnOnly ? limitExceeded(family, count, maxPrefixes) : undefined;
  }

  /** @throws WireError that ends the session: the peer tells more than it may */
  update(update: Update, config: Pick<PeerConfig, 'maxPrefixes'>): void {
    const { monitor } = this.context;
    if (monitor.wantsReceived) monitor.received(this.source.name, update);
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
    this.context.log.warn({ peer: this.source.name, ...fields }, message);
  }

  #announce({ block, attributes, id }: Announced): void {
    const { family, octets, paths } = block;
    const adj = this.ribs.get(family);
    const rules = this.#rules;
    if (!adj || !rules) return;
    const rejection = this.#judged(attributes, rules);
    const filter = rules.filters.get(family);
    if (rejection || filter || this.context.monitor.active || this.rejections.size > 0) {
      this.#announceEach(adj, { block, attributes, ...(id === undefined ? {} : { id }) }, rules, rejection);
      return;
    }
    const kept = id ?? this.context.interner.intern(attributes);
    let count = 0;
    for (let at = 0; at < octets.length; count++) {
      const pathId = paths ? pathIdAt(octets, at) : 0;
      if (paths) at += 4;
      const length = octets[at++] ?? 0;
      const reason = rejectPrefix(family, octets, at, length, rules.context);
      if (reason) this.#refuse(adj, block, at, length, pathId, reason, attributes);
      else adj.announceAt(octets, at, length, kept, pathId);
      at += octetsFor(length);
    }
    this.tally(family).received += count;
  }

  /** Where more than the prefix decides, or somebody listens. */
  #announceEach(
    adj: AdjRibIn,
    { block, attributes, id }: Announced,
    rules: ImportRules,
    rejection: Rejection | undefined,
  ): void {
    const { family } = block;
    const { monitor, interner } = this.context;
    const { prefixes } = this.context.tables[family].rib;
    const filter = rules.filters.get(family);
    const shared = new Map<Verdict, AttributeId>();
    if (id !== undefined) shared.set(undefined, id);
    const told = monitor.active ? new Map<AttributeId, PathCidr[]>() : undefined;
    const gone: PathCidr[] = [];
    const tally = this.tally(family);
    eachPrefix(block, (octets, at, length, pathId) => {
      tally.received++;
      const reason = rejection ?? rejectPrefix(family, octets, at, length, rules.context);
      const verdict = reason ? 'reject' : filter?.judge(octets, at, length, attributes, this.source);
      if (verdict === 'reject') {
        const refused = this.#refuse(adj, block, at, length, pathId, reason ?? 'filter', attributes);
        if (refused !== undefined) gone.push(refused);
        return;
      }
      this.#unreject(family, octets, at, length);
      const kept = shared.get(verdict) ?? interner.intern(operated(attributes, verdict ?? []));
      shared.set(verdict, kept);
      if (told) listIn(told, kept).push(named(block, prefixAt(family, octets, at, length), pathId));
      adj.announce(prefixes.intern(octets, at, length), kept, pathId);
    });
    for (const [kept, list] of told ?? []) monitor.announced(this.source.name, family, interner.get(kept), list);
    if (gone.length > 0) monitor.withdrawn(this.source.name, family, gone);
  }

  /** What all prefixes with the attributes share; mostly the last ones come again. */
  #judged(attributes: Attributes, { context }: ImportRules): Rejection | undefined {
    if (this.#last?.attributes !== attributes)
      this.#last = { attributes, rejection: rejectAttributes(attributes, context) };
    return this.#last.rejection;
  }

  /** @returns how monitoring stations know the route, where there was one that now goes */
  #refuse(
    adj: AdjRibIn,
    block: PrefixBlock,
    at: number,
    length: number,
    pathId: number,
    reason: string,
    attributes: Attributes,
  ): PathCidr | undefined {
    const { family, octets } = block;
    this.#reject(reason);
    const prefix = prefixAt(family, octets, at, length);
    this.rejections.add({ prefix, ...(block.paths ? { pathId } : {}), reason, attributes });
    const known = this.context.tables[family].rib.prefixes.find(octets, at, length);
    if (known === undefined) return undefined;
    adj.withdraw(known, pathId);
    return named(block, prefix, pathId);
  }

  #withdraw(block: PrefixBlock): void {
    const { family, octets, paths } = block;
    const adj = this.ribs.get(family);
    const { monitor } = this.context;
    if (monitor.active) monitor.withdrawn(this.source.name, family, pathCidrsOf(block));
    let count = 0;
    for (let at = 0; at < octets.length; count++) {
      const pathId = paths ? pathIdAt(octets, at) : 0;
      if (paths) at += 4;
      const length = octets[at++] ?? 0;
      if (this.rejections.size > 0) this.#unreject(family, octets, at, length);
      adj?.withdrawAt(octets, at, length, pathId);
      at += octetsFor(length);
    }
    this.tally(family).withdrawn += count;
  }

  #unreject(family: Family, octets: Uint8Array, at: number, length: number): void {
    this.rejections.delete(prefixAt(family, octets, at, length));
  }

  #reject(reason: string): void {
    count(this.#rejected, reason);
    this.logOnce(reason, { reason }, 'routes from peer rejected');
  }
}

function count(tally: Map<string, number>, key: string): void {
  tally.set(key, (tally.get(key) ?? 0) + 1);
}

/** As the peer itself names the route. */
function named({ paths }: PrefixBlock, prefix: Cidr, pathId: number): PathCidr {
  return paths ? { prefix, pathId } : prefix;
}

function listIn<K, V>(lists: Map<K, V[]>, key: K): V[] {
  const list = lists.get(key) ?? [];
  lists.set(key, list);
  return list;
}
