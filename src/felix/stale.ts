import type { Clock } from '../base/clock.ts';

/**
 * How long the feed's routes outlive it. The time runs while there is no connection and stands still while there is
 * one; only a complete table sets it back, so that a feed that dies again and again does not keep old routes for ever.
 */
export class StaleTimer {
  #cancel: (() => void) | undefined;
  #startedAt = 0;
  #left: number;

  constructor(
    private readonly clock: Clock,
    private milliseconds: number,
    private readonly expired: () => void,
  ) {
    this.#left = milliseconds;
  }

  /** Another limit; a time that runs already ends with the one before. */
  set limit(milliseconds: number) {
    this.milliseconds = milliseconds;
    if (!this.#cancel) this.#left = milliseconds;
  }

  start(): void {
    if (this.#cancel) return;
    this.#startedAt = this.clock.monotonic();
    this.#cancel = this.clock.after(this.#left, () => {
      this.#cancel = undefined;
      this.#left = this.milliseconds;
      this.expired();
    });
  }

  pause(): void {
    if (!this.#cancel) return;
    this.stop();
    this.#left = Math.max(0, this.#left - (this.clock.monotonic() - this.#startedAt));
  }

  clear(): void {
    this.stop();
    this.#left = this.milliseconds;
  }

  stop(): void {
    this.#cancel?.();
    this.#cancel = undefined;
  }
}
