import type { Family, Ip } from '../model/address.ts';
import { type PrefixId, PrefixTable } from './prefixes.ts';
import type { Attributes } from './wire/attributes.ts';

/** Who told us a route: a peer, or this node itself. One object per peer; the session in force fills in the rest. */
export interface Source {
  /** Unique: the peer's name, or `local`. */
  readonly name: string;
  readonly kind: 'local' | 'ebgp' | 'ibgp';
  readonly address?: Ip;
  /** Device that the session uses: where its link-local next hops are. */
  readonly interface?: string;
  /** Its routes are reflected to every internal peer. RFC 4456 §6. */
  readonly client?: boolean;
  /** BGP identifier of the session in force. */
  identifier: Ip;
}

/** A route without its prefix. Equal ones of one source are the same object. */
export interface Candidate {
  readonly source: Source;
  readonly attributes: Attributes;
  /** Kept over the peer's restart, not yet told again. RFC 4724 §4.2. */
  readonly stale: boolean;
}

/** All candidates of a family's prefixes, and which prefixes changed since they were last looked at. */
export class Rib {
  readonly prefixes: PrefixTable;
  readonly #candidates: (readonly Candidate[] | undefined)[] = [];
  readonly #alone = new WeakMap<Candidate, readonly Candidate[]>();
  /** Each is retained. */
  readonly #dirty = new Set<PrefixId>();

  constructor(
    readonly family: Family,
    private readonly changed: () => void,
  ) {
    this.prefixes = new PrefixTable(family);
  }

  candidates(id: PrefixId): readonly Candidate[] {
    return this.#candidates[id] ?? [];
  }

  /** Adds the candidate, in place of an older one of the same source. */
  set(id: PrefixId, candidate: Candidate): void {
    const before = this.#candidates[id];
    const at = before?.findIndex(({ source }) => source === candidate.source) ?? -1;
    if (at >= 0 && before?.[at] === candidate) return;
    this.#touch(id);
    if (before === undefined) {
      this.prefixes.retain(id);
      this.#candidates[id] = this.#only(candidate);
    } else {
      this.#candidates[id] = at < 0 ? [...before, candidate] : before.with(at, candidate);
    }
  }

  remove(id: PrefixId, source: Source): void {
    const before = this.#candidates[id];
    const after = before?.filter((candidate) => candidate.source !== source);
    if (before === undefined || after?.length === before.length) return;
    this.#touch(id);
    if (after === undefined || after.length === 0) {
      this.#candidates[id] = undefined;
      this.prefixes.release(id);
    } else {
      this.#candidates[id] = after;
    }
  }

  /** Looks at every prefix again, as after a change of what is exported. */
  touchAll(): void {
    for (const id of this.ids()) this.#touch(id);
  }

  /** Prefixes that have a candidate. */
  *ids(): Generator<PrefixId> {
    for (const id of this.#candidates.keys()) if (this.#candidates[id] !== undefined) yield id;
  }

  get pending(): number {
    return this.#dirty.size;
  }

  /** At most `limit` changed prefixes; each is retained and the caller's to release. */
  takeDirty(limit: number): PrefixId[] {
    const taken: PrefixId[] = [];
    for (const id of this.#dirty) {
      if (taken.length >= limit) break;
      taken.push(id);
      this.#dirty.delete(id);
    }
    return taken;
  }

  /** One list for all prefixes that have only this candidate. */
  #only(candidate: Candidate): readonly Candidate[] {
    const known = this.#alone.get(candidate);
    if (known) return known;
    const list = [candidate];
    this.#alone.set(candidate, list);
    return list;
  }

  #touch(id: PrefixId): void {
    if (this.#dirty.has(id)) return;
    this.#dirty.add(id);
    this.prefixes.retain(id);
    if (this.#dirty.size === 1) this.changed();
  }
}

/** What one source has told of one family: its Adj-RIB-In after import checks. RFC 4271 §3.2. */
export class AdjRibIn {
  readonly #routes = new Map<PrefixId, Candidate>();
  readonly #fresh = new WeakMap<Attributes, Candidate>();
  readonly #stale = new WeakMap<Attributes, Candidate>();
  #staleCount = 0;

  constructor(
    private readonly source: Source,
    private readonly rib: Rib,
  ) {}

  get count(): number {
    return this.#routes.size;
  }

  get staleCount(): number {
    return this.#staleCount;
  }

  announce(id: PrefixId, attributes: Attributes): void {
    this.#put(id, this.#candidate(attributes, false));
  }

  withdraw(id: PrefixId): void {
    const before = this.#routes.get(id);
    if (before === undefined) return;
    if (before.stale) this.#staleCount--;
    this.#routes.delete(id);
    this.rib.remove(id, this.source);
    this.rib.prefixes.release(id);
  }

  /** The peer is restarting: routes stay until told again. Those still stale from before go. RFC 4724 §4.2. */
  markStale(): void {
    this.sweep();
    for (const [id, { attributes }] of this.#routes) this.#put(id, this.#candidate(attributes, true));
  }

  /** Gives stale routes other attributes, or drops those without; returns how many went. */
  rewriteStale(change: (attributes: Attributes) => Attributes | undefined): number {
    const before = this.#routes.size;
    for (const [id, { attributes, stale }] of this.#routes) {
      if (!stale) continue;
      const changed = change(attributes);
      if (changed) this.#put(id, this.#candidate(changed, true));
      else this.withdraw(id);
    }
    return before - this.#routes.size;
  }

  /** Drops what is stale; returns how many. */
  sweep(): number {
    const before = this.#routes.size;
    if (this.#staleCount > 0) for (const [id, { stale }] of this.#routes) if (stale) this.withdraw(id);
    return before - this.#routes.size;
  }

  clear(): void {
    for (const id of this.#routes.keys()) this.withdraw(id);
  }

  *entries(): Generator<[PrefixId, Candidate]> {
    yield* this.#routes;
  }

  #put(id: PrefixId, candidate: Candidate): void {
    const before = this.#routes.get(id);
    if (before === candidate) return;
    if (before === undefined) this.rib.prefixes.retain(id);
    this.#staleCount += Number(candidate.stale) - Number(before?.stale ?? false);
    this.#routes.set(id, candidate);
    this.rib.set(id, candidate);
  }

  #candidate(attributes: Attributes, stale: boolean): Candidate {
    const known = stale ? this.#stale : this.#fresh;
    let candidate = known.get(attributes);
    if (candidate === undefined) {
      candidate = { source: this.source, attributes, stale };
      known.set(attributes, candidate);
    }
    return candidate;
  }
}
