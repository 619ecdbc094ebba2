import { Backoff } from '../base/backoff.ts';
import { type Clock, pause } from '../base/clock.ts';
import { explain } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import { type ApiAccess, holdsKubeconfig, writeKubeconfig } from './kubeconfig.ts';

/** A token with its end. */
export interface IssuedAccess extends ApiAccess {
  readonly expires: Date;
}

export interface KeeperDeps {
  readonly confDir: string;
  /** Asks for a new token. */
  readonly issue: () => Promise<IssuedAccess>;
  readonly clock: Clock;
  readonly log: Log;
  /** 0 up to 1. */
  readonly random?: () => number;
}

/** The part of a token's life after which it is renewed, so that three more tries are left to a server that is away. */
const renewedAfter = 1 / 4;
/** Nodes that started together do not ask together: up to this part of the wait is left out. */
const spread = 1 / 10;
/** A machine that slept has lost time that timers do not see, and files may be removed: both are looked at this often. */
const lookMs = 60_000;
/** Not more often than this, however short tokens live. */
const leastMs = 10_000;

/** Milliseconds until a token is renewed. Pure. @param random 0 up to 1 */
export function renewalMs(expires: Date, now: Date, random: number): number {
  const quarter = (expires.getTime() - now.getTime()) * renewedAfter;
  return Math.max(leastMs, quarter * (1 - spread * random));
}

/** Keeps the kubeconfig's token fresh: it is the installer's second half, which goes on while the agent runs. */
export class KubeconfigKeeper {
  constructor(private readonly deps: KeeperDeps) {}

  /** Until the signal aborts. A token that cannot be had or written is tried again with backoff; the old one stays. */
  async run(signal: AbortSignal): Promise<void> {
    const { clock, log } = this.deps;
    const backoff = new Backoff(5000, 300_000);
    while (!signal.aborted) {
      try {
        const renewAt = await this.#renew();
        backoff.reset();
        await this.#rest(renewAt, signal);
      } catch (cause) {
        const retryInMs = backoff.next();
        log.warn({ reason: explain(cause), retryInMs }, 'the kubeconfig of CNI plugins cannot be renewed');
        await pause(clock, retryInMs, signal);
      }
    }
  }

  /** Writes a new token; the time of the next. */
  async #renew(): Promise<number> {
    const { confDir, issue, clock, log, random = Math.random } = this.deps;
    const access = await issue();
    const file = await writeKubeconfig(confDir, access);
    const now = clock.wall();
    const waitMs = renewalMs(access.expires, now, random());
    log.info({ file, expires: access.expires.toISOString(), renewInMs: Math.round(waitMs) }, 'kubeconfig renewed');
    return now.getTime() + waitMs;
  }

  /** Until the time has come by the wall clock, or the file is gone or another's. */
  async #rest(until: number, signal: AbortSignal): Promise<void> {
    const { confDir, clock } = this.deps;
    while (!signal.aborted) {
      const left = until - clock.wall().getTime();
      if (left <= 0) return;
      await pause(clock, Math.min(left, lookMs), signal);
      if (!signal.aborted && !(await holdsKubeconfig(confDir))) return;
    }
  }
}
