/**
 * How far one side may be ahead of the other: after `size` things that were told and not used up, it waits. One waits at
 * a time.
 */
export class Window {
  #ahead = 0;
  #over = false;
  #resume: (() => void) | undefined;

  constructor(private readonly size: number) {}

  /** One more was told. Resolves when there is room for another, or at the end. */
  async told(): Promise<void> {
    if (++this.#ahead < this.size || this.#over) return;
    await new Promise<void>((resolve) => {
      this.#resume = resolve;
    });
  }

  /** So many were used up. */
  used(count: number): void {
    this.#ahead -= count;
    this.#go();
  }

  /** Nobody waits any more. */
  end(): void {
    this.#over = true;
    this.#go();
  }

  #go(): void {
    this.#resume?.();
    this.#resume = undefined;
  }
}
