import { unreachable } from '../../base/errors.ts';
import { fitting } from '../../base/id-index.ts';
import type { NextHop, Route } from '../../kernel/types.ts';
import { type Cidr, isLinkLocal } from '../../model/address.ts';
import { compareHops, type FeedMessage, type Hop, scopedHop } from '../../model/feed.ts';
import { type DestinationId, Destinations } from './destinations.ts';
import { HopLists } from './hop-lists.ts';
import { birdProtocol, ourProtocol } from './route.ts';

/**
 * What the BGP process said, kept across connections as a graceful-restart helper would: what the last connection said
 * is stale until the new one repeats it, and goes at the new one's end of snapshot. Each call returns the prefixes
 * whose next hops changed. A prefix takes eight octets.
 */
export class FeedTable {
  readonly #hops = new HopLists();
  /** By destination: its list of next hops, + 1; 0: nothing was said of it. */
  #said = new Int32Array(256);
  /** By destination: the connection that said it last. */
  #saidBy = new Uint32Array(256);
  /** Grows with each connection that is lost. */
  #connection = 1;
  #count = 0;
  #stale = 0;
  /** Whether the present connection has delivered its whole table. */
  complete = false;

  constructor(private readonly destinations = new Destinations()) {}

  /** Prefixes of which something was said. */
  get count(): number {
    return this.#count;
  }

  /** Those that this connection has not said yet. */
  get staleCount(): number {
    return this.#stale;
  }

  *prefixes(): Generator<Cidr> {
    for (const id of this.#ids()) yield this.destinations.cidr(id);
  }

  /** Sorted; the same object for all prefixes with the same ones. Undefined: nothing was said of the prefix. */
  nextHops(prefix: Cidr): readonly Hop[] | undefined {
    const id = this.destinations.find(prefix);
    const said = id === undefined ? 0 : (this.#said[id] ?? 0);
    return said === 0 ? undefined : this.#hops.get(said - 1);
  }

  isStale(prefix: Cidr): boolean {
    const id = this.destinations.find(prefix);
    return id !== undefined && this.#said[id] !== 0 && this.#isStale(id);
  }

  /** Takes routes found in the kernel at start as said by a connection before: nothing is lost by our own restart. */
  adopt(found: Iterable<Route>): Cidr[] {
    const adopted: Cidr[] = [];
    for (const { destination, type, protocol, nextHops } of found) {
      const gateways = nextHops.flatMap((hop) => hopOf(hop) ?? []).sort(compareHops);
      if (!(protocol === ourProtocol || protocol === birdProtocol) || type !== 'unicast' || gateways.length === 0)
        continue;
      // Through a tunnel: that is never the feed's.
      if (nextHops.some(({ onlink }) => onlink)) continue;
      if (this.complete || this.nextHops(destination)) continue;
      this.#set(destination, gateways, this.#connection - 1);
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
        return this.#heard(message.prefix, message.nextHops);
      case 'withdraw':
        return this.#withdraw(message.prefix);
      case 'endOfSnapshot':
        this.complete = true;
        return this.dropStale();
      default:
        return unreachable(message);
    }
  }

  disconnected(): void {
    this.complete = false;
    this.#connection++;
    this.#stale = this.#count;
  }

  /** Removes what has not been repeated. */
  dropStale(): Cidr[] {
    if (this.#stale === 0) return [];
    const stale = [...this.#ids()].filter((id) => this.#isStale(id));
    const dropped = stale.map((id) => this.destinations.cidr(id));
    for (const id of stale) this.#drop(id);
    return dropped;
  }

  #heard(prefix: Cidr, nextHops: readonly Hop[]): Cidr[] {
    const hops = nextHops.length > 1 ? [...new Set(nextHops)].sort(compareHops) : nextHops;
    return this.#set(prefix, hops, this.#connection) ? [prefix] : [];
  }

  /** @returns whether the next hops are others than before */
  #set(prefix: Cidr, nextHops: readonly Hop[], by: number): boolean {
    const id = this.destinations.intern(prefix);
    const list = this.#hops.intern(nextHops);
    const before = this.#said[id] ?? 0;
    if (before === 0) {
      this.destinations.retain(id);
      this.#count++;
    } else if (this.#isStale(id)) this.#stale--;
    this.#said = fitting(this.#said, id);
    this.#saidBy = fitting(this.#saidBy, id);
    this.#saidBy[id] = by;
    if (this.#isStale(id)) this.#stale++;
    if (before === list + 1) return false;
    this.#hops.retain(list);
    if (before !== 0) this.#hops.release(before - 1);
    this.#said[id] = list + 1;
    return true;
  }

  #withdraw(prefix: Cidr): Cidr[] {
    const id = this.destinations.find(prefix);
    if (id === undefined || (this.#said[id] ?? 0) === 0) return [];
    this.#drop(id);
    return [prefix];
  }

  #drop(id: DestinationId): void {
    this.#count--;
    if (this.#isStale(id)) this.#stale--;
    this.#hops.release((this.#said[id] ?? 0) - 1);
    this.#said[id] = 0;
    this.destinations.release(id);
  }

  #isStale(id: DestinationId): boolean {
    return this.#saidBy[id] !== this.#connection;
  }

  *#ids(): Generator<DestinationId> {
    for (let id = 0; id < this.#said.length; id++) if (this.#said[id] !== 0) yield id;
  }
}

/** A next hop of the kernel as the feed says it; undefined for one without a gateway. */
function hopOf({ gateway, device }: NextHop): Hop | undefined {
  return gateway !== undefined && device !== undefined && isLinkLocal(gateway) ? scopedHop(gateway, device) : gateway;
}
