import { unreachable } from '../../base/errors.ts';
import type { NextHop, Route } from '../../kernel/types.ts';
import { type Cidr, isLinkLocal } from '../../model/address.ts';
import { compareHops, type FeedMessage, type Hop, scopedHop } from '../../model/feed.ts';
import { ourProtocol } from './route.ts';

/** A prefix of the feed with its next hops; `stale` until this connection has said it again. */
export interface FeedRoute {
  readonly prefix: Cidr;
  readonly nextHops: readonly Hop[];
  readonly stale: boolean;
}

/**
 * What the BGP process said, kept across connections as a graceful-restart helper would: what the last connection said
 * is stale until the new one repeats it, and goes at the new one's end of snapshot. Each call returns the prefixes
 * whose next hops changed.
 */
export class FeedTable {
  readonly routes = new Map<Cidr, FeedRoute>();
  /** Whether the present connection has delivered its whole table. */
  complete = false;

  /** Takes routes found in the kernel at start as said by a connection before: nothing is lost by our own restart. */
  adopt(found: readonly Route[]): Cidr[] {
    const adopted: Cidr[] = [];
    for (const { destination, type, protocol, nextHops } of found) {
      const gateways = nextHops.flatMap((hop) => hopOf(hop) ?? []).sort(compareHops);
      if (protocol !== ourProtocol || type !== 'unicast' || gateways.length === 0) continue;
      // Through a tunnel: that is never the feed's.
      if (nextHops.some(({ onlink }) => onlink)) continue;
      if (this.complete || this.routes.has(destination)) continue;
      this.routes.set(destination, { prefix: destination, nextHops: gateways, stale: true });
      adopted.push(destination);
    }
    return adopted;
  }

  apply(message: FeedMessage): Cidr[] {
    switch (message.type) {
      case 'hello':
        this.disconnected();
        return [];
      case 'route':
        return this.#set(message.prefix, message.nextHops);
      case 'withdraw':
        return this.routes.delete(message.prefix) ? [message.prefix] : [];
      case 'endOfSnapshot':
        this.complete = true;
        return this.dropStale();
      default:
        return unreachable(message);
    }
  }

  disconnected(): void {
    this.complete = false;
    for (const [prefix, route] of this.routes) if (!route.stale) this.routes.set(prefix, { ...route, stale: true });
  }

  /** Removes what has not been repeated. */
  dropStale(): Cidr[] {
    const dropped = [...this.routes.values()].filter(({ stale }) => stale).map(({ prefix }) => prefix);
    for (const prefix of dropped) this.routes.delete(prefix);
    return dropped;
  }

  #set(prefix: Cidr, nextHops: readonly Hop[]): Cidr[] {
    const before = this.routes.get(prefix);
    const hops = [...new Set(nextHops)].sort(compareHops);
    this.routes.set(prefix, { prefix, nextHops: hops, stale: false });
    return before && before.nextHops.join() === hops.join() ? [] : [prefix];
  }
}

/** A next hop of the kernel as the feed says it; undefined for one without a gateway. */
function hopOf({ gateway, device }: NextHop): Hop | undefined {
  return gateway !== undefined && device !== undefined && isLinkLocal(gateway) ? scopedHop(gateway, device) : gateway;
}
