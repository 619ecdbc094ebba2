import type { Socket } from 'node:net';
import type { Family } from '../model/address.ts';
import type { PrefixId } from '../model/prefixes.ts';
import { Attempts } from './attempts.ts';
import type { BfdWatch } from './bfd/agent.ts';
import type { MonitoredSession } from './bmp/monitor.ts';
import { type Contender, loser } from './collision.ts';
import { Connection } from './connection.ts';
import type { SpeakerContext } from './context.ts';
import { downOf, isCollision, isGraceful, isPrefixLimit } from './endings.ts';
import { describeEvent, type Ending, type Event, type State } from './fsm.ts';
import type { Negotiated, SessionConfig } from './negotiate.ts';
import { describedPeer, type PeerStatus, type Reset, type ResetOutcome } from './peer-status.ts';
import type { Rejections } from './rejections.ts';
import type { Candidate, Source } from './rib.ts';
import { Routes } from './routes.ts';
import { askAgain, endpointOf, isOpening, monitoredSessionOf, partiesOf, sessionConfigOf } from './sessions.ts';
import type { PeerConfig } from './settings.ts';
import { MessageTally } from './tally.ts';
import { dial } from './transport.ts';
import type { subcodes } from './wire/errors.ts';

export type { FamilyCounts, LastError, PeerStatus, Reset, ResetOutcome } from './peer-status.ts';

/** How long the waiting side of a mesh session leaves the dialling to the other. */
const waitSeconds = 30;
/** Incoming connections of one peer that are being judged at the same time. */
const maxIncoming = 4;
/** A connection that began so long after the session was established is no race of two openings. */
const raceMilliseconds = 2000;

interface Session {
  readonly connection: Connection;
  readonly negotiated: Negotiated;
  /** Monotonic milliseconds. */
  readonly since: number;
}

/** One configured peer: its connections, of which at most one becomes the session, and what the session's end means. */
export class Peer {
  readonly #dialer: Connection;
  readonly #incoming = new Map<Connection, number>();
  readonly #attempts: Attempts;
  #session: Session | undefined;
  #stopped = true;
  #everUp = false;
  #flaps = 0;
  #shown: State = 'Idle';
  #since: Date;
  #bfd: BfdWatch | undefined;
  readonly #routes: Routes;
  readonly #tally = new MessageTally();

  constructor(
    private settings: PeerConfig,
    private readonly context: SpeakerContext,
  ) {
    this.#attempts = new Attempts(settings.name, context);
    this.#routes = new Routes(settings, context);
    this.#dialer = this.#connection('us');
    this.#since = context.clock.wall();
  }

  get config(): PeerConfig {
    return this.settings;
  }

  get name(): string {
    return this.config.name;
  }

  /** The state of the connection that is furthest. */
  get state(): State {
    const order: readonly State[] = ['Established', 'OpenConfirm', 'OpenSent'];
    const live = [this.#dialer, ...this.#incoming.keys()].map(({ state }) => state);
    return order.find((state) => live.includes(state)) ?? this.#dialer.state;
  }

  /** Neither a connection nor routes that are kept for the peer's return. */
  get dormant(): boolean {
    return this.#incoming.size === 0 && this.#session === undefined && this.#routes.stale === 0;
  }

  start(): void {
    this.#stopped = false;
    this.#watchPath();
    this.#dialer.event({ on: 'start' });
  }

  /** Ends every connection. With a reason the peer is told and its routes go; without, graceful restart applies there. */
  async stop(reason?: keyof typeof subcodes.cease): Promise<void> {
    this.#stopped = true;
    this.#bfd?.close();
    const connections = [this.#dialer, ...this.#incoming.keys()];
    for (const connection of connections) connection.event({ on: 'stop', ...(reason ? { reason } : {}) });
    this.#dialer.dispose();
    this.#routes.flush();
    await Promise.all(connections.map((connection) => connection.closed()));
  }

  /** Follows a change that concerns routes, not the session: the peer is asked for its routes again where needed. */
  adopt(config: PeerConfig): void {
    const freed = JSON.stringify(config.maxPrefixes) !== JSON.stringify(this.settings.maxPrefixes);
    const samePath = JSON.stringify(config.bfd) === JSON.stringify(this.settings.bfd);
    this.settings = config;
    if (!samePath) this.#watchPath();
    if (freed && !this.#session) this.#comeBack();
    const session = this.#session;
    const families = this.#routes.adopt(config, session?.negotiated);
    for (const family of session?.negotiated.families ?? []) {
      const error = this.#routes.overLimit(family);
      if (!error) continue;
      session?.connection.event({ on: 'wireError', error });
      return;
    }
    if (!session || families.length === 0) return;
    if (askAgain(session, families)) return;
    const message = 'peer cannot refresh its routes: the session is reset for the new policy';
    this.context.log.warn({ peer: this.name }, message);
    session.connection.event({ on: 'stop', reason: 'configChange' });
    if (this.#dialer.state === 'Idle') this.#dialer.event({ on: 'start' });
  }

  /** Next hops are reached through other devices: import filters that look at those judge the routes again. */
  devicesChanged(): void {
    const families = this.#routes.judgedByDevice;
    if (!this.#session || families.length === 0 || askAgain(this.#session, families)) return;
    const message =
      'devices of next hops changed, but the peer cannot refresh its routes: filters keep what they judged';
    this.context.log.warn({ peer: this.name, families }, message);
  }

  /**
   * `soft`: both sides tell their routes again (RFC 2918), the session stays. Otherwise it ends with cease 6/4 and
   * `message` (RFC 9003), and begins anew at once.
   */
  reset({ soft, message }: Reset): ResetOutcome {
    const session = this.#session;
    if (soft) return this.#resetSoftly(session);
    for (const connection of [this.#dialer, ...this.#incoming.keys()])
      connection.event({ on: 'stop', reason: 'reset', ...(message === undefined ? {} : { message }) });
    this.#comeBack();
    return { peer: this.name, reset: session ? 'hard' : 'restarted', refreshAsked: [] };
  }

  #resetSoftly(session: Session | undefined): ResetOutcome {
    if (!session) return { peer: this.name, reset: 'none', refreshAsked: [] };
    const { families } = session.negotiated;
    for (const family of families) this.#routes.refresh(family);
    return { peer: this.name, reset: 'soft', refreshAsked: askAgain(session) ? families : [] };
  }

  /** As the tables know the peer. */
  get source(): Source {
    return this.#routes.source;
  }

  /** Its routes that were accepted. */
  received(): Generator<{ family: Family; id: PrefixId; candidate: Candidate }> {
    return this.#routes.received();
  }

  /** Its routes that were not. */
  get rejections(): Rejections {
    return this.#routes.rejections;
  }

  /** A connection from the peer's address. */
  accept(socket: Socket): void {
    const { clock, log } = this.context;
    if (this.#stopped || this.#attempts.refusing || this.#incoming.size >= maxIncoming) {
      log.debug({ peer: this.name }, 'connection refused during idle hold');
      socket.destroy();
      return;
    }
    const connection = this.#connection('peer');
    this.#incoming.set(connection, clock.monotonic());
    connection.accept(socket);
  }

  status(): PeerStatus {
    const session = this.#session;
    const { clock } = this.context;
    return {
      ...describedPeer(this.config),
      state: this.state,
      since: this.#since.toISOString(),
      flaps: this.#flaps,
      ...(session ? { uptimeSeconds: Math.floor((clock.monotonic() - session.since) / 1000) } : {}),
      ...(session ? { negotiated: session.negotiated } : {}),
      families: this.#routes.counts(),
      messages: this.#tally.counts(),
      remembered: this.#routes.rejections.size,
      ...this.#routes.tallies(),
      ...this.#attempts.past,
      ...(this.#bfd ? { bfd: this.#bfd.status() } : {}),
    };
  }

  #watchPath(): void {
    const { name, address, localAddress, interface: device, bfd } = this.config;
    this.#bfd?.close();
    this.#bfd = undefined;
    if (!bfd) return;
    const zone = device ? { interface: device } : {};
    const target = { name, address, ...(localAddress ? { localAddress } : {}), ...zone, ...bfd };
    this.#bfd = this.context.bfd.watch(target, (reason) => this.#pathFailed(reason));
  }

  /** The session ends, and no graceful restart keeps the routes of a neighbour that cannot be reached. */
  #pathFailed(reason: string): void {
    if (this.#stopped) return;
    for (const connection of [this.#dialer, ...this.#incoming.keys()]) connection.event({ on: 'bfdDown', reason });
    this.#routes.flush();
  }

  #connection(initiator: 'us' | 'peer'): Connection {
    const { clock, random } = this.context;
    return new Connection(initiator, {
      clock,
      random,
      config: () => this.#sessionConfig(),
      dial: () => dial(endpointOf(this.config)),
      tally: this.#tally,
      known: this.context.interner,
      soon: (action) => this.context.turns.afterwards(action),
      queuedOctets: this.context.limits.queuedOctets,
      events: {
        moved: (connection, from, to, why) => this.#moved(connection, from, to, why),
        opened: (connection, negotiated) => this.#resolveCollision(connection, negotiated),
        up: (connection, negotiated) => this.#up(connection, negotiated),
        ended: (connection, ending, negotiated, established) =>
          this.#ended(connection, ending, negotiated, established),
        update: (_, update) => this.#routes.update(update),
        refresh: (_, family, subtype) => this.#routes.refresh(family, subtype),
        drained: () => this.#routes.resume(),
        taken: () => this.context.turns.read(),
      },
    });
  }

  #sessionConfig(): SessionConfig {
    const { config, context } = this;
    return sessionConfigOf(config, context, {
      everUp: this.#everUp,
      connectRetrySeconds: config.initiative === 'wait' ? waitSeconds : this.#attempts.retrySeconds,
      idleHoldSeconds: this.#attempts.idleHoldSeconds,
    });
  }

  #moved(connection: Connection, from: State, to: State, why: Event): void {
    if (connection === this.#dialer && from === 'Connect' && to === 'Active') this.#attempts.undialled();
    const { state } = this;
    if (state === this.#shown) return;
    this.context.log.debug({ peer: this.name, from: this.#shown, to: state, why: describeEvent(why) }, 'BGP state');
    this.#shown = state;
    this.#since = this.context.clock.wall();
  }

  /** RFC 4271 §6.8, when the OPEN of `newer` has been accepted. */
  #resolveCollision(newer: Connection, negotiated: Negotiated): void {
    for (const older of [this.#dialer, ...this.#incoming.keys()]) {
      const { state } = older;
      if (older === newer || (state !== 'OpenSent' && state !== 'OpenConfirm' && state !== 'Established')) continue;
      const contender: Contender = { initiator: older.initiator, state };
      const parties = partiesOf(this.config, this.context, negotiated);
      const lost = loser(contender, { initiator: newer.initiator, state: 'OpenConfirm' }, parties, {
        negotiated: this.#session?.negotiated.restart !== undefined,
        later: (this.#incoming.get(newer) ?? 0) > (this.#session?.since ?? 0) + raceMilliseconds,
      });
      if (lost === 'undecided') {
        this.#awaitVerdict([newer]);
        continue;
      }
      if (lost === 'newer') {
        newer.event({ on: 'collisionLost' });
        return;
      }
      if (state === 'Established') older.event({ on: 'tcpFailed', reason: 'the peer restarted and connected anew' });
      else older.event({ on: 'collisionLost' });
    }
  }

  /** The peer has a moment to say which of several connections it keeps; then the session is that. */
  #awaitVerdict(rivals: readonly Connection[]): void {
    const { connection } = this.#session ?? {};
    if (!connection || rivals.length === 0) return;
    this.context.clock.after(raceMilliseconds, () => {
      if (this.#session?.connection !== connection) return;
      for (const rival of rivals) if (isOpening(rival)) rival.event({ on: 'collisionLost' });
    });
  }

  #up(connection: Connection, negotiated: Negotiated): void {
    const { clock, log } = this.context;
    // The peer has decided for this one.
    this.#session?.connection.event({ on: 'collisionLost' });
    this.#session = { connection, negotiated, since: clock.monotonic() };
    this.#everUp = true;
    this.#attempts.established();
    log.info({ peer: this.name, address: this.config.address, asn: negotiated.peerAsn }, 'BGP session established');
    const others = [this.#dialer, ...this.#incoming.keys()].filter((other) => other !== connection);
    for (const other of others) if (!isOpening(other)) other.event({ on: 'collisionLost' });
    this.#awaitVerdict(others.filter(isOpening));
    // Where it is the session itself, its keepalives go on.
    if (connection !== this.#dialer) this.#dialer.dispose();
    this.context.monitor.up(this.#monitored(connection, negotiated));
    this.#routes.up(connection, negotiated);
  }

  /** The session as monitoring stations are told of it. */
  #monitored(connection: Connection, negotiated: Negotiated): MonitoredSession {
    const { config, context } = this;
    const current = () => this.#session?.connection === connection;
    return monitoredSessionOf(config, context, { connection, negotiated, routes: this.#routes, current });
  }

  #ended(connection: Connection, ending: Ending, negotiated: Negotiated | undefined, established: boolean): void {
    if (connection !== this.#dialer) {
      this.#incoming.delete(connection);
      connection.dispose();
    }
    const collision = ending.notification !== undefined && isCollision(ending.notification);
    // Another connection takes the session over, or is about to.
    const handedOver = collision && (this.state === 'Established' || isOpening(this));
    if (collision && (handedOver || !established))
      this.context.log.debug({ peer: this.name, by: ending.by, initiator: connection.initiator }, 'collision');
    else this.#attempts.ended(ending, established, this.#stopped);
    if (connection === this.#session?.connection) {
      this.#attempts.lasted(this.context.clock.monotonic() - this.#session.since);
      this.#session = undefined;
      this.context.monitor.down(this.name, downOf(ending));
      if (!handedOver) this.#flaps++;
      this.#routes.down(negotiated, !this.#stopped && (handedOver || isGraceful(ending, negotiated)));
    }
    if (this.#stopped || this.#session) return;
    if (ending.by === 'us' && ending.notification && isPrefixLimit(ending.notification)) this.#standBack();
    else if (connection !== this.#dialer && this.#dialer.state === 'Idle')
      this.#dialer.startAfter(this.#attempts.pauseAfter(ending));
  }

  /** The peer told too much: it is left alone for the configured time, or until an operator resets it. */
  #standBack(): void {
    const { restartSeconds } = this.config.maxPrefixes ?? {};
    this.#dialer.event({ on: 'stop' });
    this.#attempts.refuseFor(restartSeconds ?? Number.POSITIVE_INFINITY);
    if (restartSeconds !== undefined) this.#dialer.startAfter(restartSeconds);
  }

  /** There is no reason to stand back any longer. */
  #comeBack(): void {
    this.#attempts.welcome();
    if (!this.#stopped && this.#dialer.state === 'Idle') this.#dialer.event({ on: 'start' });
  }
}
