import type { Clock } from '../base/clock.ts';

/** Milliseconds of work in one turn of the event loop, a tenth of the longest pause that is allowed. */
const sliceMs = 5;

/** Tells, from now on, when a slice's time is over. */
export function slice(clock: Clock): () => boolean {
  const end = clock.monotonic() + sliceMs;
  return () => clock.monotonic() >= end;
}

/** The rest of the event loop's turn, and what waits for it. */
export function nextTurn(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}

/** The turns of one long task: its pieces share a turn as long as there is time in its slice. */
export class Turns {
  #enough: () => boolean;

  constructor(private readonly clock: Clock) {
    this.#enough = slice(clock);
  }

  /** Tells when the time of this turn's slice is over. */
  get enough(): () => boolean {
    return this.#enough;
  }

  /** Between two pieces: the next one is of another turn when the slice's time is over. */
  async breathe(): Promise<void> {
    if (this.#enough()) await this.next();
  }

  /** The next piece is of another turn, with a slice of its own. */
  async next(): Promise<void> {
    await nextTurn();
    this.#enough = slice(this.clock);
  }
}

/** Does `work` a slice at a time until it has nothing left or the signal aborts. */
export async function inSlices(
  turns: Turns,
  work: (enough: () => boolean) => boolean,
  signal: AbortSignal,
): Promise<void> {
  while (work(turns.enough) && !signal.aborted) await turns.next();
}

/**
 * Takes lists of any length in order. What is little is done at once; a long list, and all that comes while it is being
 * worked through, is done a slice in a turn.
 */
export class Intake<T> {
  readonly #waiting: { readonly items: readonly T[]; readonly done: () => void }[] = [];
  #at = 0;
  #spentMs = 0;

  /** @param measured told of each list, unless empty, how long its items took, in milliseconds */
  constructor(
    private readonly clock: Clock,
    private readonly take: (item: T) => void,
    private readonly measured: (milliseconds: number) => void = () => undefined,
  ) {}

  /** @param done called after the last item */
  add(items: readonly T[], done: () => void): void {
    this.#waiting.push({ items, done });
    if (this.#waiting.length === 1) this.#step();
  }

  #step(): void {
    const enough = slice(this.clock);
    for (let first = this.#waiting[0]; first; first = this.#waiting[0]) {
      const began = this.clock.monotonic();
      for (const item of first.items.slice(this.#at, this.#at + 16)) this.take(item);
      this.#spentMs += this.clock.monotonic() - began;
      this.#at += 16;
      if (this.#at >= first.items.length) {
        this.#waiting.shift();
        if (first.items.length > 0) this.measured(this.#spentMs);
        this.#at = 0;
        this.#spentMs = 0;
        first.done();
      }
      if (this.#waiting.length > 0 && enough()) {
        setImmediate(() => this.#step());
        return;
      }
    }
  }
}
