/**
 * Something that takes long, and what is done beside it when somebody asks. Of many who ask in one go one is enough, and
 * who asks while it is being done is heard after it.
 */
export class Beside {
  #asked: (() => void) | undefined;

  /** Asks; nothing happens while nothing is under way. */
  ask(): void {
    this.#asked?.();
  }

  /** Waits for `work` and, once it is over, for what was being done beside it. */
  async during<T>(work: Promise<T>, action: () => Promise<void>): Promise<T> {
    let over = false;
    const end = work.finally(() => {
      over = true;
    });
    try {
      for (let next = this.#next(); ; ) {
        await Promise.race([end, next]);
        if (over) return await end;
        next = this.#next();
        await action();
      }
    } finally {
      this.#asked = undefined;
    }
  }

  #next(): Promise<void> {
    return new Promise((resolve) => {
      this.#asked = resolve;
    });
  }
}
