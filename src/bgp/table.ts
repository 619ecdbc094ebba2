import type { Cidr, Family } from '../model/address.ts';
import { type Decision, decide } from './decision.ts';
import { contextKey, type ExportContext } from './exporting.ts';
import { type Change, type Receiver, UpdateGroup } from './groups.ts';
import type { AttributeInterner } from './intern.ts';
import type { PrefixId } from './prefixes.ts';
import { type Candidate, Rib, type Source } from './rib.ts';
import type { Attributes } from './wire/attributes.ts';

/** The outcome for a prefix as those beyond the speaker hear of it: undefined when no path is left. */
export interface Selected {
  readonly prefix: Cidr;
  readonly decision: Decision | undefined;
}

export interface TableDeps {
  /** Runs the work once, after what arrived in this turn of the event loop has been read. */
  readonly schedule: (work: () => void) => void;
  readonly interner: AttributeInterner;
  readonly selected: (changes: readonly Selected[]) => void;
  /** Whether anybody listens to `selected`. Default: yes. */
  readonly wanted?: () => boolean;
  /** Nothing is left to decide. */
  readonly settled: () => void;
  readonly oversized: (attributes: Attributes, prefixes: number) => void;
}

/** Prefixes decided between two looks at the sockets. */
const slice = 2048;

/** Loc-RIB of a family: candidates come in, decisions go to the update groups and to whoever programs the routes. */
export class RouteTable {
  readonly rib: Rib;
  readonly #groups = new Map<string, UpdateGroup>();
  readonly #memberships = new Map<Source, UpdateGroup>();
  readonly #selected = new Map<PrefixId, Decision>();
  #scheduled = false;
  #held: boolean;

  /** @param held no path is selected until `release`, as a restarting speaker must. RFC 4724 §4.1 */
  constructor(
    readonly family: Family,
    private readonly deps: TableDeps,
    held: boolean,
  ) {
    this.#held = held;
    this.rib = new Rib(family, () => this.#schedule());
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
  *routes(): Generator<{ prefix: Cidr; candidates: readonly Candidate[]; decision: Decision | undefined }> {
    for (const id of this.rib.ids()) {
      yield {
        prefix: this.rib.prefixes.cidr(id),
        candidates: this.rib.candidates(id),
        decision: this.#selected.get(id),
      };
    }
  }

  /** One prefix of `routes`. */
  route(prefix: Cidr): { candidates: readonly Candidate[]; decision: Decision | undefined } | undefined {
    const id = this.rib.prefixes.findCidr(prefix);
    const candidates = id === undefined ? [] : this.rib.candidates(id);
    return id === undefined || candidates.length === 0 ? undefined : { candidates, decision: this.#selected.get(id) };
  }

  /** What the receiver is told, in the form in which it is told. */
  *advertisements(source: Source): Generator<{ prefix: Cidr; attributes: Attributes }> {
    for (const [id, attributes] of this.#memberships.get(source)?.told(source) ?? []) {
      yield { prefix: this.rib.prefixes.cidr(id), attributes };
    }
  }

  *selections(): Generator<Selected> {
    for (const [id, decision] of this.#selected) yield { prefix: this.rib.prefixes.cidr(id), decision };
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

  advertised(source: Source): number {
    return this.#memberships.get(source)?.advertised(source) ?? 0;
  }

  #group(context: ExportContext): UpdateGroup {
    const key = contextKey(context);
    const known = this.#groups.get(key);
    if (known) return known;
    const group = new UpdateGroup(context, this.rib.prefixes, this.deps.interner, this.deps.oversized);
    this.#groups.set(key, group);
    group.apply([...this.#selected].map(([id, { best }]): Change => ({ id, best })));
    return group;
  }

  #dropEmpty(group: UpdateGroup): void {
    if (!group.empty) return;
    this.#groups.delete(contextKey(group.context));
    group.dissolve();
  }

  #schedule(): void {
    if (this.#scheduled || this.#held) return;
    this.#scheduled = true;
    this.deps.schedule(() => {
      this.#scheduled = false;
      this.#work();
    });
  }

  /** One slice; more of it gives way to the event loop first. */
  #work(): void {
    if (this.#held) return;
    const changes: Change[] = [];
    const selected: Selected[] = [];
    const dirty = this.rib.takeDirty(slice);
    const wanted = this.deps.wanted?.() ?? true;
    for (const id of dirty) {
      const decision = decide(this.rib.candidates(id));
      this.#select(id, decision);
      changes.push({ id, best: decision?.best });
      if (wanted) selected.push({ prefix: this.rib.prefixes.cidr(id), decision });
    }
    if (changes.length > 0) {
      for (const group of this.#groups.values()) group.apply(changes);
      if (wanted) this.deps.selected(selected);
    }
    for (const id of dirty) this.rib.prefixes.release(id);
    let more = this.rib.pending > 0;
    for (const group of this.#groups.values()) more = group.pump(this.rib.pending === 0) || more;
    if (more) this.#schedule();
    if (this.rib.pending === 0) this.deps.settled();
  }

  #select(id: PrefixId, decision: Decision | undefined): void {
    const before = this.#selected.has(id);
    if (decision) {
      this.#selected.set(id, decision);
      if (!before) this.rib.prefixes.retain(id);
    } else if (before) {
      this.#selected.delete(id);
      this.rib.prefixes.release(id);
    }
  }
}
