/** Work runs at once where none has run for so long. */
const quietMilliseconds = 2;

/**
 * When the tables are worked on. In general at the end of a turn of the event loop, after all sockets have been read, so
 * that what many peers say at once shares its messages; but what comes while all is quiet is told on in the same breath.
 */
export class Turns {
  #waiting: (() => void)[] = [];
  #armed = false;
  #last = Number.NEGATIVE_INFINITY;
  readonly #atEnd = () => {
    this.#armed = false;
    this.#run();
  };

  /** @param now monotonic milliseconds */
  constructor(private readonly now: () => number) {}

  /** Runs the work once, at the end of this turn at the latest; what it schedules itself waits for the next turn. */
  schedule(work: () => void): void {
    this.#waiting.push(work);
    if (this.#armed) return;
    this.#armed = true;
    setImmediate(this.#atEnd);
  }

  /** A socket has been read: what came of it need not wait when nothing else goes on. */
  read(): void {
    if (this.#waiting.length > 0 && this.now() - this.#last >= quietMilliseconds) this.#run();
  }

  #run(): void {
    const waiting = this.#waiting;
    if (waiting.length === 0) return;
    this.#waiting = [];
    for (const work of waiting) work();
    this.#last = this.now();
  }
}
