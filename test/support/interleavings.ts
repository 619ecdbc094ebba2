import { createHash } from 'node:crypto';
import { setImmediate } from 'node:timers/promises';
import type { MemoryStore } from '../../src/datastore/memory.ts';
import {
  type Key,
  keyText,
  type Scope,
  type Store,
  StoreUnavailableError,
  type Write,
} from '../../src/datastore/store.ts';

/*
 * A model checker for processes that share a store: every order in which their calls can reach it, each order once, and
 * optionally every write at which one of them dies, before it took effect or after. A process is run again from its
 * beginning for each order; orders that lead to the same place (the same objects, the same answers seen by each
 * process) are followed once from there.
 */

/**
 * Deterministic given the store's answers. Resolves to all that the end's check knows of it beside the store. Rejects
 * with StoreUnavailableError when it died.
 */
export type Process = (store: Store) => Promise<string>;

export interface Race {
  /** A fresh store as all orders begin, and the processes on it. */
  begin(): Promise<{ readonly store: MemoryStore; readonly processes: readonly Process[] }>;
  /** Looks at what is left when all have ended. */
  end(store: MemoryStore): Promise<void>;
  /** Whether one process may die at one of its writes. */
  readonly deaths: boolean;
  /** Stops at so many places, orders taken at random by `random`; without it, all are followed. */
  readonly sample?: { readonly states: number; readonly random: () => number };
}

export interface Explored {
  /** Places that are different. */
  readonly states: number;
  /** Orders followed to their end. */
  readonly ends: number;
  /** Nothing is left to follow. */
  readonly complete: boolean;
}

interface Choice {
  readonly process: number;
  /** What becomes of its next call: done; done, but the process dies without the answer; not done, and it dies. */
  readonly fate: 'done' | 'unanswered' | 'undone';
}

/** Follows all orders. @throws what `end` or a process throws, with the order that led to it */
export async function explore(race: Race): Promise<Explored> {
  const seen = new Set<string>();
  const open: (readonly Choice[])[] = [[]];
  let ends = 0;
  for (let prefix = open.pop(); prefix !== undefined; prefix = next(open, race)) {
    if (seen.size >= (race.sample?.states ?? Number.POSITIVE_INFINITY))
      return { states: seen.size, ends, complete: false };
    const { store, processes } = await race.begin();
    const run = new Run(store, processes);
    const path: Choice[] = [];
    try {
      await run.settle();
      for (const choice of prefix) await run.take(choice, path);
      for (;;) {
        const [first, ...others] = run.choices(race.deaths);
        const state = run.state();
        if (seen.has(state)) {
          await run.abandon();
          break;
        }
        seen.add(state);
        if (first === undefined) {
          await run.finished();
          await race.end(store);
          ends++;
          break;
        }
        for (const other of others) open.push([...path, other]);
        await run.take(first, path);
      }
    } catch (cause) {
      throw new Error(`in this order: ${run.log.join('; ')}`, { cause });
    }
  }
  return { states: seen.size, ends, complete: true };
}

/** The newest, so that few wait; any, for a sample. */
function next(open: (readonly Choice[])[], { sample }: Race): readonly Choice[] | undefined {
  if (sample === undefined) return open.pop();
  return open.splice(Math.floor(sample.random() * open.length), 1)[0];
}

interface Call {
  readonly text: string;
  readonly writes: boolean;
  run(): Promise<unknown>;
  answer(value: unknown): void;
  fail(error: Error): void;
}

class Run {
  readonly log: string[] = [];
  /** Writes of each key: names its present value. */
  readonly #versions = new Map<string, number>();
  readonly #calls: Call[][];
  readonly #histories: string[][];
  readonly #ended: boolean[];
  readonly #results: Promise<void>[];
  readonly #outcomes: string[];
  readonly #begun: ReadonlyMap<string, string>;
  #dead: number | undefined;

  constructor(
    private readonly store: MemoryStore,
    processes: readonly Process[],
  ) {
    this.#begun = store.dump();
    this.#calls = processes.map(() => []);
    this.#histories = processes.map(() => []);
    this.#ended = processes.map(() => false);
    this.#outcomes = processes.map(() => 'died');
    this.#results = processes.map(async (process, at) => {
      try {
        this.#outcomes[at] = await process(this.#gated(at));
      } catch (thrown) {
        if (!(thrown instanceof StoreUnavailableError)) throw thrown;
      } finally {
        this.#ended[at] = true;
      }
    });
    // Awaited at the end; until then a rejection is no accident.
    for (const result of this.#results) result.catch(() => undefined);
  }

  /** Waits until every process waits for the store or has ended. */
  async settle(): Promise<void> {
    do await setImmediate();
    while (this.#calls.some((calls, at) => calls.length === 0 && !this.#ended[at]));
  }

  choices(deaths: boolean): Choice[] {
    return this.#calls.flatMap(([call], process) => {
      if (call === undefined) return [];
      const done: Choice = { process, fate: 'done' };
      if (!deaths || this.#dead !== undefined || !call.writes) return [done];
      return [done, { process, fate: 'unanswered' }, { process, fate: 'undone' }];
    });
  }

  async take(choice: Choice, path: Choice[]): Promise<void> {
    const { process, fate } = choice;
    path.push(choice);
    const call = this.#calls[process]?.shift();
    if (call === undefined) throw new Error('a process did not repeat itself');
    this.log.push(`${process + 1}: ${call.text}${fate === 'done' ? '' : ` (dies, ${fate})`}`);
    if (fate === 'undone') this.#die(process, call);
    else {
      const value = await call.run();
      if (fate === 'done') call.answer(value);
      else this.#die(process, call);
    }
    await this.settle();
  }

  /**
   * A digest of what was stored since the beginning, and of what each process was answered; of one that ended, of what
   * came of it. There are hundreds of thousands, each of some thousand octets.
   */
  state(): string {
    const versions = [...this.#versions].toSorted();
    const stored = [...this.store.dump()].filter(([key, text]) => this.#begun.get(key) !== text);
    const seen = this.#histories.map((history, at) => (this.#ended[at] ? this.#outcomes[at] : history));
    const text = JSON.stringify([stored, versions, seen, this.#dead ?? -1]);
    return createHash('sha256').update(text).digest('base64');
  }

  async finished(): Promise<void> {
    await Promise.all(this.#results);
  }

  /** Lets the processes end: what comes now was seen before. */
  async abandon(): Promise<void> {
    for (const [process, calls] of this.#calls.entries()) {
      this.#histories[process] = ['abandoned'];
      for (const call of calls.splice(0)) call.fail(new StoreUnavailableError('abandoned'));
    }
    await Promise.allSettled(this.#results);
  }

  #die(process: number, call: Call): void {
    this.#dead = process;
    this.#histories[process]?.push('dead');
    const calls = this.#calls[process]?.splice(0) ?? [];
    for (const each of [call, ...calls]) each.fail(new StoreUnavailableError('died'));
  }

  #gated(process: number): Store {
    const { store } = this;
    const key = (of: Key) => `${keyText(of)}@${this.#versions.get(keyText(of)) ?? 0}`;
    const read =
      <A extends unknown[], R>(
        text: (...given: A) => string,
        call: (...given: A) => Promise<R>,
        seen: (...given: A) => string,
      ) =>
      (...given: A) =>
        this.#call<R>(process, text(...given), false, async () => {
          const value = await call.apply(store, given);
          return { value, seen: seen(...given) };
        });
    const write =
      <A extends unknown[], R extends { readonly outcome: string }>(
        name: string,
        call: (...given: A) => Promise<R>,
        keysOf: (...given: A) => readonly Key[],
      ) =>
      (...given: A) => {
        const keys = keysOf(...given);
        return this.#call<R>(process, `${name} ${keys.map(keyText).join(', ')}`, true, async () => {
          const value = await call.apply(store, given);
          const done = value.outcome === 'written';
          if (done)
            for (const one of keys) this.#versions.set(keyText(one), (this.#versions.get(keyText(one)) ?? 0) + 1);
          return { value, seen: `${value.outcome} ${keys.map(key).join()}` };
        });
      };
    const all = (prefix: string) =>
      [...this.#versions]
        .filter(([text]) => text.startsWith(prefix))
        .toSorted()
        .join();
    return {
      atomic: true,
      get: read(
        (of) => `get ${keyText(of as Key)}`,
        store.get,
        (of) => key(of as Key),
      ) as Store['get'],
      list: read(
        (type: string, _scope?: Scope) => `list ${type}`,
        store.list as (type: string, scope?: Scope) => Promise<unknown>,
        (type, scope) => all(`${type}/${scope?.host ? `${scope.host}/` : ''}`),
      ) as Store['list'],
      create: write('create', store.create, (of) => [of as Key]) as Store['create'],
      update: write('update', store.update, (of) => [of as Key]) as Store['update'],
      delete: write('delete', store.delete, (of) => [of as Key]) as Store['delete'],
      transact: write('transact', store.transact, (writes: readonly Write[]) => writes.map((each) => each.key)),
      watch: () => {
        throw new Error('a process that watches is not to be followed');
      },
      close: () => undefined,
    };
  }

  #call<R>(process: number, text: string, writes: boolean, run: () => Promise<{ value: R; seen: string }>): Promise<R> {
    const history = this.#histories[process];
    const last = history?.at(-1);
    if (last === 'dead' || last === 'abandoned') return Promise.reject(new StoreUnavailableError(last));
    return new Promise<R>((resolve, reject) => {
      this.#calls[process]?.push({
        text,
        writes,
        run: async () => {
          const { value, seen } = await run();
          history?.push(`${text}: ${seen}`);
          return value;
        },
        answer: (value) => resolve(value as R),
        fail: reject,
      });
    });
  }
}
