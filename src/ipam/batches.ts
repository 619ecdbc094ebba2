/** One who waits for an answer. */
export interface Member<R, T> {
  readonly request: R;
  readonly signal: AbortSignal;
  readonly settled: boolean;
  resolve(value: T): void;
  reject(reason: unknown): void;
}

/**
 * Requests that wait for the same turn, served together: whoever comes first asks for the turn, and those that come
 * before it begins join. A lone request waits no longer than without.
 */
export class Batches<R, T> {
  readonly #open = new Map<string, Waiting<R, T>[]>();

  /**
   * @param limit members of one batch
   * @param serve settles every member
   */
  constructor(
    private readonly limit: number,
    private readonly serve: (members: readonly Member<R, T>[]) => Promise<void>,
  ) {}

  /**
   * @param key what requests must have in common
   * @param turn runs a task when it is its turn
   */
  join(key: string, request: R, signal: AbortSignal, turn: (task: () => Promise<void>) => Promise<void>): Promise<T> {
    const member = new Waiting<R, T>(request, signal);
    const open = this.#open.get(key);
    if (open !== undefined && open.length < this.limit) open.push(member);
    else void this.#begin(key, [member], turn);
    return member.answer;
  }

  async #begin(key: string, batch: Waiting<R, T>[], turn: (task: () => Promise<void>) => Promise<void>): Promise<void> {
    this.#open.set(key, batch);
    try {
      await turn(async () => {
        if (this.#open.get(key) === batch) this.#open.delete(key);
        for (const member of batch) member.begin();
        await this.serve(batch.filter(({ settled }) => !settled));
      });
    } catch (thrown) {
      for (const member of batch) member.reject(thrown);
    }
  }
}

class Waiting<R, T> implements Member<R, T> {
  readonly answer: Promise<T>;
  settled = false;
  readonly #resolvers = Promise.withResolvers<T>();
  readonly #abort = () => this.reject(this.signal.reason);

  constructor(
    readonly request: R,
    readonly signal: AbortSignal,
  ) {
    this.answer = this.#resolvers.promise;
    if (signal.aborted) this.#abort();
    else signal.addEventListener('abort', this.#abort, { once: true });
  }

  /** From here on, whoever serves looks at the signal. */
  begin(): void {
    this.signal.removeEventListener('abort', this.#abort);
  }

  resolve(value: T): void {
    this.settled = true;
    this.begin();
    this.#resolvers.resolve(value);
  }

  reject(reason: unknown): void {
    this.settled = true;
    this.begin();
    this.#resolvers.reject(reason);
  }
}
