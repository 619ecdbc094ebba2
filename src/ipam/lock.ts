/** Lets one task in at a time, in the order of asking. */
export class Lock {
  #last: Promise<void> = Promise.resolve();

  /** Runs `task` when all before it are done; its result or error is the caller's. Aborted before its turn: rejects. */
  async hold<T>(task: () => Promise<T>, signal?: AbortSignal): Promise<T> {
    const before = this.#last;
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#last = before.then(() => promise);
    try {
      await before;
      signal?.throwIfAborted();
      return await task();
    } finally {
      resolve();
    }
  }
}
