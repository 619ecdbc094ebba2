import type { Clock } from '../../base/clock.ts';
import type { Log } from '../../base/log.ts';
import type { Family, Ip } from '../../model/address.ts';
import type { Attributes } from '../wire/attributes.ts';
import { type PathCidr, pathCidrsOf } from '../wire/nlri.ts';
import type { Update } from '../wire/update.ts';
import type { BmpDown, BmpPeer, BmpStatistics, BmpUp, Side } from './messages.ts';
import { Station } from './station.ts';

/** Where to export to. */
export interface StationConfig {
  readonly address: Ip;
  readonly port: number;
  /** Routes before import checks and filters, after them (absent), or both. */
  readonly policy?: Side | 'both';
}

export interface MonitoredRoute {
  readonly family: Family;
  readonly prefix: PathCidr;
  readonly attributes: Attributes;
}

/** An established session as a station is told of it. */
export interface MonitoredSession {
  readonly name: string;
  readonly peer: BmpPeer;
  readonly up: BmpUp;
  readonly families: readonly Family[];
  /** Routes as they are kept, after import checks and filters; `pre`: as the peer told them, as far as is known. */
  routes(side: Side): Iterable<MonitoredRoute>;
  /** Asks the peer to tell everything again, unless all that it told is known. */
  askAgain(): void;
  statistics(): BmpStatistics;
}

/** Hears what sessions do and bring. Names are those of the sessions. */
export interface Monitor {
  /** Somebody listens: worth the work of telling. */
  readonly active: boolean;
  /** Somebody listens to what peers say before policy. */
  readonly wantsReceived: boolean;
  /** An UPDATE as it came, before import checks and filters. */
  received(name: string, update: Update): void;
  up(session: MonitoredSession): void;
  down(name: string, down: BmpDown): void;
  announced(name: string, family: Family, attributes: Attributes, prefixes: readonly PathCidr[]): void;
  withdrawn(name: string, family: Family, prefixes: readonly PathCidr[]): void;
  /** Gone without a withdrawal, on both sides: not told again after a restart or a refresh. */
  swept(name: string, family: Family, prefixes: readonly PathCidr[]): void;
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

  get wantsReceived(): boolean {
    for (const { sides } of this.#stations.values()) if (sides.includes('pre')) return true;
    return false;
  }

  /** Connects to those that are new, and says goodbye to those that are gone. */
  follow(wanted: readonly StationConfig[]): void {
    const names = new Map(wanted.map((station) => [Object.values(station).join(' '), station]));
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

  status(): ReturnType<Station['status']>[] {
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

  received(name: string, { withdrawn, announced, endOfRib }: Update): void {
    for (const block of withdrawn)
      this.#tell(name, (to, session) => to.withdrawn(session, 'pre', block.family, pathCidrsOf(block)));
    for (const { block, attributes } of announced)
      this.#tell(name, (to, session) => to.announced(session, 'pre', block.family, attributes, pathCidrsOf(block)));
    if (endOfRib !== undefined) this.#tell(name, (to, session) => to.endOfRib(session, 'pre', endOfRib));
  }

  announced(name: string, family: Family, attributes: Attributes, prefixes: readonly PathCidr[]): void {
    if (prefixes.length > 0)
      this.#tell(name, (to, session) => to.announced(session, 'post', family, attributes, prefixes));
  }

  withdrawn(name: string, family: Family, prefixes: readonly PathCidr[]): void {
    if (prefixes.length > 0) this.#tell(name, (to, session) => to.withdrawn(session, 'post', family, prefixes));
  }

  swept(name: string, family: Family, prefixes: readonly PathCidr[]): void {
    this.withdrawn(name, family, prefixes);
    if (prefixes.length > 0) this.#tell(name, (to, session) => to.withdrawn(session, 'pre', family, prefixes));
  }

  endOfRib(name: string, family: Family): void {
    this.#tell(name, (to, session) => to.endOfRib(session, 'post', family));
  }

  #tell(name: string, what: (station: Station, session: MonitoredSession) => void): void {
    const session = this.#sessions.get(name);
    if (session) for (const station of this.#stations.values()) what(station, session);
  }
}
