import type { Cidr } from '../model/address.ts';
import type { Attributes } from './wire/attributes.ts';

/** A route that a peer told and that import refused. */
export interface RejectedRoute {
  readonly prefix: Cidr;
  /** In the peer's words, where it tells several paths of a prefix; the last one refused is remembered. RFC 7911. */
  readonly pathId?: number;
  readonly reason: string;
  readonly attributes: Attributes;
}

/** Refused routes remembered of one peer at most. */
export const maxRemembered = 4096;

/**
 * The routes of one peer that import refused, so that an operator can be told why a route is missing. Bounded: the
 * oldest give way, and are counted.
 */
export class Rejections {
  readonly #routes = new Map<Cidr, RejectedRoute>();
  #forgotten = 0;

  constructor(private readonly limit = maxRemembered) {}

  get size(): number {
    return this.#routes.size;
  }

  /** Routes that had to give way to later ones. */
  get forgotten(): number {
    return this.#forgotten;
  }

  add(route: RejectedRoute): void {
    this.#routes.delete(route.prefix);
    if (this.#routes.size >= this.limit) {
      const [oldest] = this.#routes.keys();
      if (oldest !== undefined) this.#routes.delete(oldest);
      this.#forgotten++;
    }
    this.#routes.set(route.prefix, route);
  }

  /** The route was withdrawn, or is accepted by now. */
  delete(prefix: Cidr): void {
    this.#routes.delete(prefix);
  }

  get(prefix: Cidr): RejectedRoute | undefined {
    return this.#routes.get(prefix);
  }

  clear(): void {
    this.#routes.clear();
    this.#forgotten = 0;
  }

  values(): IterableIterator<RejectedRoute> {
    return this.#routes.values();
  }
}
