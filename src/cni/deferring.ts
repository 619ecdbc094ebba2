import { type FSWatcher, watch } from 'node:fs';
import { Backoff } from '../base/backoff.ts';
import type { Clock } from '../base/clock.ts';
import type { Log } from '../base/log.ts';
import { Trigger } from '../base/trigger.ts';
import type { Update } from '../datastore/update.ts';
import { type CniCode, CniError, cniCodes, formatError } from './error.ts';
import type { Answer } from './handler.ts';
import { KeyedQueue } from './queue.ts';
import type { Removal, RemovalQueue } from './removals.ts';
import { type RawRequest, versionOf } from './request.ts';

/** What does the verbs: the CniHandler. */
export interface Verbs {
  handle(raw: RawRequest, signal: AbortSignal): Promise<Answer>;
  consume(update: Update): void;
}

export interface DeferringOptions {
  readonly verbs: Verbs;
  readonly queue: RemovalQueue;
  readonly clock: Clock;
  readonly log: Log;
}

/** Also looked at without being told, in case a notification was lost. */
const resyncMs = 30_000;
/** DELs at work at a time, so that those of an outage are done within seconds of its end, and ADDs are not kept waiting. */
const atOnce = 8;
/** Of a request that no repetition makes better. */
const hopeless: readonly CniCode[] = [
  cniCodes.version,
  cniCodes.unsupportedField,
  cniCodes.environment,
  cniCodes.decode,
  cniCodes.config,
];

/**
 * Keeps the promise that DEL succeeds: one that cannot be done now, because the agent was down (the launcher queues it)
 * or the datastore is away, is done later, in order. An ADD of a container whose DEL still waits does that DEL first, so
 * that it never takes away the newer one.
 */
export class DeferringHandler implements Verbs {
  readonly #trigger: Trigger;
  readonly #containers = new KeyedQueue();
  #watcher: FSWatcher | undefined;

  constructor(private readonly options: DeferringOptions) {
    this.#trigger = new Trigger(options.clock);
  }

  consume(update: Update): void {
    this.options.verbs.consume(update);
    if (update.op === 'inSync' || (update.op === 'connection' && update.up)) this.#trigger.fire();
  }

  async handle(raw: RawRequest, signal: AbortSignal): Promise<Answer> {
    const { verbs } = this.options;
    const verb = raw.env['CNI_COMMAND'];
    if (verb === 'ADD') {
      const refusal = await this.#settle(raw, signal);
      if (refusal) return refusal;
    }
    const answer = await verbs.handle(raw, signal);
    return verb === 'DEL' && answer.code === cniCodes.tryAgain ? this.#defer(raw, answer) : answer;
  }

  /** Does what waits, now and whenever something comes, until the signal aborts. */
  async run(signal: AbortSignal): Promise<void> {
    const { queue, log } = this.options;
    const backoff = new Backoff(500, 5_000);
    try {
      while (!signal.aborted) {
        const clear = await this.#pass(signal).catch((thrown: unknown) => {
          if (!signal.aborted) log.error({ folder: queue.folder, err: thrown }, 'the queue of CNI DELs failed');
          return false;
        });
        if (clear) backoff.reset();
        const waitMs = clear ? resyncMs : backoff.next();
        if (!clear && !signal.aborted) log.info({ retryMs: waitMs }, 'queued CNI DELs are tried again');
        await this.#trigger.wait(waitMs, signal);
      }
    } finally {
      this.#watcher?.close();
    }
  }

  async #pass(signal: AbortSignal): Promise<boolean> {
    if (this.#watcher === undefined) {
      await this.options.queue.prepare();
      this.#watcher = this.#watch();
    }
    return this.drain(signal);
  }

  /**
   * One go at everything that waits: the oldest first, then several at a time. @returns whether nothing is left
   * @throws Error of the file system
   */
  async drain(signal: AbortSignal): Promise<boolean> {
    const left = await this.options.queue.list();
    let isAway = false;
    let clear = true;
    const next = async (): Promise<void> => {
      const removal = left.shift();
      if (removal === undefined) return;
      const failed = await this.#containers.run(removal.containerId, signal, () => this.#perform(removal, signal));
      if (failed === undefined) return;
      clear = false;
      // The datastore is away or locked: the others would fare no better.
      if (failed.code === cniCodes.tryAgain) isAway = true;
    };
    const work = async (): Promise<void> => {
      while (left.length > 0 && !isAway && !signal.aborted) await next();
    };
    if (signal.aborted) return false;
    await next();
    await Promise.all(Array.from({ length: atOnce }, work));
    return clear && !signal.aborted;
  }

  /** @returns the answer of a DEL that must be tried again */
  async #perform(removal: Removal, signal: AbortSignal): Promise<Answer | undefined> {
    const { queue, verbs } = this.options;
    // An ADD may have done it since the list was made.
    if (!queue.has(removal)) return undefined;
    const answer = await verbs.handle(removal.request, signal);
    if (answer.exitCode === 0) await queue.remove(removal);
    else if (answer.code !== undefined && hopeless.includes(answer.code))
      await queue.refuse(removal.file, answer.stdout);
    else return answer;
    return undefined;
  }

  /** Does the DELs of a container that wait. @returns the refusal of its ADD when one of them cannot be done */
  async #settle(raw: RawRequest, signal: AbortSignal): Promise<Answer | undefined> {
    const { queue, log } = this.options;
    try {
      if (queue.empty) return undefined;
      const containerId = raw.env['CNI_CONTAINERID'] ?? '';
      return await this.#containers.run(containerId, signal, async () => {
        for (const removal of (await queue.list()).filter((each) => each.containerId === containerId)) {
          const failed = await this.#perform(removal, signal);
          if (failed) return failed;
        }
        return undefined;
      });
    } catch (thrown) {
      const error =
        thrown instanceof CniError
          ? thrown
          : new CniError(cniCodes.io, `${queue.folder}: the queue of DELs cannot be read`, String(thrown), {
              cause: thrown,
            });
      log.error({ folder: queue.folder, err: thrown }, 'an ADD cannot know which DELs wait');
      return { exitCode: 1, code: error.code, stdout: formatError(error, versionOf(raw.stdin)) };
    }
  }

  async #defer(raw: RawRequest, answer: Answer): Promise<Answer> {
    const { queue, log } = this.options;
    const container = raw.env['CNI_CONTAINERID'];
    try {
      await queue.add(raw);
    } catch (thrown) {
      log.error({ container, folder: queue.folder, err: thrown }, 'a CNI DEL cannot be queued; the runtime repeats it');
      return answer;
    }
    log.info({ container, folder: queue.folder }, 'CNI DEL queued until it can be done');
    this.#trigger.fire();
    return { exitCode: 0, stdout: '' };
  }

  #watch(): FSWatcher {
    const { queue, log } = this.options;
    const watcher = watch(queue.folder, { persistent: false }, () => this.#trigger.fire());
    watcher.on('error', (error) => {
      log.error({ folder: queue.folder, err: error }, 'changes of the queue of CNI DELs are not told any more');
      watcher.close();
      if (this.#watcher === watcher) this.#watcher = undefined;
    });
    return watcher;
  }
}
