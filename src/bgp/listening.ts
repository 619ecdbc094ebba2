import type { Secret } from '../base/secret.ts';
import { type Cidr, type Family, familyOf, hostCidr, type Ip } from '../model/address.ts';
import { Listener, type Protection, type Taker } from './listener.ts';
import type { SpeakerConfig } from './settings.ts';
import { minHops } from './transport.ts';

const families: readonly Family[] = [4, 6];

interface Place {
  readonly family: Family;
  /** Absent: every address of the family. */
  readonly address?: Ip;
}

/** The sockets that a speaker listens on, kept in step with its configuration. */
export class Listening {
  #listeners: readonly Listener[] = [];

  constructor(private readonly taker: Taker) {}

  /**
   * Opens what is missing, gives every socket its keys, then closes what is no longer wanted.
   * @throws EnvironmentError when a port is taken or forbidden; what listened before then still does, unless it held
   *   the port itself
   */
  async follow(config: SpeakerConfig): Promise<void> {
    const kept: Listener[] = [];
    for (const place of placesOf(config)) {
      const protection = protectionOf(config, place.family);
      const old = this.#listeners.find((listener) => at(listener, place, config.listenPort));
      if (old) {
        old.protect(protection);
        kept.push(old);
        continue;
      }
      this.#makeWay(place.family, config.listenPort);
      const opened = await Listener.open(place.family, place.address, config.listenPort, protection, this.taker);
      this.#listeners = [...this.#listeners, opened];
      kept.push(opened);
    }
    for (const listener of this.#listeners) if (!kept.includes(listener)) listener.close();
    this.#listeners = kept;
  }

  close(): void {
    for (const listener of this.#listeners) listener.close();
    this.#listeners = [];
  }

  /** One address and all addresses of a port exclude each other. */
  #makeWay(family: Family, port: number): void {
    const rivals = this.#listeners.filter((listener) => listener.family === family && listener.port === port);
    const wildcards = rivals.some(({ address }) => address === undefined);
    if (rivals.length === 0 || !wildcards) return;
    for (const rival of rivals) rival.close();
    this.#listeners = this.#listeners.filter((listener) => !rivals.includes(listener));
  }
}

function at(listener: Listener, { family, address }: Place, port: number): boolean {
  return listener.family === family && listener.address === address && listener.port === port;
}

/** The addresses that are told, or each family that an address of ours, a peer or a range is of. */
export function placesOf({ listenAddresses, addresses, peers, ranges = [] }: SpeakerConfig): Place[] {
  if (listenAddresses) return listenAddresses.map((address) => ({ family: familyOf(address), address }));
  const used = [...[...addresses, ...peers].map(({ address }) => address), ...ranges.map(({ prefix }) => prefix)];
  return families.filter((family) => used.some((text) => familyOf(text) === family)).map((family) => ({ family }));
}

/** Keys of peers and ranges. The hop limit is as low as the farthest of them needs, and none if one has none. */
export function protectionOf({ peers, ranges = [] }: SpeakerConfig, family: Family): Protection {
  const admitted = [
    ...ranges.map(({ prefix, peer }) => ({ from: prefix, ...peer })),
    ...peers.map((peer) => ({ from: hostCidr(peer.address), ...peer })),
  ].filter(({ from }) => familyOf(from) === family);
  const keys = new Map<Cidr, Secret>();
  for (const { from, password } of admitted) if (password) keys.set(from, password);
  const limits = admitted.map(({ ttlSecurity }) => (ttlSecurity === undefined ? 0 : minHops(ttlSecurity)));
  return { keys, minHops: limits.length === 0 ? 0 : Math.min(...limits) };
}
