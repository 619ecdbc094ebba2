import { Backoff } from '../../base/backoff.ts';
import { type Clock, pause } from '../../base/clock.ts';
import { explain } from '../../base/errors.ts';
import type { Log } from '../../base/log.ts';
import { Trigger } from '../../base/trigger.ts';

/** At most one walk of the connections in so many milliseconds. */
const spacingMs = 1000;

/**
 * Cuts established connections that policy no longer allows, where it is told to: after every pass in which policy
 * changed, beside the passes, and never more than once a second. A connection that comes back between a change and its
 * pass is found by the walk after that pass.
 */
export class TighteningManager {
  readonly #wake: Trigger;
  #done: unknown;

  /**
   * @param version changes by identity with the policy; undefined while connections are to be kept
   * @param cut deletes what policy refuses now, and says how many
   */
  constructor(
    private readonly version: () => unknown,
    private readonly cut: () => Promise<number>,
    private readonly clock: Clock,
    private readonly log: Log,
  ) {
    this.#wake = new Trigger(clock);
  }

  /** The kernel has the policy of now. */
  passed(): void {
    if (this.version() !== this.#done) this.#wake.fire();
  }

  async run(signal: AbortSignal): Promise<void> {
    const backoff = new Backoff(spacingMs, 30_000);
    while (!signal.aborted) {
      await this.#wake.wait(undefined, signal);
      if (signal.aborted) return;
      const version = this.version();
      if (version === undefined || (await this.#walk())) {
        this.#done = version;
        backoff.reset();
        await pause(this.clock, spacingMs, signal);
      } else {
        await pause(this.clock, backoff.next(), signal);
        this.#wake.fire();
      }
    }
  }

  /** @returns whether it could be done */
  async #walk(): Promise<boolean> {
    try {
      const connections = await this.cut();
      if (connections > 0) this.log.info({ connections }, 'cut established connections that policy no longer allows');
      return true;
    } catch (cause) {
      this.log.warn({ error: explain(cause) }, 'connections that policy no longer allows could not be cut; will retry');
      return false;
    }
  }
}
