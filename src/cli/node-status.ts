import { Backoff } from '../base/backoff.ts';
import { type Clock, pause } from '../base/clock.ts';
import { explain } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import { Trigger } from '../base/trigger.ts';
import type { PeerStatus } from '../bgp/peer-status.ts';
import type { RouteStatus } from '../bgp/views.ts';
import { type Entry, keyText, type Store, type Value } from '../datastore/store.ts';
import { sync } from '../datastore/syncer.ts';
import type { Consumer } from '../datastore/update.ts';
import { ExitError } from './exit.ts';
import { nodeStatusOf, type Speaker } from './node-status-report.ts';

/** Routes of both families in one status: an object of the datastore has a limit. */
const mostRoutes = 1000;
/** After a write that came too late. */
const conflictMs = 1000;

export interface NodeStatusDeps {
  readonly store: Store;
  readonly node: string;
  /** Asks the speaker over its control socket. @throws ExitError when it does not answer */
  readonly ask: (path: string) => Promise<unknown>;
  readonly clock: Clock;
  readonly log: Log;
}

type Wanted = Entry<'CalicoNodeStatus'>;

interface Due {
  readonly wanted: Wanted;
  /** Of the specification: a new one is answered at once, our own writes are not. */
  readonly mark: string;
  /** Monotonic; undefined: no more. */
  readonly atMs: number | undefined;
}

/** Writes this node's part of the CalicoNodeStatus resources that ask for it, as often as each says. */
export class NodeStatusReporter {
  readonly #due = new Map<string, Due>();
  readonly #changed: Trigger;

  constructor(private readonly deps: NodeStatusDeps) {
    this.#changed = new Trigger(deps.clock);
  }

  /** Until the signal aborts. */
  async run(signal: AbortSignal): Promise<void> {
    const { store, clock, log } = this.deps;
    // A cluster may be without the definition, which is no reason for a line every second.
    const backoff = new Backoff(1000, 300_000);
    const follow = sync({ store, types: ['CalicoNodeStatus'], consumer: this.consume, clock, log, signal, backoff });
    await Promise.all([follow, this.#write(signal)]);
  }

  readonly consume: Consumer = (update) => {
    if (update.op !== 'events') return;
    for (const event of update.events) {
      const key = 'key' in event ? event.key : event.entry.key;
      if (key.type !== 'CalicoNodeStatus' || event.op === 'invalid') continue;
      const text = keyText(key);
      const wanted = event.op === 'set' ? (event.entry as Wanted) : undefined;
      if (wanted?.value.spec.node !== this.deps.node) {
        this.#due.delete(text);
        continue;
      }
      const mark = JSON.stringify(wanted.value.spec);
      const before = this.#due.get(text);
      const atMs = before?.mark === mark ? before.atMs : this.deps.clock.monotonic();
      this.#due.set(text, { wanted, mark, atMs });
    }
    this.#changed.fire();
  };

  async #write(signal: AbortSignal): Promise<void> {
    const { clock, log } = this.deps;
    const backoff = new Backoff(1000, 60_000);
    while (!signal.aborted) {
      const times = [...this.#due.values()].flatMap(({ atMs }) => (atMs === undefined ? [] : [atMs]));
      const next = times.length === 0 ? undefined : Math.max(0, Math.min(...times) - clock.monotonic());
      if (next !== 0) {
        await this.#changed.wait(next, signal);
        continue;
      }
      try {
        await this.#writeDue();
        backoff.reset();
      } catch (thrown) {
        const retryMs = backoff.next();
        log.warn({ reason: explain(thrown), retryMs }, 'the status of this node could not be written');
        await pause(clock, retryMs, signal);
      }
    }
  }

  async #writeDue(): Promise<void> {
    const { store, clock } = this.deps;
    const now = clock.monotonic();
    for (const [text, { wanted, mark, atMs }] of [...this.#due]) {
      if (atMs === undefined || atMs > now) continue;
      const { classes, updatePeriodSeconds: seconds } = wanted.value.spec;
      const status = nodeStatusOf(classes, await this.#speaker(classes), await this.#ownPeers(), clock.wall());
      const value = { ...wanted.value, status } as Value<'CalicoNodeStatus'>;
      const done = await store.update({ ...wanted.key, type: 'CalicoNodeStatus' }, value, wanted.revision);
      const current = this.#due.get(text);
      if (current?.mark !== mark) continue;
      if (done.outcome === 'written')
        this.#due.set(text, { wanted: done.entry, mark, atMs: seconds === 0 ? undefined : now + seconds * 1000 });
      // Whoever was first, of that we are told soon.
      else this.#due.set(text, { ...current, atMs: now + conflictMs });
    }
  }

  async #speaker(classes: readonly string[]): Promise<Speaker> {
    const { ask, log } = this.deps;
    try {
      const status = (await ask('/v1/status')) as NonNullable<Speaker['status']>;
      const { peers } = (await ask('/v1/peers')) as { peers: PeerStatus[] };
      if (!classes.includes('Routes')) return { status, peers };
      const { routes } = (await ask(`/v1/routes?limit=${mostRoutes}`)) as { routes: RouteStatus[] };
      return { status, peers, routes };
    } catch (thrown) {
      if (!(thrown instanceof ExitError)) throw thrown;
      log.info({ reason: thrown.message }, 'the speaker does not answer; its status says so');
      return {};
    }
  }

  async #ownPeers(): Promise<Set<string>> {
    const { store, node } = this.deps;
    const { entries } = await store.list('BGPPeer');
    return new Set(
      entries.flatMap(({ value: { spec } }) => (spec.node === node && spec.peerIP ? [hostOf(spec.peerIP)] : [])),
    );
  }
}

/** `192.0.2.1:179` and `[2001:db8::1]:179` without their port. */
function hostOf(text: string): string {
  const bracketed = /^\[([^\]]+)\]/.exec(text)?.[1];
  if (bracketed !== undefined) return bracketed;
  return text.split(':').length === 2 ? (text.split(':')[0] ?? text) : text;
}
