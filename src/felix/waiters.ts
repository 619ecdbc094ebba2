import type { Clock } from '../base/clock.ts';

interface Waiter {
  readonly holds: () => boolean;
  readonly resolve: () => void;
}

/** Callers who wait for a condition that the main loop brings about; `settle` looks whether any has come true. */
export class Waiters {
  readonly #waiting = new Set<Waiter>();

  /** Resolves with `outcome` when the condition holds, or `timeout` after the time or when the signal aborts. */
  until<T extends string>(
    holds: () => boolean,
    outcome: T,
    timeoutMs: number,
    clock: Clock,
    signal: AbortSignal,
  ): Promise<T | 'timeout'> {
    if (holds()) return Promise.resolve(outcome);
    if (signal.aborted) return Promise.resolve('timeout');
    return new Promise((resolve) => {
      const finish = (result: T | 'timeout') => {
        cancel();
        signal.removeEventListener('abort', giveUp);
        this.#waiting.delete(waiter);
        resolve(result);
      };
      const giveUp = () => finish('timeout');
      const waiter: Waiter = { holds, resolve: () => finish(outcome) };
      const cancel = clock.after(timeoutMs, giveUp);
      signal.addEventListener('abort', giveUp, { once: true });
      this.#waiting.add(waiter);
    });
  }

  settle(): void {
    for (const waiter of [...this.#waiting]) if (waiter.holds()) waiter.resolve();
  }
}
