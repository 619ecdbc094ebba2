import { Worker } from 'node:worker_threads';
import { Backoff } from '../../base/backoff.ts';
import { type Clock, pause } from '../../base/clock.ts';
import { explain } from '../../base/errors.ts';
import type { Log } from '../../base/log.ts';
import { workerProgram } from '../../base/worker-program.ts';
import { type Change, diagnosticName, pathFailed } from './fsm.ts';
import {
  type BfdStatus,
  type BfdTarget,
  type Counter,
  counters,
  initialStatus,
  maxSessions,
  type Order,
  type Report,
  type WorkerInput,
} from './settings.ts';

/** A session that somebody depends on. */
export interface BfdWatch {
  status(): BfdStatus;
  /** Ends the session; the peer is told that this was on purpose. */
  close(): void;
}

/** What a peer needs of BFD. */
export interface Bfd {
  /** @param failed the path is down; said once each time, with the reason */
  watch(target: BfdTarget, failed: (reason: string) => void): BfdWatch;
}

export interface BfdAgentDeps {
  readonly clock: Clock;
  readonly log: Log;
  /** Default: `maxSessions`. */
  readonly limit?: number;
}

interface Watched {
  readonly target: BfdTarget;
  readonly failed: (reason: string) => void;
  status: BfdStatus;
}

/** Milliseconds between starts of a thread that died, and that an orderly end of it may take. */
const restart = { first: 500, most: 30_000 } as const;
const stopMilliseconds = 2000;
/** Milliseconds between two log lines on packets that were dropped. */
const dropInterval = 60_000;
const dropped: readonly Counter[] = ['malformed', 'unknownDiscriminator', 'unknownPeer', 'wrongSource', 'sendErrors'];

/** The main thread's side of BFD: starts the thread with the first session and hears of changes of state only. */
export class BfdAgent implements Bfd {
  readonly #counts = new Int32Array(new SharedArrayBuffer(counters.length * 4));
  readonly #watched = new Map<number, Watched>();
  readonly #backoff = new Backoff(restart.first, restart.most);
  #worker: Worker | undefined;
  #cancelRestart: (() => void) | undefined;
  #cancelDrops: (() => void) | undefined;
  #toldDrops = '';
  #nextKey = 1;
  #closed = false;

  constructor(private readonly deps: BfdAgentDeps) {}

  watch(target: BfdTarget, failed: (reason: string) => void): BfdWatch {
    const key = this.#nextKey++;
    const watched: Watched = { target, failed, status: initialStatus };
    const { limit = maxSessions } = this.deps;
    if (this.#closed || this.#watched.size >= limit) {
      const problem = this.#closed ? 'the speaker is stopping' : `more than ${limit} BFD sessions`;
      this.deps.log.error({ peer: target.name, problem }, 'no BFD session');
      return { status: () => ({ ...initialStatus, problem }), close: () => undefined };
    }
    this.#watched.set(key, watched);
    if (this.#worker) this.#order({ do: 'open', key, target });
    else if (!this.#cancelRestart) this.#start();
    return { status: () => watched.status, close: () => this.#unwatch(key) };
  }

  /** Packets since the start, by what became of them. */
  counts(): Readonly<Record<Counter, number>> {
    const value = (counter: Counter): number => Atomics.load(this.#counts, counters.indexOf(counter)) >>> 0;
    return Object.fromEntries(counters.map((counter) => [counter, value(counter)])) as Record<Counter, number>;
  }

  /** Every session tells its peer of an orderly end (AdminDown), which takes no BGP session down. RFC 5882 §3.2. */
  async close(): Promise<void> {
    this.#closed = true;
    this.#cancelRestart?.();
    this.#cancelDrops?.();
    this.#watched.clear();
    const worker = this.#worker;
    if (!worker) return;
    const done = new AbortController();
    worker.once('exit', () => done.abort());
    this.#order({ do: 'stop' });
    await pause(this.deps.clock, stopMilliseconds, done.signal);
    if (!done.signal.aborted) await worker.terminate();
  }

  #unwatch(key: number): void {
    if (this.#watched.delete(key)) this.#order({ do: 'close', key });
  }

  #order(order: Order): void {
    this.#worker?.postMessage(order);
  }

  #start(): void {
    this.#cancelRestart = undefined;
    const { url, execArgv } = workerProgram(import.meta.url, 'bfd-worker.js', './worker.ts');
    const workerData: WorkerInput = { counts: this.#counts };
    const worker = new Worker(url, { name: 'bfd', workerData, ...(execArgv ? { execArgv } : {}) });
    this.#worker = worker;
    let cause: unknown;
    worker.on('message', (report: Report) => this.#heard(report));
    worker.once('error', (thrown) => {
      cause = thrown;
    });
    worker.once('exit', () => this.#ended(cause));
    for (const [key, { target }] of this.#watched) this.#order({ do: 'open', key, target });
    if (!this.#cancelDrops) this.#watchDrops();
  }

  /** A thread that died says nothing of the paths: BGP goes on, and the sessions begin anew. */
  #ended(cause: unknown): void {
    this.#worker = undefined;
    if (this.#closed) return;
    const milliseconds = this.#backoff.next();
    const problem = `the BFD thread ended: ${explain(cause)}`;
    for (const watched of this.#watched.values()) watched.status = { ...initialStatus, problem };
    this.deps.log.error({ reason: problem, retryMs: milliseconds }, 'BFD is not running; BGP sessions stay');
    this.#cancelRestart = this.deps.clock.after(milliseconds, () => this.#start());
  }

  #heard(report: Report): void {
    const watched = this.#watched.get(report.key);
    if (!watched) return;
    const { target } = watched;
    if (report.type === 'problem') {
      watched.status = { ...initialStatus, problem: report.problem };
      this.deps.log.warn({ peer: target.name, address: target.address, reason: report.problem }, 'no BFD session');
      return;
    }
    watched.status = report.status;
    if (report.status.state === 'Up') this.#backoff.reset();
    if (report.change) this.#changed(watched, report.change);
  }

  #changed({ target, failed }: Watched, change: Change): void {
    const { from, to, diagnostic, remoteState } = change;
    const remoteDiagnostic = diagnosticName(change.remoteDiagnostic);
    const level = from === 'Up' ? 'warn' : 'info';
    const fields = { peer: target.name, address: target.address, from, to, diagnostic, remoteState, remoteDiagnostic };
    this.deps.log[level](fields, 'BFD state');
    if (pathFailed(change)) failed(`BFD Down: ${reasonOf(change)}`);
  }

  /** One line a minute at most, and only when there was something new. */
  #watchDrops(): void {
    this.#cancelDrops = this.deps.clock.after(dropInterval, () => {
      const all = this.counts();
      const told = JSON.stringify(dropped.map((counter) => all[counter]));
      if (told !== this.#toldDrops && dropped.some((counter) => all[counter] > 0))
        this.deps.log.warn(
          Object.fromEntries(dropped.map((counter) => [counter, all[counter]])),
          'BFD packets dropped',
        );
      this.#toldDrops = told;
      this.#watchDrops();
    });
  }
}

function reasonOf({ diagnostic, remoteState, remoteDiagnostic }: Change): string {
  if (diagnostic === 'neighborSignaledDown') {
    return `the neighbour says ${remoteState} (${diagnosticName(remoteDiagnostic)})`;
  }
  return diagnostic === 'detectionTimeExpired' ? 'no packet within the detection time' : diagnostic;
}
