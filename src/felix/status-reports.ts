import type { Clock } from '../base/clock.ts';
import { explain } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import { Trigger } from '../base/trigger.ts';
import type { Store } from '../datastore/store.ts';
import type { FelixConfig } from './config.ts';

export interface StatusReportOptions {
  readonly store: Pick<Store, 'report'>;
  readonly node: string;
  readonly clock: Clock;
  readonly log: Log;
}

type Times = Pick<FelixConfig, 'reportingSeconds' | 'reportingTtlSeconds'>;

/**
 * Felix's status in etcd, as Calico's felix writes it: `status` has a lease and goes with a felix that died,
 * `last_reported_status` stays. Nothing where the datastore has no place for it.
 */
export class StatusReports {
  readonly #changed: Trigger;
  readonly #startedAt: number;
  #times: Times;
  #programmed = false;
  #first = true;

  constructor(
    private readonly options: StatusReportOptions,
    times: Times,
  ) {
    this.#changed = new Trigger(options.clock);
    this.#startedAt = options.clock.monotonic();
    this.#times = times;
  }

  follow(times: Times): void {
    const { reportingSeconds, reportingTtlSeconds } = this.#times;
    this.#times = times;
    const same = times.reportingSeconds === reportingSeconds && times.reportingTtlSeconds === reportingTtlSeconds;
    if (!same) this.#changed.fire();
  }

  /** The kernel is as wanted for the first time: from now on there is something to report. */
  programmed(): void {
    if (this.#programmed) return;
    this.#programmed = true;
    this.#changed.fire();
  }

  async run(signal: AbortSignal): Promise<void> {
    if (this.options.store.report === undefined) return;
    while (!signal.aborted) {
      const { reportingSeconds } = this.#times;
      const reports = this.#programmed && reportingSeconds > 0;
      if (reports) await this.#report(signal);
      await this.#changed.wait(reports ? reportingSeconds * 1000 : undefined, signal);
    }
  }

  /** A report that fails is made up for by the next one. */
  async #report(signal: AbortSignal): Promise<void> {
    const { store, node, clock, log } = this.options;
    const ttlSeconds = Math.ceil(this.#times.reportingTtlSeconds) || undefined;
    const value = {
      time: `${clock.wall().toISOString().slice(0, 19)}Z`,
      uptime: (clock.monotonic() - this.#startedAt) / 1000,
      first_update: this.#first,
    };
    try {
      await store.report?.(node, 'status', value, ttlSeconds);
      await store.report?.(node, 'last_reported_status', value);
      this.#first = false;
    } catch (thrown) {
      if (signal.aborted) return;
      log.warn({ error: explain(thrown) }, 'the status is not reported; the next one is due');
    }
  }
}
