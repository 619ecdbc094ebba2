import type { Route } from '../../kernel/types.ts';
import type { Cidr } from '../../model/address.ts';

/** Who wants a route, best first: the first class that has the destination wins it. */
export const routeClasses = ['localWorkload', 'vxlan', 'ipip', 'noEncap', 'bgp', 'blackhole'] as const;
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

/**
 * The node's one route table: every source's wishes, and the winner for each destination. The outcome depends on what
 * is wanted and never on the order in which it was said.
 */
export class RouteTable {
  readonly #wishes = new Map<Cidr, Candidate[]>();
  readonly #winners = new Map<Cidr, Candidate>();
  #dirty = new Set<Cidr>();

  /** The winner for each destination. */
  get winners(): ReadonlyMap<Cidr, Candidate> {
    return this.#winners;
  }

  add(candidate: Candidate): void {
    const { destination } = candidate.route;
    const others = (this.#wishes.get(destination) ?? []).filter((other) => !sameOwner(other, candidate));
    this.#decide(destination, [...others, candidate]);
  }

  remove(destination: Cidr, by: { readonly class: RouteClass; readonly owner: string }): void {
    const wishes = this.#wishes.get(destination);
    if (wishes)
      this.#decide(
        destination,
        wishes.filter((other) => !sameOwner(other, by)),
      );
  }

  /** Destinations whose winner may have changed since the last call. */
  takeDirty(): ReadonlySet<Cidr> {
    const dirty = this.#dirty;
    this.#dirty = new Set();
    return dirty;
  }

  #decide(destination: Cidr, wishes: Candidate[]): void {
    if (wishes.length === 0) this.#wishes.delete(destination);
    else this.#wishes.set(destination, wishes);
    const winner = wishes.reduce<Candidate | undefined>(
      (best, next) => (best && beats(best, next) ? best : next),
      undefined,
    );
    if (winner) this.#winners.set(destination, winner);
    else this.#winners.delete(destination);
    this.#dirty.add(destination);
  }
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
