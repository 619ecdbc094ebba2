/** Exponential backoff with full upper-half jitter. */
export class Backoff {
  #attempt = 0;
  /** @param firstMs delay after the first failure @param maxMs upper bound */
  constructor(
    private readonly firstMs: number,
    private readonly maxMs: number,
    private readonly random: () => number = Math.random,
  ) {}

  /** Milliseconds to wait after one more failure. */
  next(): number {
    const full = Math.min(this.maxMs, this.firstMs * 2 ** this.#attempt);
    if (full < this.maxMs) this.#attempt++;
    return Math.round(full * (0.5 + 0.5 * this.random()));
  }

  reset(): void {
    this.#attempt = 0;
  }
}
