/** Lets one task in at a time, in the order of asking. */
export class Lock {
  #last: Promise<void> = Promise.resolve();

  /** Runs `task` when all before it are done; its result or error is the caller's. Rejects when aborted before its turn. */
  async hold<T>(task: () => Promise<T>, signal?: AbortSignal): Promise<T> {
    const before = this.#last;
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#last = before.then(() => promise);
    try {
      await turn(before, signal);
      return await task();
    } finally {
      resolve();
    }
  }
}

function turn(before: Promise<void>, signal: AbortSignal | undefined): Promise<void> {
  if (signal === undefined) return before;
  return new Promise((resolve, reject) => {
    const abort = () => reject(signal.reason);
    if (signal.aborted) return abort();
    signal.addEventListener('abort', abort, { once: true });
    before.then(() => {
      signal.removeEventListener('abort', abort);
      resolve();
    }, reject);
  });
}
