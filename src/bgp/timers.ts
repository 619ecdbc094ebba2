import type { Clock } from '../base/clock.ts';

/**
 * Named timers that are armed far more often than they expire: arming only moves the deadline, and a timer that fires
 * early goes back to sleep.
 */
export class Timers<Name extends string> {
  readonly #deadlines = new Map<Name, number>();
  readonly #cancels = new Map<Name, { readonly at: number; readonly cancel: () => void }>();

  constructor(
    private readonly clock: Clock,
    private readonly expired: (name: Name) => void,
  ) {}

  arm(name: Name, milliseconds: number): void {
    const deadline = this.clock.monotonic() + milliseconds;
    this.#deadlines.set(name, deadline);
    const sleeping = this.#cancels.get(name);
    if (sleeping && sleeping.at <= deadline) return;
    sleeping?.cancel();
    this.#sleep(name, deadline);
  }

  disarm(name: Name): void {
    this.#deadlines.delete(name);
    this.#cancels.get(name)?.cancel();
    this.#cancels.delete(name);
  }

  disarmAll(): void {
    for (const name of [...this.#cancels.keys()]) this.disarm(name);
  }

  /** Milliseconds until the deadline; undefined when the timer is not armed. Negative when it is overdue. */
  left(name: Name): number | undefined {
    const deadline = this.#deadlines.get(name);
    return deadline === undefined ? undefined : deadline - this.clock.monotonic();
  }

  #sleep(name: Name, deadline: number): void {
    const delay = Math.max(0, deadline - this.clock.monotonic());
    const cancel = this.clock.after(delay, () => this.#wake(name));
    this.#cancels.set(name, { at: deadline, cancel });
  }

  #wake(name: Name): void {
    this.#cancels.delete(name);
    const left = this.left(name);
    if (left === undefined) return;
    // A timer may fire a fraction of a millisecond before its time.
    if (left > 1) {
      this.#sleep(name, this.clock.monotonic() + left);
      return;
    }
    this.#deadlines.delete(name);
    this.expired(name);
  }
}
