import { setImmediate } from 'node:timers/promises';
import { etcdKey } from '../../src/datastore/layout.ts';
import type { MemoryStore } from '../../src/datastore/memory.ts';
import {
  type Key,
  keyText,
  type Scope,
  type Store,
  StoreUnavailableError,
  type Write,
} from '../../src/datastore/store.ts';
import { type Answer, Places } from './places.ts';

/*
 * A model checker for processes that share a store: every order in which their calls can reach it, each order once, and
 * optionally every death of one of them. A process is run again from its beginning for each order; orders that lead to
 * the same place (see places.ts) are followed once from there.
 *
 * A process that dies at a write, before this took effect, leaves the store as if it had died right after its last write
 * that did, for nobody sees what it read in between. So a death is tried after each write that took effect, without its
 * answer, and before all.
 */

/**
 * Says that of what the process was answered so far only `kept` matters to what it will do: it begins an attempt anew,
 * which `loop` names.
 */
export type Again = (loop: string, kept: (answers: readonly Answer[]) => readonly Answer[]) => void;

/**
 * Deterministic given the store's answers, of whose revisions it only asks whether two are the same. Resolves to all that the end's check knows of it beside the store. Rejects
 * with StoreUnavailableError when it died.
 */
export type Process = (store: Store, again: Again) => Promise<string>;

export interface Race {
  /** A fresh store as all orders begin, and the processes on it. */
  begin(): Promise<{ readonly store: MemoryStore; readonly processes: readonly Process[] }>;
  /** Looks at what is left when all have ended. */
  end(store: MemoryStore): Promise<void>;
  /** Whether one process may die. */
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
  /** What becomes of its next call: done; done, but the process dies without the answer; not done, as it is dead. */
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
      if (run.diedInVain) {
        await run.abandon();
        continue;
      }
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
  run(): Promise<{ readonly value: unknown; readonly changed: boolean }>;
  answer(value: unknown): void;
  fail(error: Error): void;
}

class Run {
  readonly log: string[] = [];
  readonly #places: Places;
  readonly #calls: Call[][];
  readonly #ended: boolean[];
  readonly #results: Promise<void>[];
  readonly #outcomes: string[];
  #dead: number | undefined;
  #abandoned = false;
  /** Its last write changed nothing, so that its death is that of an earlier one. */
  diedInVain = false;

  constructor(
    private readonly store: MemoryStore,
    processes: readonly Process[],
  ) {
    this.#calls = processes.map(() => []);
    this.#places = new Places(processes.length, (key) => store.dump().get(etcdKey(key)));
    this.#ended = processes.map(() => false);
    this.#outcomes = processes.map(() => 'died');
    this.#results = processes.map(async (process, at) => {
      try {
        this.#outcomes[at] = await process(this.#gated(at), (loop, kept) => this.#places.again(at, loop, kept));
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
      if (!deaths || this.#dead !== undefined) return [done];
      const before: Choice[] = this.log.length === 0 ? [{ process, fate: 'undone' }] : [];
      return [done, ...before, ...(call.writes ? [{ process, fate: 'unanswered' } as const] : [])];
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
      const { value, changed } = await call.run();
      if (fate === 'done') call.answer(value);
      else {
        this.diedInVain = !changed;
        this.#die(process, call);
      }
    }
    await this.settle();
  }

  state(): string {
    const outcomes = this.#outcomes.map((outcome, at) => (this.#ended[at] ? outcome : undefined));
    return this.#places.digest(outcomes, this.#dead);
  }

  async finished(): Promise<void> {
    await Promise.all(this.#results);
  }

  /** Lets the processes end: what comes now was seen before. */
  async abandon(): Promise<void> {
    this.#abandoned = true;
    for (const calls of this.#calls)
      for (const call of calls.splice(0)) call.fail(new StoreUnavailableError('abandoned'));
    await Promise.allSettled(this.#results);
  }

  #die(process: number, call: Call): void {
    this.#dead = process;
    const calls = this.#calls[process]?.splice(0) ?? [];
    for (const each of [call, ...calls]) each.fail(new StoreUnavailableError('died'));
  }

  #gated(process: number): Store {
    const { store } = this;
    const places = this.#places;
    const read =
      <A extends unknown[], R>(
        text: (...given: A) => string,
        call: (...given: A) => Promise<R>,
        seen: (...given: A) => readonly string[],
      ) =>
      (...given: A) =>
        this.#call<R>(process, text(...given), false, async () => {
          const value = await call.apply(store, given);
          return { value, outcome: '', versions: seen(...given) };
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
          if (value.outcome === 'written') for (const key of keys) places.written(key);
          return { value, outcome: value.outcome, versions: keys.map((key) => places.version(keyText(key))) };
        });
      };
    return {
      atomic: true,
      get: read(
        (of) => `get ${keyText(of as Key)}`,
        store.get,
        (of) => [places.version(keyText(of as Key))],
      ) as Store['get'],
      list: read(
        (type: string, _scope?: Scope) => `list ${type}`,
        store.list as (type: string, scope?: Scope) => Promise<unknown>,
        (type, scope) => places.versionsOf(`${type}/${scope?.host ? `${scope.host}/` : ''}`),
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

  #call<R>(
    process: number,
    text: string,
    writes: boolean,
    run: () => Promise<{ value: R; outcome: string; versions: readonly string[] }>,
  ): Promise<R> {
    if (this.#abandoned || this.#dead === process) return Promise.reject(new StoreUnavailableError('gone'));
    return new Promise<R>((resolve, reject) => {
      this.#calls[process]?.push({
        text,
        writes,
        run: async () => {
          const { value, outcome, versions } = await run();
          this.#places.answered(process, { call: text, outcome, versions });
          return outcome === '' || outcome === 'written' ? { value, changed: writes } : { value, changed: false };
        },
        answer: (value) => resolve(value as R),
        fail: reject,
      });
    });
  }
}
