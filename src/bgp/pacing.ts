import type { Clock } from '../base/clock.ts';

/**
 * MinRouteAdvertisementIntervalTimer of a session and family: after a peer has been told all there was, it is told
 * nothing more for so long, and then only what came of the changes meanwhile. RFC 4271 §9.2.1.1.
 */
export class Pace {
  #cancel: (() => void) | undefined;

  /**
   * @param seconds as configured now; 0: none
   * @param over the rest is: there may be something to tell
   */
  constructor(
    private readonly seconds: () => number,
    private readonly deps: { readonly clock: Clock; readonly random: () => number },
    private readonly over: () => void,
  ) {}

  /** Changes are to be collected. */
  get wanted(): boolean {
    return this.seconds() > 0;
  }

  get resting(): boolean {
    return this.#cancel !== undefined;
  }

  /** All has been told. With the jitter of RFC 4271 §10. */
  rest(): void {
    if (!this.wanted || this.resting) return;
    const milliseconds = this.seconds() * 1000 * (0.75 + 0.25 * this.deps.random());
    this.#cancel = this.deps.clock.after(milliseconds, () => {
      this.#cancel = undefined;
      this.over();
    });
  }

  stop(): void {
    this.#cancel?.();
    this.#cancel = undefined;
  }
}
