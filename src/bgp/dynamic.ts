import type { Clock } from '../base/clock.ts';
import type { Log } from '../base/log.ts';
import { cidrParts, contains } from '../model/address.ts';
import type { PeerConfig, RangeConfig, SpeakerConfig } from './settings.ts';
import type { Remote } from './transport.ts';

/** How often peers of ranges are looked at; one that is dormant at two looks in a row is forgotten. */
const lookSeconds = 30;

export interface DynamicDeps {
  readonly clock: Clock;
  readonly log: Log;
  /** Neither a connection nor routes kept for its return. */
  readonly dormant: (name: string) => boolean;
  /** Ends a peer. */
  readonly remove: (name: string) => void;
}

interface Member {
  readonly range: string;
  readonly remote: Remote;
  dormant: boolean;
}

/** Peers that exist because they connected from inside a listen range, so many for each range at a time. */
export class DynamicPeers {
  readonly #members = new Map<string, Member>();
  #cancel: (() => void) | undefined;

  constructor(private readonly deps: DynamicDeps) {}

  /** The peer to make for somebody who connects; the reason why none, or undefined outside of every range. */
  admit(remote: Remote, config: SpeakerConfig): PeerConfig | { readonly refused: string } | undefined {
    const range = rangeFor(config.ranges ?? [], remote);
    if (!range) return undefined;
    if (this.#count(range.name) >= range.limit) this.#evict(range.name);
    if (this.#count(range.name) >= range.limit)
      return { refused: `the range ${range.name} has its limit of ${range.limit} peers` };
    const peer = peerOf(range, remote, config.listenPort);
    this.#members.set(peer.name, { range: range.name, remote, dormant: false });
    this.deps.log.info({ peer: peer.name, range: range.name }, 'peer of a listen range connects');
    this.#watch();
    return peer;
  }

  /** What the present members are in another configuration; those that it has no place for are left out. */
  follow(config: SpeakerConfig): PeerConfig[] {
    const named = new Set(config.peers.map(({ address }) => address));
    return [...this.#members.values()].flatMap(({ remote }) => {
      const range = named.has(remote.address) ? undefined : rangeFor(config.ranges ?? [], remote);
      return range ? [peerOf(range, remote, config.listenPort)] : [];
    });
  }

  forget(name: string): void {
    this.#members.delete(name);
  }

  stop(): void {
    this.#cancel?.();
    this.#members.clear();
  }

  #count(range: string): number {
    let count = 0;
    for (const member of this.#members.values()) if (member.range === range) count++;
    return count;
  }

  #evict(range: string): void {
    for (const [name, member] of [...this.#members])
      if (member.range === range && this.deps.dormant(name)) this.#remove(name);
  }

  #remove(name: string): void {
    this.#members.delete(name);
    this.deps.remove(name);
  }

  #watch(): void {
    this.#cancel ??= this.deps.clock.after(lookSeconds * 1000, () => {
      this.#cancel = undefined;
      for (const [name, member] of [...this.#members]) {
        const dormant = this.deps.dormant(name);
        if (dormant && member.dormant) this.#remove(name);
        member.dormant = dormant;
      }
      if (this.#members.size > 0) this.#watch();
    });
  }
}

/** The range with the longest prefix around the address, on its interface if it names one. */
export function rangeFor(ranges: readonly RangeConfig[], { address, zone }: Remote): RangeConfig | undefined {
  let found: RangeConfig | undefined;
  for (const range of ranges) {
    const { prefix, peer } = range;
    if (!contains(prefix, address) || (peer.interface && zone && peer.interface !== zone)) continue;
    if (!found || cidrParts(prefix).length > cidrParts(found.prefix).length) found = range;
  }
  return found;
}

function peerOf({ name, peer }: RangeConfig, { address, zone }: Remote, port: number): PeerConfig {
  return {
    ...peer,
    name: `${name}-${address}${zone ? `%${zone}` : ''}`,
    address,
    port,
    initiative: 'never',
    range: name,
    ...(zone ? { interface: zone } : {}),
  };
}
