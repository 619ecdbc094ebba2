import { type FoundRoute, RouteLookup } from '../kernel/rtnetlink/lookup.ts';
import type { Hop } from '../model/feed.ts';

/** Routes of this host's kernel, which is asked only once somebody wants to know one. */
export class KernelRoutes {
  #lookup: RouteLookup | undefined;

  /** @throws KernelError */
  readonly lookup = (hop: Hop): FoundRoute | undefined => {
    this.#lookup ??= new RouteLookup();
    return this.#lookup.route(hop);
  };

  close(): void {
    this.#lookup?.close();
  }
}
