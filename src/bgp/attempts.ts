import { Backoff } from '../base/backoff.ts';
import type { Clock } from '../base/clock.ts';
import type { Log } from '../base/log.ts';
import type { Ending } from './fsm.ts';
import type { LastError, PeerStatus } from './peer-status.ts';
import { errorCodes, subcodes } from './wire/errors.ts';

/** Seconds of the first and the longest pause after errors, and after lost or refused connections. */
const errorPause = { first: 1, most: 30 } as const;
const dialPause = { first: 0.1, most: 5 } as const;

/** How earlier connections of one peer ended, and how long the next attempt waits for that. */
export class Attempts {
  readonly #errors = new Backoff(errorPause.first * 1000, errorPause.most * 1000, () => 1);
  readonly #dials: Backoff;
  #idleHoldSeconds: number = errorPause.first;
  #retrySeconds: number = dialPause.first;
  /** Monotonic milliseconds. */
  #refuseUntil = 0;
  #past: Pick<PeerStatus, 'lastError' | 'sessionEnd'> = {};
  #loggedReason = '';

  constructor(
    private readonly peer: string,
    private readonly context: { readonly clock: Clock; readonly log: Log; readonly random: () => number },
  ) {
    this.#dials = new Backoff(dialPause.first * 1000, dialPause.most * 1000, context.random);
  }

  /** Before the next start after an error. */
  get idleHoldSeconds(): number {
    return this.#idleHoldSeconds;
  }

  /** Before the next connection is dialled. */
  get retrySeconds(): number {
    return this.#retrySeconds;
  }

  /** The last ending that was an error, and the last of an established session. */
  get past(): Pick<PeerStatus, 'lastError' | 'sessionEnd'> {
    return this.#past;
  }

  /** Connections of the peer are not taken now. */
  get refusing(): boolean {
    return this.context.clock.monotonic() < this.#refuseUntil;
  }

  /** Connections of the peer are not taken for so long; Infinity: until `welcome`. */
  refuseFor(seconds: number): void {
    this.#refuseUntil = this.context.clock.monotonic() + seconds * 1000;
  }

  welcome(): void {
    this.#refuseUntil = 0;
  }

  /** TCP did not come about. */
  undialled(): void {
    this.#retrySeconds = this.#dials.next() / 1000;
  }

  /** There is a session. */
  established(): void {
    this.#dials.reset();
    this.#retrySeconds = dialPause.first;
    this.#loggedReason = '';
  }

  /** @param milliseconds for which a session was established: after a long one an error is the first again */
  lasted(milliseconds: number): void {
    if (milliseconds > errorPause.most * 2000) this.#errors.reset();
  }

  /**
   * A connection ended.
   * @param established it was the session
   * @param stopped the peer is to have no session now
   */
  ended(ending: Ending, established: boolean, stopped: boolean): void {
    const { clock, log } = this.context;
    const { peer } = this;
    const { by, reason, notification } = ending;
    // Our own stop, or an attempt that another connection made superfluous, is no error.
    if (by === 'us' && (stopped || notification === undefined)) {
      if (established) log.info({ peer, by, reason }, 'BGP session ended');
      return;
    }
    const lastError: LastError = { by, reason, at: clock.wall().toISOString() };
    this.#past = { ...this.#past, lastError, ...(established ? { sessionEnd: lastError } : {}) };
    if (by === 'us' && notification?.code === errorCodes.cease && notification.subcode === subcodes.cease.reset) {
      // Our operator's wish, and no reason to wait before the next attempt.
      log.info({ peer, by, reason }, 'BGP session reset');
      return;
    }
    if (by === 'tcp') {
      if (!established) this.undialled();
    } else {
      this.#idleHoldSeconds = this.#errors.next() / 1000;
      this.refuseFor(this.#idleHoldSeconds);
    }
    const level = established || reason !== this.#loggedReason ? 'warn' : 'debug';
    this.#loggedReason = reason;
    log[level]({ peer, by, reason, established }, 'BGP connection ended');
  }

  /** Seconds before the dialler, which rested while another connection lived, starts again. */
  pauseAfter({ by }: Ending): number {
    return by === 'tcp' ? this.#retrySeconds : this.#idleHoldSeconds;
  }
}
