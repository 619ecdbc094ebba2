import { monitorEventLoopDelay } from 'node:perf_hooks';

/** Between two looks at whether the event loop goes round. */
const resolutionMilliseconds = 10;

/**
 * For how long this process answered nobody: the longest time for which its event loop did not go round. A hold timer
 * bears as much; RFC 4271 §10 suggests keepalives at a third of the hold time.
 */
export class Pauses {
  readonly #delays = monitorEventLoopDelay({ resolution: resolutionMilliseconds });

  start(): void {
    this.#delays.enable();
  }

  stop(): void {
    this.#delays.disable();
  }

  /** Since `start`, to within the resolution. */
  get longestMilliseconds(): number {
    return Math.max(0, Math.round(this.#delays.max / 1e6) - resolutionMilliseconds);
  }
}
