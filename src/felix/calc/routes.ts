import { fitting } from '../../base/id-index.ts';
import { withDestination } from '../../kernel/route.ts';
import type { Route, RouteForm } from '../../kernel/types.ts';
import type { Cidr, Family } from '../../model/address.ts';
import { type DestinationId, Destinations } from './destinations.ts';
import { type FormId, RouteForms } from './forms.ts';

/** Who wants a route, best first: the first class that has the destination wins it. */
export const routeClasses = ['localWorkload', 'vxlan', 'ipip', 'udp', 'noEncap', 'bgp', 'blackhole'] as const;
export type RouteClass = (typeof routeClasses)[number];

/** A route somebody wants. */
export interface Candidate {
  readonly class: RouteClass;
  /** Endpoint key, block, or prefix of the feed: with the class it names who wants the route. */
  readonly owner: string;
  /** Among candidates of one class the greater text wins, then the smaller owner. */
  readonly preference: string;
  readonly route: Route;
}

/** Who has a destination, for those who ask whether its route may be added. */
export interface Winner {
  readonly class: RouteClass;
  readonly family: Family;
  /** Undefined for one that is named after the destination. */
  readonly owner: string | undefined;
}

const families: readonly Family[] = [4, 6];

/** Beside a form: routeClasses fit in so many bits. */
const classBits = 3;

/**
 * The node's one route table: every source's wishes, and the winner for each destination. The outcome depends on what
 * is wanted and never on the order in which it was said. A destination that one source wants, and by no other name than
 * its own, as nearly all are, takes four octets; only the others have lists.
 */
export class RouteTable {
  /** By destination: class and form of the winner as one number, + 1; 0: nobody wants it. */
  #won = new Int32Array(256);
  readonly #several = new Map<DestinationId, readonly Candidate[]>();
  readonly #counts = routeClasses.map(() => 0);
  #dirty: DestinationId[] = [];
  /** By destination: 1 for those in `#dirty`. */
  #marks = new Uint8Array(256);

  constructor(
    readonly destinations = new Destinations(),
    readonly forms = new RouteForms(),
  ) {}

  /** The winner for each destination, made as it is looked at. */
  get winners(): ReadonlyMap<Cidr, Candidate> {
    return new Winners(this);
  }

  /** Destinations that a class has, or all have together. */
  count(routeClass?: RouteClass): number {
    if (routeClass) return this.#counts[routeClasses.indexOf(routeClass)] ?? 0;
    return this.#counts.reduce((sum, each) => sum + each, 0);
  }

  add(candidate: Candidate): void {
    const { class: routeClass, route } = candidate;
    if (isPlain(candidate)) this.want(routeClass, route.destination, route);
    else this.#add(this.destinations.intern(route.destination), candidate);
  }

  /** As `add`, by one who has the destination's name. */
  want(routeClass: RouteClass, destination: Cidr, form: RouteForm): void {
    const id = this.destinations.intern(destination);
    const won = this.#won[id] ?? 0;
    const code = routeClasses.indexOf(routeClass);
    if (!this.#several.has(id) && (won === 0 || codeOf(won) === code)) this.#set(id, code, this.forms.intern(form));
    else this.#add(id, plainCandidate(routeClass, destination, form));
  }

  remove(destination: Cidr, by: { readonly class: RouteClass; readonly owner: string }): void {
    const id = this.destinations.find(destination);
    if (id === undefined) return;
    const wishes = this.wishes(id);
    if (wishes.some((one) => sameOwner(one, by)))
      this.#decide(
        id,
        wishes.filter((one) => !sameOwner(one, by)),
      );
  }

  /** Destinations whose winner may have changed since the last call, and those touched. */
  takeDirty(): readonly DestinationId[] {
    const dirty = this.#dirty;
    this.#dirty = [];
    for (const id of dirty) this.#marks[id] = 0;
    return dirty;
  }

  /** The destination is looked at again. */
  touch(id: DestinationId): void {
    if (this.#marks[id] === 1) return;
    this.#marks = fitting(this.#marks, id);
    this.#marks[id] = 1;
    this.#dirty.push(id);
  }

  /** What the winner wants; undefined: nothing. */
  form(id: DestinationId): FormId | undefined {
    const won = this.#won[id] ?? 0;
    return won === 0 ? undefined : (won - 1) >> classBits;
  }

  /** Of a destination that somebody wants. */
  winner(id: DestinationId): Winner {
    const code = codeOf(this.#won[id] ?? 0);
    const family = this.destinations.family(id);
    const several = this.#several.size > 0 ? this.#several.get(id) : undefined;
    if (!several) return plainWinners[family][code] ?? plainWinner(family, 'blackhole');
    return { class: routeClasses[code] ?? 'blackhole', family, owner: best(several)?.owner };
  }

  /** All that is wanted of a destination. */
  wishes(id: DestinationId): readonly Candidate[] {
    const several = this.#several.get(id);
    const form = this.form(id);
    if (several || form === undefined) return several ?? [];
    return [plainCandidate(this.winner(id).class, this.destinations.cidr(id), this.forms.get(form))];
  }

  #add(id: DestinationId, candidate: Candidate): void {
    this.#decide(id, [...this.wishes(id).filter((one) => !sameOwner(one, candidate)), candidate]);
  }

  #decide(id: DestinationId, wishes: readonly Candidate[]): void {
    const winner = best(wishes);
    const [only] = wishes;
    if (winner && (wishes.length > 1 || (only && !isPlain(only)))) this.#several.set(id, wishes);
    else this.#several.delete(id);
    if (winner) this.#set(id, routeClasses.indexOf(winner.class), this.forms.intern(winner.route));
    else this.#clear(id);
  }

  #set(id: DestinationId, code: number, form: FormId): void {
    const won = ((form << classBits) | code) + 1;
    const before = this.#won[id] ?? 0;
    if (won === before) return;
    this.forms.retain(form);
    if (before === 0) this.destinations.retain(id);
    else this.#discount(before);
    this.#won = fitting(this.#won, id);
    this.#won[id] = won;
    this.#counts[code] = (this.#counts[code] ?? 0) + 1;
    this.touch(id);
  }

  #clear(id: DestinationId): void {
    const before = this.#won[id] ?? 0;
    if (before === 0) return;
    this.#won[id] = 0;
    this.#discount(before);
    this.touch(id);
    this.destinations.release(id);
  }

  #discount(won: number): void {
    const code = codeOf(won);
    this.#counts[code] = (this.#counts[code] ?? 0) - 1;
    this.forms.release((won - 1) >> classBits);
  }
}

/** The winners of a table as a map of candidates. */
class Winners implements ReadonlyMap<Cidr, Candidate> {
  constructor(private readonly table: RouteTable) {}

  get size(): number {
    return this.table.count();
  }

  get(destination: Cidr): Candidate | undefined {
    const id = this.table.destinations.find(destination);
    return id === undefined ? undefined : best(this.table.wishes(id));
  }

  has(destination: Cidr): boolean {
    return this.get(destination) !== undefined;
  }

  *entries(): MapIterator<[Cidr, Candidate]> {
    const { destinations } = this.table;
    for (const family of families)
      for (let id = destinations.firstId(family); id < destinations.bound(family); id += 2) {
        const winner = best(this.table.wishes(id));
        if (winner) yield [winner.route.destination, winner];
      }
  }

  *keys(): MapIterator<Cidr> {
    for (const [destination] of this.entries()) yield destination;
  }

  *values(): MapIterator<Candidate> {
    for (const [, winner] of this.entries()) yield winner;
  }

  forEach(action: (winner: Candidate, destination: Cidr, map: ReadonlyMap<Cidr, Candidate>) => void): void {
    for (const [destination, winner] of this.entries()) action(winner, destination, this);
  }

  [Symbol.iterator](): MapIterator<[Cidr, Candidate]> {
    return this.entries();
  }
}

function plainWinner(family: Family, routeClass: RouteClass): Winner {
  return { class: routeClass, family, owner: undefined };
}

/** By class: made once, since a hundred thousand may be asked for in one pass. */
const plainWinners: Readonly<Record<Family, readonly Winner[]>> = {
  4: routeClasses.map((each) => plainWinner(4, each)),
  6: routeClasses.map((each) => plainWinner(6, each)),
};

function codeOf(won: number): number {
  return (won - 1) & ((1 << classBits) - 1);
}

function isPlain({ owner, preference, route }: Candidate): boolean {
  return preference === '' && owner === route.destination;
}

function plainCandidate(routeClass: RouteClass, destination: Cidr, form: RouteForm): Candidate {
  const route = withDestination(form, destination);
  return { class: routeClass, owner: destination, preference: '', route };
}

function best(wishes: readonly Candidate[]): Candidate | undefined {
  let found: Candidate | undefined;
  for (const next of wishes) if (!found || beats(next, found)) found = next;
  return found;
}

function beats(a: Candidate, b: Candidate): boolean {
  const byClass = routeClasses.indexOf(a.class) - routeClasses.indexOf(b.class);
  if (byClass !== 0) return byClass < 0;
  if (a.preference !== b.preference) return a.preference > b.preference;
  return a.owner < b.owner;
}

function sameOwner(a: { class: RouteClass; owner: string }, b: { class: RouteClass; owner: string }): boolean {
  return a.class === b.class && a.owner === b.owner;
}
