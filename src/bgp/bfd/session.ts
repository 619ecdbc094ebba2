import type { Clock } from '../../base/clock.ts';
import { Timers } from '../timers.ts';
import { type Change, type Diagnostic, diagnosticName, diagnostics, type Event, type State, step } from './fsm.ts';
import { type ControlPacket, writePacket } from './packet.ts';
import type { BfdSettings, BfdStatus } from './settings.ts';
import { desiredMinTx, detectionTime, jittered, transmitInterval } from './timing.ts';

export interface SessionDeps {
  readonly clock: Clock;
  readonly random: () => number;
  readonly send: (packet: Uint8Array) => void;
  /** Runs the action once packets that already wait in the sockets have been read. */
  readonly afterReads: (action: () => void) => void;
  /** The status is another; with a transition, which one. */
  readonly changed: (status: BfdStatus, change?: Change) => void;
}

/** What the peer last said; as RFC 5880 §6.8.1 wants it before that. */
const unheard: Remote = {
  remoteState: 'Down',
  remoteDiagnostic: 0,
  remoteDiscriminator: 0,
  remoteMinRxUs: 1,
  remoteMinTxUs: 0,
  remoteMultiplier: 0,
  remoteDemand: false,
};

interface Remote {
  readonly remoteState: State;
  readonly remoteDiagnostic: number;
  readonly remoteDiscriminator: number;
  readonly remoteMinRxUs: number;
  readonly remoteMinTxUs: number;
  readonly remoteMultiplier: number;
  readonly remoteDemand: boolean;
}

function sameWords(a: Remote, b: Remote): boolean {
  return (Object.keys(unheard) as (keyof Remote)[]).every((field) => a[field] === b[field]);
}

/** A session in asynchronous mode: the variables of RFC 5880 §6.8.1 and the two timers. */
export class Session {
  #state: State = 'Down';
  #diagnostic: Diagnostic = 'none';
  #remote = unheard;
  #polling = false;
  /** Of the periodic packets under way, before jitter. */
  #interval: number | undefined;
  readonly #timers: Timers<'transmit' | 'detect'>;

  constructor(
    readonly discriminator: number,
    private readonly settings: BfdSettings,
    private readonly deps: SessionDeps,
  ) {
    this.#timers = new Timers(deps.clock, (name) => (name === 'transmit' ? this.#periodic() : this.#overdue()));
  }

  get state(): State {
    return this.#state;
  }

  start(): void {
    this.#periodic();
    this.deps.changed(this.status());
  }

  /** Tells the peer once that this end was switched off on purpose, and falls silent. RFC 5880 §6.8.16. */
  stop(): void {
    this.#move('disable');
    this.#send(false);
    this.#timers.disarmAll();
  }

  /** A packet that belongs to this session. RFC 5880 §6.8.6. */
  receive(packet: ControlPacket): void {
    if (this.#state === 'AdminDown') return;
    const before = this.#remote;
    this.#hear(packet);
    if (packet.final) this.#polling = false;
    this.#timers.arm('detect', this.#detectionUs() / 1000);
    const change = this.#move(`told${packet.state}`);
    // A poll is answered at once, and news do not wait for the next turn. RFC 5880 §6.8.7.
    if (packet.poll) this.#send(true);
    else if (change || packet.myDiscriminator !== before.remoteDiscriminator) this.#send(false);
    this.#reschedule();
    if (change || !sameWords(before, this.#remote)) this.deps.changed(this.status(), change);
  }

  status(): BfdStatus {
    return {
      state: this.#state,
      remoteState: this.#remote.remoteState,
      diagnostic: this.#diagnostic,
      remoteDiagnostic: diagnosticName(this.#remote.remoteDiagnostic),
      localDiscriminator: this.discriminator,
      remoteDiscriminator: this.#remote.remoteDiscriminator,
      transmitMs: (this.#wantedInterval() ?? 0) / 1000,
      detectionMs: this.#detectionUs() / 1000,
    };
  }

  #hear(packet: ControlPacket): void {
    this.#remote = {
      remoteState: packet.state,
      remoteDiagnostic: packet.diagnostic,
      remoteDiscriminator: packet.myDiscriminator,
      remoteMinRxUs: packet.requiredMinRxUs,
      remoteMinTxUs: packet.desiredMinTxUs,
      remoteMultiplier: packet.multiplier,
      remoteDemand: packet.demand,
    };
  }

  #move(event: Event): Change | undefined {
    const from = this.#state;
    const { state: to, diagnostic } = step(from, event);
    this.#state = to;
    if (diagnostic !== undefined) this.#diagnostic = diagnostic;
    if (from === to) return undefined;
    // The announced interval changes with Up: a poll sequence says so. RFC 5880 §6.5, §6.8.3.
    this.#polling = to === 'Up';
    const { remoteState, remoteDiagnostic } = this.#remote;
    return { from, to, diagnostic: this.#diagnostic, remoteState, remoteDiagnostic };
  }

  /** The detection time is over, unless this thread was late and a packet waits to be read. */
  #overdue(): void {
    this.deps.afterReads(() => {
      if (this.#timers.left('detect') !== undefined || this.#state === 'AdminDown') return;
      const change = this.#move('expired');
      const { remoteState, remoteDiagnostic } = this.#remote;
      this.#remote = { ...unheard, remoteState, remoteDiagnostic };
      if (change) this.#send(false);
      this.#reschedule();
      this.deps.changed(this.status(), change);
    });
  }

  #periodic(): void {
    this.#interval = this.#wantedInterval();
    if (this.#interval === undefined) return;
    this.#send(false);
    this.#armTransmit(this.#interval);
  }

  /** Another interval counts from now on. */
  #reschedule(): void {
    const wanted = this.#wantedInterval();
    if (wanted === this.#interval) return;
    this.#interval = wanted;
    if (wanted === undefined) this.#timers.disarm('transmit');
    else this.#armTransmit(wanted);
  }

  #armTransmit(intervalUs: number): void {
    const { random } = this.deps;
    this.#timers.arm('transmit', jittered(intervalUs, this.settings.multiplier, random()) / 1000);
  }

  /** Nothing periodic for a peer that wants none, or that only polls once both are Up. RFC 5880 §6.8.7. */
  #wantedInterval(): number | undefined {
    const { remoteDemand, remoteState, remoteMinRxUs } = this.#remote;
    if (this.#state === 'AdminDown') return undefined;
    if (remoteDemand && this.#state === 'Up' && remoteState === 'Up' && !this.#polling) return undefined;
    return transmitInterval(desiredMinTx(this.#state, this.settings.minTxMs * 1000), remoteMinRxUs);
  }

  #detectionUs(): number {
    const { remoteMultiplier, remoteMinTxUs } = this.#remote;
    return detectionTime(remoteMultiplier, this.settings.minRxMs * 1000, remoteMinTxUs);
  }

  #send(final: boolean): void {
    this.deps.send(writePacket(this.#announcement(final)));
  }

  #announcement(final: boolean): ControlPacket {
    const { minTxMs, minRxMs, multiplier } = this.settings;
    return {
      diagnostic: diagnostics.indexOf(this.#diagnostic),
      state: this.#state,
      poll: this.#polling && !final,
      final,
      independent: false,
      demand: false,
      multiplier,
      myDiscriminator: this.discriminator,
      yourDiscriminator: this.#remote.remoteDiscriminator,
      desiredMinTxUs: desiredMinTx(this.#state, minTxMs * 1000),
      requiredMinRxUs: minRxMs * 1000,
      requiredMinEchoRxUs: 0,
    };
  }
}
