import { type Clock, systemClock } from './clock.ts';

/** A coalescing wake-up: any number of `fire` calls before a `wait` wake it once. */
export class Trigger {
  #fired = false;
  #wake: (() => void) | undefined;

  constructor(private readonly clock: Clock = systemClock) {}

  fire(): void {
    this.#fired = true;
    this.#wake?.();
  }

  /** Resolves true when fired, false when the time ran out or the signal aborted. Undefined waits without limit. */
  wait(milliseconds: number | undefined, signal: AbortSignal): Promise<boolean> {
    if (this.#fired) {
      this.#fired = false;
      return Promise.resolve(true);
    }
    return new Promise((resolve) => {
      if (signal.aborted) return resolve(false);
      const finish = () => {
        cancel?.();
        signal.removeEventListener('abort', finish);
        this.#wake = undefined;
        const fired = this.#fired;
        this.#fired = false;
        resolve(fired);
      };
      const cancel = milliseconds === undefined ? undefined : this.clock.after(milliseconds, finish);
      this.#wake = finish;
      signal.addEventListener('abort', finish, { once: true });
    });
  }
}
