import type { Failure } from '../../base/reconcile.ts';
import type { Cidr } from '../../model/address.ts';
import type { DestinationId, Destinations } from '../calc/destinations.ts';

/** What went wrong with routes, by destination, until it is tried again. */
export class RouteFailures {
  readonly #failed = new Map<Cidr, Failure>();

  constructor(private readonly destinations: Destinations) {}

  get size(): number {
    return this.#failed.size;
  }

  get list(): Failure[] {
    return [...this.#failed.values()];
  }

  add(destination: Cidr, cause: unknown): void {
    this.#failed.set(destination, { kind: 'route', item: destination, cause });
  }

  /** It is tried anew. An identifier that is free by now still has the text of its prefix, which may have another. */
  excuse(id: DestinationId): void {
    if (this.#failed.size === 0) return;
    const destination = this.destinations.cidr(id);
    if (this.destinations.find(destination) === id) this.#failed.delete(destination);
  }

  /** Identifiers of those that somebody still speaks of. */
  *known(): Generator<DestinationId> {
    for (const destination of this.#failed.keys()) {
      const id = this.destinations.find(destination);
      if (id !== undefined) yield id;
    }
  }

  /** Drops those of destinations that nobody speaks of any more. */
  forget(): void {
    for (const destination of this.#failed.keys())
      if (this.destinations.find(destination) === undefined) this.#failed.delete(destination);
  }
}
