import { Worker } from 'node:worker_threads';
import { Backoff } from '../../base/backoff.ts';
import type { Clock } from '../../base/clock.ts';
import { explain } from '../../base/errors.ts';
import type { Log } from '../../base/log.ts';
import { type WorkerProgram, workerProgram } from '../../base/worker-program.ts';
import type { EtcdConfig } from '../config.ts';
import type { Commit, Kv, KvEntry, KvEvent, KvWrite } from '../kv.ts';
import { GoneError, StoreUnavailableError } from '../store.ts';
import {
  type Answer,
  type AsideOptions,
  batchesAhead,
  type Call,
  type Failure,
  type Result,
  type WorkerInput,
} from './messages.ts';

/*
 * etcd by way of a thread of its own: gRPC, its encoding and TLS cost a transaction several milliseconds of a thread's
 * time, and felix has other things to do meanwhile. See docs/decisions/0045.
 */

/** Milliseconds until a thread that died is started anew. */
const restart = { first: 500, most: 30_000 } as const;
/** What the thread makes is gone at once; V8 would let it lie about in three times 16 MiB. */
const resourceLimits = { maxYoungGenerationSizeMb: 6 } as const;
/** Batches of a watch that are used up before the thread is told. */
const toldAt = batchesAhead / 4;

interface Pending {
  readonly resolve: (result: Result) => void;
  readonly reject: (error: Error) => void;
  readonly entries?: KvEntry[];
  readonly events?: (events: readonly KvEvent[]) => void;
}

export class AsideKv implements Kv {
  readonly #pending = new Map<number, Pending>();
  readonly #backoff = new Backoff(restart.first, restart.most);
  #worker: Worker | undefined;
  #notBefore = Number.NEGATIVE_INFINITY;
  #closed = false;
  #last = 0;

  constructor(
    private readonly config: EtcdConfig,
    private readonly clock: Clock,
    private readonly log: Log,
    private readonly options: AsideOptions = {},
    /** What runs in the thread. */
    private readonly program: WorkerProgram = workerProgram(import.meta.url, 'etcd-worker.js', './worker.ts'),
  ) {
    this.#worker = this.#start();
  }

  async get(key: string): Promise<KvEntry | undefined> {
    const result = await this.#ask((id) => ({ do: 'get', id, key }));
    return result.of === 'get' ? result.entry : undefined;
  }

  async range(prefix: string, revision?: string) {
    const entries: KvEntry[] = [];
    const result = await this.#ask((id) => ({ do: 'range', id, prefix, revision }), { entries });
    return { entries, revision: result.of === 'range' ? result.revision : '0' };
  }

  async put(key: string, value: string, ttlSeconds?: number): Promise<void> {
    await this.#ask((id) => ({ do: 'put', id, key, value, ttlSeconds }));
  }

  async commit(writes: readonly KvWrite[]): Promise<Commit> {
    const result = await this.#ask((id) => ({ do: 'commit', id, writes }));
    if (result.of !== 'commit') throw new TypeError(`a commit was answered as a ${result.of}`);
    return result.commit;
  }

  async *watch(prefix: string, revision: string, signal: AbortSignal): AsyncIterable<readonly KvEvent[]> {
    if (signal.aborted) return;
    const arrivals = new Arrivals();
    let id = 0;
    const ended = this.#ask(
      (number) => {
        id = number;
        return { do: 'watch', id, prefix, revision };
      },
      { events: (events) => arrivals.add(events) },
    ).then(
      () => arrivals.end(),
      (error: Error) => arrivals.end(error),
    );
    const stop = () => {
      this.#worker?.postMessage({ do: 'end', id } satisfies Call);
      arrivals.end();
    };
    signal.addEventListener('abort', stop, { once: true });
    try {
      let used = 0;
      for (let events = await arrivals.next(); events !== undefined; events = await arrivals.next()) {
        yield events;
        if (++used < toldAt) continue;
        this.#worker?.postMessage({ do: 'more', id, batches: used } satisfies Call);
        used = 0;
      }
    } finally {
      signal.removeEventListener('abort', stop);
      stop();
      if (!this.#closed) await ended;
    }
  }

  close(): void {
    this.#closed = true;
    this.#fail(new StoreUnavailableError('the datastore is closed'));
    void this.#worker?.terminate();
    this.#worker = undefined;
  }

  #ask(call: (id: number) => Call, more: Pick<Pending, 'entries' | 'events'> = {}): Promise<Result> {
    const { promise, resolve, reject } = Promise.withResolvers<Result>();
    try {
      this.#worker ??= this.#again();
      const id = ++this.#last;
      this.#pending.set(id, { resolve, reject, ...more });
      this.#worker.postMessage(call(id));
    } catch (thrown) {
      reject(thrown);
    }
    return promise;
  }

  /** @throws StoreUnavailableError while it is too early to start the thread anew */
  #again(): Worker {
    if (this.#closed) throw new StoreUnavailableError('the datastore is closed');
    const waitMs = Math.ceil(this.#notBefore - this.clock.monotonic());
    if (waitMs > 0) throw new StoreUnavailableError(`the datastore thread ended; it starts again in ${waitMs} ms`);
    return this.#start();
  }

  #start(): Worker {
    const { url, execArgv } = this.program;
    const input: WorkerInput = { config: this.config, options: this.options };
    const worker = new Worker(url, { name: 'etcd', workerData: input, resourceLimits, ...(execArgv && { execArgv }) });
    let cause: unknown;
    worker.on('message', (answer: Answer) => this.#heard(answer));
    worker.once('error', (thrown) => {
      cause = thrown;
    });
    worker.once('exit', () => this.#ended(worker, cause));
    return worker;
  }

  /** Every call under way is lost with the thread; whether a transaction went through is unknown. */
  #ended(worker: Worker, cause: unknown): void {
    if (this.#worker !== worker) return;
    this.#worker = undefined;
    const retryMs = this.#backoff.next();
    this.#notBefore = this.clock.monotonic() + retryMs;
    this.log.error({ reason: explain(cause), retryMs }, 'the datastore thread ended; it is started again');
    this.#fail(new StoreUnavailableError('the datastore thread ended', { cause }));
  }

  #fail(error: Error): void {
    const lost = [...this.#pending.values()];
    this.#pending.clear();
    for (const { reject } of lost) reject(error);
  }

  #heard(answer: Answer): void {
    if (answer.type === 'log') {
      this.#repeat(answer.line);
      return;
    }
    const pending = this.#pending.get(answer.id);
    if (pending === undefined) return;
    if (answer.type === 'entries') for (const entry of answer.entries) pending.entries?.push(entry);
    else if (answer.type === 'events') pending.events?.(answer.events);
    else this.#settle(pending, answer);
  }

  #settle({ resolve, reject }: Pending, answer: Extract<Answer, { type: 'done' | 'failed' }>): void {
    this.#backoff.reset();
    this.#pending.delete(answer.id);
    if (answer.type === 'done') resolve(answer.result);
    else reject(errorOf(answer.failure));
  }

  /** What the thread had to say, in this process's log and by its level. */
  #repeat(line: string): void {
    const { level, msg, time: _time, name: _name, ...fields } = JSON.parse(line);
    const say = this.log[level as 'debug' | 'info' | 'warn' | 'error'];
    say.call(this.log, fields, msg);
  }
}

/** Batches that came and were not taken yet. */
class Arrivals {
  #batches: (readonly KvEvent[])[] = [];
  #taken = 0;
  #over = false;
  #error: Error | undefined;
  #wake: (() => void) | undefined;

  add(events: readonly KvEvent[]): void {
    if (this.#over) return;
    this.#batches.push(events);
    this.#wake?.();
  }

  end(error?: Error): void {
    if (this.#over) return;
    this.#over = true;
    this.#error = error;
    this.#wake?.();
  }

  /** The next batch; undefined when there are no more. @throws what the watch ended with */
  async next(): Promise<readonly KvEvent[] | undefined> {
    while (this.#taken === this.#batches.length && !this.#over) {
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
    const batch = this.#batches[this.#taken];
    if (batch === undefined) {
      if (this.#error) throw this.#error;
      return undefined;
    }
    if (++this.#taken === this.#batches.length) {
      this.#batches = [];
      this.#taken = 0;
    }
    return batch;
  }
}

function errorOf({ kind, message, cause }: Failure): Error {
  const options = cause === undefined ? {} : { cause: new Error(cause) };
  if (kind === 'gone') return new GoneError(message, options);
  if (kind === 'unavailable') return new StoreUnavailableError(message, options);
  return new Error(message, options);
}
