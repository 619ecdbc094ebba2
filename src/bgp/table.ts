import type { Cidr, Family } from '../model/address.ts';
import type { Hop } from '../model/feed.ts';
import type { PrefixId } from '../model/prefixes.ts';
import { ChosenRoutes } from './chosen.ts';
import { type Decision, decide } from './decision.ts';
import { contextKey, type ExportContext } from './exporting.ts';
import type { Group, Receiver } from './group.ts';
import { UpdateGroup } from './groups.ts';
import type { AttributeInterner } from './intern.ts';
import { type CostOf, pathsOver } from './next-hops.ts';
import { PathGroup } from './path-group.ts';
import { type Candidate, type PathId, Rib, type Source } from './rib.ts';
import type { Attributes } from './wire/attributes.ts';

/** The outcome for a prefix as those beyond the speaker hear of it: undefined when no path is left. */
export interface Selected {
  readonly prefix: Cidr;
  readonly decision: Decision | undefined;
}

/** A prefix with all its paths, and which of them is best: undefined before anything is selected. */
export interface TableRoute {
  readonly prefix: Cidr;
  readonly candidates: readonly Candidate[];
  readonly decision: Decision | undefined;
}

export interface TableDeps {
  /** Runs the work once, after what arrived in this turn of the event loop has been read. */
  readonly schedule: (work: () => void) => void;
  readonly interner: AttributeInterner;
  readonly selected: (changes: readonly Selected[]) => void;
  /** Whether anybody listens to `selected`. Default: yes. */
  readonly wanted?: () => boolean;
  /** Milliseconds, of which a slice of work takes `sliceMilliseconds` at most; absent: as many as `slice` prefixes need. */
  readonly now?: () => number;
  /** How next hops are reached; absent: each counts as near. */
  readonly costOf?: CostOf;
  /** Nothing is left to decide. */
  readonly settled: () => void;
  readonly oversized: (attributes: Attributes, prefixes: number) => void;
}

/** Prefixes decided between two looks at the sockets, in steps between two looks at the clock: of the groups' size. */
const slice = 16_384;
const largestStep = 1024;
const sliceMilliseconds = 8;
/** Of what goes on beside that: peers' tables that are given up. */
const backgroundMilliseconds = 4;

/** Loc-RIB of a family: candidates come in, decisions go to the update groups and to whoever programs the routes. */
export class RouteTable {
  readonly rib: Rib;
  readonly #groups = new Map<string, Group>();
  readonly #memberships = new Map<Source, Group>();
  readonly #selected: ChosenRoutes;
  /** New groups that do not yet know all that is selected, and from which prefix on; their members wait. */
  readonly #filling = new Map<Group, PrefixId>();
  /** Prefixes that export filters are asked about again, though the same path stays the best. */
  readonly #rejudged = new Set<PrefixId>();
  #scheduled = false;
  #held: boolean;

  /** @param held no path is selected until `release`, as a restarting speaker must. RFC 4724 §4.1 */
  constructor(
    readonly family: Family,
    private readonly deps: TableDeps,
    held: boolean,
  ) {
    this.#held = held;
    this.rib = new Rib(
      family,
      deps.interner,
      () => this.#schedule(),
      (slice) => this.#inSlices(slice),
    );
    this.#selected = new ChosenRoutes(this.rib);
  }

  get held(): boolean {
    return this.#held;
  }

  /** Every change has been decided. */
  get settled(): boolean {
    return !this.#held && this.rib.pending === 0;
  }

  /** Path selection begins. */
  release(): void {
    this.#held = false;
    this.#schedule();
  }

  /** Every prefix with its decision, selected or (while held) not yet. */
  *routes(): Generator<TableRoute> {
    for (const id of this.rib.ids()) yield { prefix: this.rib.prefixes.cidr(id), ...this.#route(id) };
  }

  /** One prefix of `routes`. */
  route(prefix: Cidr): Omit<TableRoute, 'prefix'> | undefined {
    const id = this.rib.prefixes.findCidr(prefix);
    return id === undefined || this.rib.first(id) === 0 ? undefined : this.#route(id);
  }

  /** What is kept is the outcome; how it came about is found out again for whoever asks. */
  #route(id: PrefixId): Omit<TableRoute, 'prefix'> {
    const candidates = this.rib.candidates(id);
    return { candidates, decision: this.#selected.attributes(id) === 0 ? undefined : this.#decided(candidates) };
  }

  /** Whether the candidate's next hop has a route, as far as is known. */
  eligible(candidate: Candidate): boolean {
    return this.deps.costOf?.(candidate) !== Number.POSITIVE_INFINITY;
  }

  /**
   * Next hops are reached in other ways now, and own prefixes lead through other devices: every prefix with a path over
   * one of them, and every such prefix, is decided and judged again.
   */
  async reconsider(hops: ReadonlySet<Hop>, own: Iterable<Cidr> = []): Promise<void> {
    const judged = [...this.#groups.values()].some(({ context }) => context.filter?.byDevice);
    for (const prefix of own) this.#again(this.rib.prefixes.findCidr(prefix), judged);
    if (hops.size === 0) return;
    for (const ids of pathsOver(this.rib, hops)) {
      for (const id of ids) this.#again(id, judged);
      await new Promise<void>((resolve) => this.deps.schedule(resolve));
    }
  }

  #again(id: PrefixId | undefined, judged: boolean): void {
    if (id === undefined) return;
    this.rib.touch(id);
    if (judged) this.#rejudged.add(id);
  }

  #decided(candidates: readonly Candidate[]): Decision | undefined {
    return decide(candidates, this.deps.costOf);
  }

  /** What the receiver is told, in the form in which it is told. */
  *advertisements(source: Source): Generator<{ prefix: Cidr; attributes: Attributes; pathId?: number }> {
    for (const { id, ...route } of this.#memberships.get(source)?.told(source) ?? [])
      yield { prefix: this.rib.prefixes.cidr(id), ...route };
  }

  *selections(): Generator<Selected> {
    for (const id of this.#selected.ids())
      yield { prefix: this.rib.prefixes.cidr(id), decision: this.#decided(this.rib.candidates(id)) };
  }

  /** From now on the receiver is told every route; first all that is there, then the end-of-RIB mark. */
  join(receiver: Receiver, context: ExportContext): void {
    const group = this.#group(context);
    group.join(receiver);
    this.#memberships.set(receiver.source, group);
    this.#schedule();
  }

  /** What a receiver is told, or its form, changed while the session stays. */
  change(source: Source, context: ExportContext): void {
    const before = this.#memberships.get(source);
    if (!before || contextKey(before.context) === contextKey(context)) return;
    const group = this.#group(context);
    before.move(source, group);
    this.#memberships.set(source, group);
    this.#dropEmpty(before);
    this.#schedule();
  }

  leave(source: Source): void {
    const group = this.#memberships.get(source);
    if (!group) return;
    this.#memberships.delete(source);
    group.leave(source);
    this.#dropEmpty(group);
  }

  /** Everything once more. @param enhanced between marks, as RFC 7313 wants */
  refresh(source: Source, enhanced = false): void {
    this.#memberships.get(source)?.refresh(source, enhanced);
    this.#schedule();
  }

  /** A receiver can take more. */
  resume(): void {
    this.#schedule();
  }

  /** Prefixes whose best path the source told. */
  preferred(source: Source): number {
    return this.#selected.countOf(this.rib.sources.find(source));
  }

  advertised(source: Source): number {
    return this.#memberships.get(source)?.advertised(source) ?? 0;
  }

  #group(context: ExportContext): Group {
    const key = contextKey(context);
    const known = this.#groups.get(key);
    if (known) return known;
    const group = this.#newGroup(context);
    this.#groups.set(key, group);
    this.#filling.set(group, 0);
    return group;
  }

  #newGroup(context: ExportContext): Group {
    const { oversized, costOf } = this.deps;
    if (context.paths === undefined) return new UpdateGroup(context, this.rib, oversized);
    return new PathGroup(context, this.rib, oversized, context.paths, costOf);
  }

  #dropEmpty(group: Group): void {
    if (!group.empty) return;
    this.#groups.delete(contextKey(group.context));
    this.#filling.delete(group);
    group.dissolve();
  }

  #schedule(): void {
    if (this.#scheduled || this.#held) return;
    this.#scheduled = true;
    this.deps.schedule(this.#work);
  }

  /** The first slice at once, so that little is done at once. */
  #inSlices(slice: (over: () => boolean) => boolean): void {
    if (slice(this.#sliceOf(backgroundMilliseconds))) this.deps.schedule(() => this.#inSlices(slice));
  }

  /** Tells when so many milliseconds from now are over; never, without a clock. */
  #sliceOf(milliseconds: number): () => boolean {
    const { now } = this.deps;
    if (!now) return () => false;
    const until = now() + milliseconds;
    return () => now() >= until;
  }

  /** One slice; more of it gives way to the event loop first. */
  readonly #work = (): void => {
    this.#scheduled = false;
    if (this.#held) return;
    const { interner } = this.deps;
    const over = this.#sliceOf(sliceMilliseconds);
    const step = this.#step();
    for (let done = 0; done < slice && this.rib.pending > 0; done += step) {
      this.#decide(Math.min(step, this.rib.pending));
      if (this.rib.pending > 0 && over()) break;
    }
    if (this.#filling.size > 0) for (const [group, from] of this.#filling) this.#fill(group, from, over);
    let more = this.rib.pending > 0 || this.#filling.size > 0;
    for (const group of this.#groups.values())
      if (!this.#filling.has(group)) more = group.pump(this.rib.pending === 0, over) || more;
    if (more) this.#schedule();
    interner.sweep();
    if (this.rib.pending === 0) this.deps.settled();
  };

  #step(): number {
    let step = largestStep;
    for (const group of this.#groups.values()) step = Math.min(step, group.step);
    return step;
  }

  /** Tells a new group of selected routes; at least one step of them, so that it comes to an end under any load. */
  #fill(group: Group, from: PrefixId, over: () => boolean): void {
    let next = from;
    do {
      const ids: PrefixId[] = [];
      for (; next < this.#selected.bound && ids.length < group.step; next++)
        if (this.#selected.attributes(next) !== 0) ids.push(next);
      group.apply(ids, ids, this.#selected);
    } while (next < this.#selected.bound && !over());
    if (next < this.#selected.bound) this.#filling.set(group, next);
    else this.#filling.delete(group);
  }

  /** Selects the best path of so many changed prefixes, and tells of what became different. */
  #decide(count: number): void {
    const { rib } = this;
    const wanted = this.deps.wanted?.() ?? true;
    const taken: PrefixId[] = [];
    const changed: PrefixId[] = [];
    const selected: Selected[] = [];
    for (let i = 0; i < count; i++) {
      const id = rib.takeDirty();
      taken.push(id);
      const first = rib.first(id);
      let best = first;
      if (wanted) {
        const decision = this.#decided(rib.candidates(id));
        selected.push({ prefix: rib.prefixes.cidr(id), decision });
        best = this.#pathOf(id, decision);
      } else if (first !== 0 && (this.deps.costOf !== undefined || rib.next(first) !== 0))
        best = this.#pathOf(id, this.#decided(rib.candidates(id)));
      const isNew = this.#selected.set(id, best === 0 ? 0 : rib.attributes(best), best === 0 ? 0 : rib.source(best));
      if (isNew || (this.#rejudged.size > 0 && this.#rejudged.delete(id))) changed.push(id);
    }
    for (const group of this.#groups.values()) group.apply(taken, changed, this.#selected);
    if (wanted) this.deps.selected(selected);
    for (const id of taken) rib.prefixes.release(id);
  }

  /** 0: there is none. */
  #pathOf(id: PrefixId, decision: Decision | undefined): PathId {
    if (!decision) return 0;
    const { best } = decision;
    let path = this.rib.first(id);
    while (path !== 0 && !this.#is(path, best)) path = this.rib.next(path);
    return path;
  }

  #is(path: PathId, { source, pathId = 0 }: Candidate): boolean {
    return this.rib.sources.get(this.rib.source(path)) === source && this.rib.identifier(path) === pathId;
  }
}
