import { CniError, cniCodes } from './error.ts';

/** Runs tasks of one key after each other, those of different keys side by side. */
export class KeyedQueue {
  readonly #tails = new Map<string, Promise<void>>();

  /** Keys with a task running or waiting. */
  get size(): number {
    return this.#tails.size;
  }

  /** @throws CniError with code 11 when the signal aborts before the task's turn */
  async run<T>(key: string, signal: AbortSignal, task: () => Promise<T>): Promise<T> {
    const before = this.#tails.get(key);
    let free = (): void => undefined;
    const own = new Promise<void>((resolve) => {
      free = resolve;
    });
    const tail = before === undefined ? own : before.then(() => own);
    this.#tails.set(key, tail);
    try {
      if (before !== undefined) await untilAborted(before, signal);
      return await task();
    } finally {
      free();
      void tail.then(() => {
        if (this.#tails.get(key) === tail) this.#tails.delete(key);
      });
    }
  }
}

/** At most `limit` tasks at a time; the others wait in order. */
export class Slots {
  #running = 0;
  readonly #waiting: (() => void)[] = [];

  constructor(private readonly limit: number) {}

  async run<T>(task: () => Promise<T>): Promise<T> {
    if (this.#running >= this.limit) await new Promise<void>((resolve) => this.#waiting.push(resolve));
    else this.#running++;
    try {
      return await task();
    } finally {
      const next = this.#waiting.shift();
      if (next === undefined) this.#running--;
      else next();
    }
  }
}

function untilAborted(pending: Promise<void>, signal: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    const abort = () => reject(aborted());
    if (signal.aborted) return abort();
    signal.addEventListener('abort', abort, { once: true });
    void pending.then(() => {
      signal.removeEventListener('abort', abort);
      resolve();
    });
  });
}

/** The runtime went away, or the agent is stopping. */
export function aborted(): CniError {
  return new CniError(cniCodes.tryAgain, 'the request was given up before it was done');
}
