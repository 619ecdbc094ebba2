import { fitting } from '../../base/id-index.ts';
import type { RouteForm, RouteReading } from '../../kernel/types.ts';
import type { Family } from '../../model/address.ts';
import type { DestinationId } from '../calc/destinations.ts';
import type { FormId } from '../calc/forms.ts';
import type { RouteTable } from '../calc/routes.ts';
import type { Turns } from '../slices.ts';
import type { HeldRoutes } from './held-routes.ts';

/** Destinations compared before the clock is looked at. */
const comparedAtOnce = 1024;

/** One family's routes as the kernel gave them. */
export type FamilyReading = Pick<RouteReading, 'runs'> & { readonly family: Family };

/**
 * Takes over what was read of the kernel, a slice in a turn of the event loop. What is told meanwhile is newer than what
 * was read, and waits for the end.
 */
export class RouteReader {
  /** Of a run that is being taken. */
  #ids = new Int32Array(256);
  /** Destinations that have several routes: what is to be done is known when all are found. */
  readonly #again = new Set<DestinationId>();
  /** While something is being taken over: what was told since, in order. */
  #later: (() => void)[] | undefined;

  constructor(
    private readonly table: RouteTable,
    private readonly held: HeldRoutes,
    private readonly belief: {
      /** The form of a route as found: what is wanted, where it is the same. */
      readonly formOf: (id: DestinationId, found: RouteForm) => FormId;
      /** Whether something is to be done about a destination. */
      readonly differs: (id: DestinationId) => boolean;
    },
  ) {}

  /** @returns whether `tell` has to wait; it is called at the end then */
  defers(tell: () => void): boolean {
    this.#later?.push(tell);
    return this.#later !== undefined;
  }

  /**
   * Every destination that is not as wanted is touched.
   * @param taken called when all is taken over, before what was told meanwhile
   */
  async take(readings: readonly FamilyReading[], turns: Turns, taken: () => void): Promise<void> {
    this.#later = [];
    this.#again.clear();
    this.held.begin();
    try {
      for (const reading of readings) await this.#takeFamily(reading, turns);
      for (const { family } of readings) await this.#touchMissing(family, turns);
      for (const id of this.#again) if (this.belief.differs(id)) this.table.touch(id);
      taken();
    } finally {
      this.#tellAll();
    }
  }

  /** What is told during `action` waits for its end. */
  aside(action: () => void): void {
    this.#later = [];
    try {
      action();
    } finally {
      this.#tellAll();
    }
  }

  #tellAll(): void {
    const later = this.#later ?? [];
    this.#later = undefined;
    for (const tell of later) tell();
  }

  async #takeFamily({ family, runs }: FamilyReading, turns: Turns): Promise<void> {
    for (const { prefixes, form } of runs()) {
      this.#ids = fitting(this.#ids, prefixes.count - 1);
      this.table.destinations.internRun(family, prefixes, this.#ids);
      this.#takeRun(this.#ids.subarray(0, prefixes.count), form);
      if (turns.enough()) await turns.next();
    }
  }

  /** The kernel has routes of the form to the destinations, nearly all of which are wanted in one form. */
  #takeRun(ids: Int32Array, form: RouteForm): void {
    const { table, held, belief } = this;
    for (let at = 0; at < ids.length; ) {
      const first = ids[at] ?? 0;
      const wish = table.form(first);
      let end = at + 1;
      while (end < ids.length && table.form(ids[end] ?? 0) === wish) end++;
      const found = belief.formOf(first, form);
      const alike = ids.subarray(at, end);
      for (const id of held.foundAlike(alike, found)) this.#again.add(id);
      if (found !== wish) for (const id of alike) if (belief.differs(id)) table.touch(id);
      at = end;
    }
  }

  async #touchMissing(family: Family, turns: Turns): Promise<void> {
    const { destinations } = this.table;
    const bound = destinations.bound(family);
    // Every second one is of this family.
    for (let first = destinations.firstId(family); first < bound; first += 2 * comparedAtOnce) {
      this.#touchSome(first, Math.min(bound, first + 2 * comparedAtOnce));
      if (turns.enough()) await turns.next();
    }
  }

  #touchSome(first: DestinationId, end: DestinationId): void {
    const { table, held } = this;
    for (let id = first; id < end; id += 2)
      if (!held.seen(id)) {
        held.drop(id);
        if (table.form(id) !== undefined) table.touch(id);
      }
  }
}
