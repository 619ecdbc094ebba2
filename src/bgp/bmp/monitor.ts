import type { Clock } from '../../base/clock.ts';
import type { Log } from '../../base/log.ts';
import type { Cidr, Family, Ip } from '../../model/address.ts';
import type { Attributes } from '../wire/attributes.ts';
import type { BmpDown, BmpPeer, BmpStatistics, BmpUp } from './messages.ts';
import { Station } from './station.ts';

/** Where to export to. */
export interface StationConfig {
  readonly address: Ip;
  readonly port: number;
}

/** An established session as a station is told of it. */
export interface MonitoredSession {
  readonly name: string;
  readonly peer: BmpPeer;
  readonly up: BmpUp;
  readonly families: readonly Family[];
  /** Routes as they are kept, after import checks and filters. */
  routes(): Iterable<{ readonly family: Family; readonly prefix: Cidr; readonly attributes: Attributes }>;
  statistics(): BmpStatistics;
}

/** Hears what sessions do and bring. Names are those of the sessions. */
export interface Monitor {
  /** Somebody listens: worth the work of telling. */
  readonly active: boolean;
  up(session: MonitoredSession): void;
  down(name: string, down: BmpDown): void;
  announced(name: string, family: Family, attributes: Attributes, prefixes: readonly Cidr[]): void;
  withdrawn(name: string, family: Family, prefixes: readonly Cidr[]): void;
  endOfRib(name: string, family: Family): void;
}

export interface MonitorDeps {
  readonly clock: Clock;
  readonly log: Log;
  readonly random?: () => number;
  /** The node as stations know it: sysName. */
  readonly name: () => string;
  /** Octets that may wait for a station that reads slowly; beyond them it is cut off. */
  readonly queuedOctets: number;
}

/** The stations of a speaker. Without any, it costs a comparison per UPDATE. RFC 7854. */
export class Stations implements Monitor {
  readonly #stations = new Map<string, Station>();
  readonly #sessions = new Map<string, MonitoredSession>();

  constructor(private readonly deps: MonitorDeps) {}

  get active(): boolean {
    return this.#stations.size > 0;
  }

  /** Connects to those that are new, and says goodbye to those that are gone. */
  follow(wanted: readonly StationConfig[]): void {
    const names = new Map(wanted.map((station) => [`${station.address} ${station.port}`, station]));
    for (const [name, station] of this.#stations) {
      if (names.has(name)) continue;
      station.close();
      this.#stations.delete(name);
    }
    for (const [name, config] of names) {
      if (this.#stations.has(name)) continue;
      const station = new Station(config, { ...this.deps, sessions: () => [...this.#sessions.values()] });
      this.#stations.set(name, station);
      station.start();
    }
  }

  status(): { readonly address: Ip; readonly port: number; readonly connected: boolean; readonly problem?: string }[] {
    return [...this.#stations.values()].map((station) => station.status());
  }

  up(session: MonitoredSession): void {
    this.#sessions.set(session.name, session);
    for (const station of this.#stations.values()) station.up(session);
  }

  down(name: string, down: BmpDown): void {
    const session = this.#sessions.get(name);
    if (!session) return;
    this.#sessions.delete(name);
    for (const station of this.#stations.values()) station.down(session, down);
  }

  announced(name: string, family: Family, attributes: Attributes, prefixes: readonly Cidr[]): void {
    const session = this.#sessions.get(name);
    if (session && prefixes.length > 0)
      for (const station of this.#stations.values()) station.announced(session, family, attributes, prefixes);
  }

  withdrawn(name: string, family: Family, prefixes: readonly Cidr[]): void {
    const session = this.#sessions.get(name);
    if (session && prefixes.length > 0)
      for (const station of this.#stations.values()) station.withdrawn(session, family, prefixes);
  }

  endOfRib(name: string, family: Family): void {
    const session = this.#sessions.get(name);
    if (session) for (const station of this.#stations.values()) station.endOfRib(session, family);
  }
}
