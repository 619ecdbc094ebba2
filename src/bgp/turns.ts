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
  #running = false;
  #after: (() => void)[] = [];
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

  /** Runs it when the work that runs now is done, and soon where none runs: what work tells leaves in one write. */
  afterwards(action: () => void): void {
    if (this.#running) this.#after.push(action);
    else process.nextTick(action);
  }

  #run(): void {
    const waiting = this.#waiting;
    if (waiting.length === 0) return;
    this.#waiting = [];
    this.#running = true;
    for (const work of waiting) work();
    this.#running = false;
    const after = this.#after;
    this.#after = [];
    for (const action of after) action();
    this.#last = this.now();
  }
}
