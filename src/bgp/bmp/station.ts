import { connect, type Socket } from 'node:net';
import { Backoff } from '../../base/backoff.ts';
import type { Writer } from '../../base/bytes.ts';
import { cidrParts, type Family, ipBytes } from '../../model/address.ts';
import type { Attributes } from '../wire/attributes.ts';
import { octetsFor, type PathCidr } from '../wire/nlri.ts';
import { type PrefixWriter, writeAnnouncements, writeEndOfRib, writeWithdrawals } from '../wire/write-update.ts';
import {
  type BmpDown,
  type Side,
  writeInitiation,
  writePeerDown,
  writePeerUp,
  writeRouteMonitoring,
  writeStatistics,
  writeTermination,
} from './messages.ts';
import type { MonitorDeps, MonitoredSession, StationConfig } from './monitor.ts';

export interface StationDeps extends MonitorDeps {
  readonly sessions: () => readonly MonitoredSession[];
}

/** Milliseconds between attempts to connect, between statistics, and for a station to take the last octets. */
const retry = { first: 1000, most: 60_000 } as const;
const statisticsInterval = 60_000;
const lingerMilliseconds = 2000;
/** Queued octets above which the first table waits, and routes of it between two looks at the event loop. */
const highWater = 1 << 20;
const slice = 512;
const description = 'Margay BGP speaker';

/**
 * A monitoring station. Each connection begins with every session and every route kept, so that one that was cut off,
 * or that could not follow, needs nothing of what it missed. RFC 7854 §3.2, §3.3.
 */
export class Station {
  /** What it is told of a peer's routes: before policy, after it, or both. */
  readonly sides: readonly Side[];
  readonly #backoff: Backoff;
  #socket: Socket | undefined;
  /** Sessions that the station knows to be up. */
  readonly #told = new Set<MonitoredSession>();
  #connected = false;
  /** Monotonic milliseconds of the connection's begin. */
  #since = 0;
  #problem: string | undefined;
  #closed = false;
  #cancelRetry: (() => void) | undefined;
  #cancelStatistics: (() => void) | undefined;

  constructor(
    readonly config: StationConfig,
    private readonly deps: StationDeps,
  ) {
    this.#backoff = new Backoff(retry.first, retry.most, deps.random);
    const { policy = 'post' } = config;
    this.sides = policy === 'both' ? ['pre', 'post'] : [policy];
  }

  status() {
    const { address, port } = this.config;
    return {
      address,
      port,
      policy: this.config.policy ?? 'post',
      connected: this.#connected,
      ...(this.#problem ? { problem: this.#problem } : {}),
    };
  }

  start(): void {
    const { address, port } = this.config;
    const socket = connect({ host: address, port, noDelay: true });
    this.#socket = socket;
    let reason = 'closed by the station';
    socket.once('connect', () => void this.#begin(socket));
    // Stations say nothing; what they send all the same is not kept.
    socket.resume();
    socket.on('error', (error) => {
      reason = error.message;
    });
    socket.once('close', () => this.#lost(socket, reason));
  }

  close(): void {
    this.#closed = true;
    this.#cancelRetry?.();
    this.#cancelStatistics?.();
    const socket = this.#socket;
    this.#socket = undefined;
    if (!socket) return;
    if (this.#connected) socket.end(writeTermination());
    else socket.destroy();
    const cancel = this.deps.clock.after(lingerMilliseconds, () => socket.destroy());
    socket.once('close', cancel);
  }

  up(session: MonitoredSession): void {
    if (!this.#connected || this.#told.has(session)) return;
    this.#told.add(session);
    this.#send(writePeerUp(session.peer, session.up, this.#now(), this.#side));
  }

  down(session: MonitoredSession, down: BmpDown): void {
    if (this.#told.delete(session)) this.#send(writePeerDown(session.peer, down, this.#now(), this.#side));
  }

  announced(
    session: MonitoredSession,
    side: Side,
    family: Family,
    attributes: Attributes,
    prefixes: readonly PathCidr[],
  ): void {
    if (!this.#follows(session, side)) return;
    const codec = { fourOctetAs: true, external: false, extendedNextHop: true };
    this.#update(session, side, writeAnnouncements(family, attributes, codec, prefixes, cidrs) ?? []);
  }

  withdrawn(session: MonitoredSession, side: Side, family: Family, prefixes: readonly PathCidr[]): void {
    if (this.#follows(session, side)) this.#update(session, side, writeWithdrawals(family, prefixes, cidrs));
  }

  endOfRib(session: MonitoredSession, side: Side, family: Family): void {
    if (this.#follows(session, side)) this.#update(session, side, [writeEndOfRib(family)]);
  }

  #follows(session: MonitoredSession, side: Side): boolean {
    return this.sides.includes(side) && this.#told.has(session);
  }

  /** Of what concerns a peer as a whole. */
  get #side(): Side {
    return this.sides[0] ?? 'post';
  }

  #update({ peer }: MonitoredSession, side: Side, updates: readonly Uint8Array[]): void {
    for (const update of updates) this.#send(writeRouteMonitoring(peer, update, this.#now(), side));
  }

  #now(): Date {
    return this.deps.clock.wall();
  }

  async #begin(socket: Socket): Promise<void> {
    const { log, name, sessions } = this.deps;
    log.info(this.config, 'BMP station connected');
    this.#connected = true;
    this.#since = this.deps.clock.monotonic();
    this.#problem = undefined;
    this.#send(writeInitiation(name(), description));
    const known = sessions();
    for (const session of known) this.up(session);
    this.#scheduleStatistics();
    for (const session of known) {
      for (const side of this.sides) await this.#tellTable(socket, session, side);
      // What import changed or refused is not all known: the peer says it once more, and takes its place.
      if (this.sides.includes('pre') && this.#told.has(session)) session.askAgain();
    }
  }

  /** What is known of a session's routes, then the marks of their end. Changes meanwhile go out at once and in between. */
  async #tellTable(socket: Socket, session: MonitoredSession, side: Side): Promise<void> {
    const current = () => this.#socket === socket && !socket.destroyed && this.#told.has(session);
    const groups = { 4: new Map<Attributes, PathCidr[]>(), 6: new Map<Attributes, PathCidr[]>() };
    let gathered = 0;
    const tell = async () => {
      for (const family of [4, 6] as const) {
        for (const [attributes, prefixes] of groups[family])
          this.announced(session, side, family, attributes, prefixes);
        groups[family].clear();
      }
      gathered = 0;
      await (socket.writableLength > highWater ? drained(socket) : new Promise((resolve) => setImmediate(resolve)));
    };
    for (const { family, prefix, attributes } of session.routes(side)) {
      const group = groups[family].get(attributes) ?? [];
      group.push(prefix);
      groups[family].set(attributes, group);
      if (++gathered >= slice) await tell();
      if (!current()) return;
    }
    await tell();
    if (current()) for (const family of session.families) this.endOfRib(session, side, family);
  }

  #send(octets: Uint8Array): void {
    const socket = this.#socket;
    if (!socket || socket.destroyed || !this.#connected) return;
    socket.write(octets);
    const { queuedOctets } = this.deps;
    if (socket.writableLength > queuedOctets)
      socket.destroy(new Error(`more than ${queuedOctets} octets wait to be read`));
  }

  #scheduleStatistics(): void {
    this.#cancelStatistics = this.deps.clock.after(statisticsInterval, () => {
      for (const { peer, statistics } of this.#told)
        this.#send(writeStatistics(peer, statistics(), this.#now(), this.#side));
      this.#scheduleStatistics();
    });
  }

  #lost(socket: Socket, reason: string): void {
    if (this.#closed || this.#socket !== socket) return;
    const level = this.#connected || reason !== this.#problem ? 'warn' : 'debug';
    const lasted = this.deps.clock.monotonic() - this.#since;
    if (this.#connected && lasted > retry.most) this.#backoff.reset();
    this.#connected = false;
    this.#problem = reason;
    this.#told.clear();
    this.#cancelStatistics?.();
    const retryMs = this.#backoff.next();
    this.deps.log[level]({ ...this.config, reason, retryMs }, 'BMP station not connected');
    this.#cancelRetry = this.deps.clock.after(retryMs, () => this.start());
  }
}

const cidrs: PrefixWriter<PathCidr> = {
  size: (told) =>
    typeof told === 'string' ? 1 + octetsFor(cidrParts(told).length) : 5 + octetsFor(cidrParts(told.prefix).length),
  write: (w: Writer, told) => {
    const { address, length } = cidrParts(typeof told === 'string' ? told : told.prefix);
    if (typeof told !== 'string') w.u32(told.pathId);
    w.u8(length);
    w.bytes(ipBytes(address).subarray(0, octetsFor(length)));
  },
};

/** Resolves when the station has caught up, or is gone. */
function drained(socket: Socket): Promise<void> {
  return new Promise((resolve) => {
    const done = () => {
      socket.off('drain', done);
      socket.off('close', done);
      resolve();
    };
    socket.once('drain', done);
    socket.once('close', done);
  });
}
