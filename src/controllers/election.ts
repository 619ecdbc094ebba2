import { type Clock, pause } from '../base/clock.ts';
import { explain } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import type { LeaseRecord, LeaseStore, StoredLease } from '../datastore/lease.ts';

/*
 * One leader among several processes, by a lease that all write with compare-and-swap. As in Kubernetes' components, no
 * clock is compared with another machine's: a lease is over when it has not been seen to change for as long as it says.
 */

export interface ElectionTimes {
  /** How long others wait for a leader that no longer renews. */
  readonly leaseSeconds: number;
  /** A leader that could not renew for so long stops; shorter than the lease. */
  readonly deadlineSeconds: number;
  /** Between two looks. */
  readonly retrySeconds: number;
}

/** Those of Kubernetes' own controllers. */
export const defaultTimes: ElectionTimes = { leaseSeconds: 15, deadlineSeconds: 10, retrySeconds: 2 };

/** What was last read, and since when (monotonic milliseconds) it has been so. */
export interface Observed {
  readonly lease: StoredLease | undefined;
  readonly sinceMs: number;
}

/** An unreadable record is as good as a holder's that never renews. */
const unreadableSeconds = 15;

/** What to do about a lease: pure. */
export function decide({ lease, sinceMs }: Observed, identity: string, nowMs: number): 'take' | 'renew' | 'wait' {
  if (lease === undefined || lease.record?.holder === '') return 'take';
  if (lease.record?.holder === identity) return 'renew';
  const seconds = lease.record?.durationSeconds ?? unreadableSeconds;
  return nowMs - sinceMs >= seconds * 1000 ? 'take' : 'wait';
}

/** The record that a holder writes. */
export function recordOf(
  before: LeaseRecord | undefined,
  identity: string,
  now: Date,
  { leaseSeconds }: ElectionTimes,
): LeaseRecord {
  const kept = before?.holder === identity;
  return {
    holder: identity,
    durationSeconds: leaseSeconds,
    acquiredAt: kept ? before.acquiredAt : now,
    renewedAt: now,
    transitions: kept || before === undefined ? (before?.transitions ?? 0) : before.transitions + 1,
  };
}

export interface Campaign {
  readonly lease: LeaseStore;
  /** Of this process alone. */
  readonly identity: string;
  readonly clock: Clock;
  readonly log: Log;
  readonly signal: AbortSignal;
  readonly times?: ElectionTimes;
  /** Runs while this process leads; the signal aborts when it no longer does. What it throws ends the campaign. */
  readonly lead: (signal: AbortSignal) => Promise<void>;
  /** Told who leads, at every look. */
  readonly onLook?: (leads: boolean) => void;
}

/**
 * Stands for election until the signal aborts, and leads whenever elected. The lease is given back at the end.
 * @throws what `lead` throws
 */
export async function campaign(options: Campaign): Promise<void> {
  const { clock, signal, times = defaultTimes } = options;
  const candidate = new Candidate(options, times);
  while (!signal.aborted) {
    if (await candidate.look()) await candidate.lead();
    else await pause(clock, times.retrySeconds * 1000 * (0.9 + 0.2 * Math.random()), signal);
  }
}

class Candidate {
  #observed: Observed | undefined;
  #holder: string | undefined;

  constructor(
    private readonly options: Campaign,
    private readonly times: ElectionTimes,
  ) {}

  /** Reads the lease and takes or renews it where that is due; whether this process leads now. */
  async look(): Promise<boolean> {
    const { log, onLook } = this.options;
    let leads = false;
    try {
      leads = await this.#try();
    } catch (thrown) {
      log.warn({ reason: explain(thrown), retryMs: this.times.retrySeconds * 1000 }, 'the lease cannot be reached');
    }
    onLook?.(leads);
    return leads;
  }

  /** Leads until the signal aborts, or renewing fails for as long as the deadline. */
  async lead(): Promise<void> {
    const { clock, log, signal, lead, identity } = this.options;
    const over = new AbortController();
    const task = lead(AbortSignal.any([signal, over.signal])).finally(() => over.abort());
    const ended = Promise.allSettled([task]);
    const lose = () => {
      log.warn({ identity }, 'no longer the leader: the lease could not be renewed in time');
      over.abort();
    };
    let cancel = clock.after(this.times.deadlineSeconds * 1000, lose);
    while (!signal.aborted && !over.signal.aborted) {
      await pause(clock, this.times.retrySeconds * 1000, AbortSignal.any([signal, over.signal]));
      if (signal.aborted || over.signal.aborted) break;
      if (await this.look()) {
        cancel();
        cancel = clock.after(this.times.deadlineSeconds * 1000, lose);
      } else if (this.#observed?.lease?.record && this.#observed.lease.record.holder !== identity) {
        log.warn({ identity, holder: this.#observed.lease.record.holder }, 'no longer the leader: another is');
        over.abort();
      }
    }
    cancel();
    over.abort();
    await ended;
    this.options.onLook?.(false);
    await this.#giveBack();
    return task;
  }

  async #try(): Promise<boolean> {
    const { lease, identity, clock } = this.options;
    const found = await lease.read();
    const now = clock.monotonic();
    if (this.#observed === undefined || this.#observed.lease?.revision !== found?.revision)
      this.#observed = { lease: found, sinceMs: now };
    this.#tell(found);
    if (decide(this.#observed, identity, now) === 'wait') return false;
    const record = recordOf(found?.record, identity, clock.wall(), this.times);
    if ((await lease.write(record, found?.revision)) === 'conflict') return false;
    if (this.#holder !== identity) this.#tell({ record, revision: '' });
    return true;
  }

  #tell(found: StoredLease | undefined): void {
    const holder = found?.record?.holder;
    if (holder === this.#holder || !holder) return;
    this.#holder = holder;
    this.options.log.info({ leader: holder, me: holder === this.options.identity }, 'a leader is elected');
  }

  /** So that another need not wait for the lease to end. */
  async #giveBack(): Promise<void> {
    const { lease, identity, log } = this.options;
    try {
      const found = await lease.read();
      if (found?.record?.holder !== identity) return;
      await lease.write({ ...found.record, holder: '', durationSeconds: 1 }, found.revision);
      log.info({ identity }, 'gave the lease back');
    } catch (thrown) {
      log.warn({ reason: explain(thrown) }, 'the lease could not be given back; it ends by itself');
    }
  }
}
