import { Backoff } from '../base/backoff.ts';
import { type Clock, pause } from '../base/clock.ts';
import { explain, InputError } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import { Trigger } from '../base/trigger.ts';
import { GoneError, type Key, keyText, StoreUnavailableError } from '../datastore/store.ts';
import { type Action, subjectOf } from './action.ts';
import type { Auditor } from './auditor.ts';
import type { Seen } from './collection.ts';
import { goneEndpoints } from './copying.ts';
import { actionsFor } from './decide.ts';
import type { LoadBalancers } from './load-balancers.ts';
import type { ControllerMetrics } from './metrics.ts';
import type { Performer } from './perform.ts';
import type { Settings } from './settings.ts';
import { SyncedView } from './view.ts';

/** Changes that come together are worked out together. */
const gatherMs = 50;
/** Keys worked on at once. */
const width = 16;
/** Work that takes longer than this hangs: every call to a datastore has a deadline of seconds. */
const hangMs = 600_000;

/** What addresses of services depend on. */
const forServices: ReadonlySet<Key['type']> = new Set(['Service', 'IPPool', 'IPReservation', 'ClusterInformation']);

export interface ControllersDeps {
  readonly performer: Performer;
  readonly auditor: Auditor;
  readonly loadBalancers: LoadBalancers;
  readonly metrics: ControllerMetrics;
  readonly clock: Clock;
  readonly log: Log;
  /** Of the moment. */
  readonly settings: () => Settings;
  /** Whether Kubernetes is followed beside the datastore. */
  readonly copies: boolean;
}

/** The loop of the leader: changed keys → decisions → writes, and an audit from time to time. */
export class Controllers {
  /** Fed by a syncer of the datastore. */
  readonly store = new SyncedView((keys) => this.#changed(this.store, keys));
  /** Fed by a syncer of Kubernetes, where that is another. */
  readonly cluster: SyncedView | undefined;
  readonly #trigger: Trigger;
  #pending = new Map<string, Key>();
  #gonePods: Seen = new Map();
  #auditDueMs = 0;
  /** Something changed that addresses of services depend on. */
  #servicesDue = false;
  #busySinceMs: number | undefined;
  #toldLock = false;

  constructor(private readonly deps: ControllersDeps) {
    this.#trigger = new Trigger(deps.clock);
    if (deps.copies) this.cluster = new SyncedView((keys) => this.cluster && this.#changed(this.cluster, keys));
  }

  /** Whether all that decisions go by is known. */
  get ready(): boolean {
    return this.store.inSync && (this.cluster?.inSync ?? true);
  }

  get connected(): boolean {
    return this.store.connected && (this.cluster?.connected ?? true);
  }

  /** Whether ClusterInformation says that nobody shall write, as while the datastore is moved. */
  get locked(): boolean {
    const found = this.store.of('ClusterInformation').get('ClusterInformation/default');
    return found?.value.spec.datastoreReady === false;
  }

  get hangs(): boolean {
    return this.#busySinceMs !== undefined && this.deps.clock.monotonic() - this.#busySinceMs > hangMs;
  }

  /** Everything is to be looked at anew, as after a change of the settings. */
  reconsider(): void {
    for (const view of [this.store, this.cluster])
      for (const key of view?.keys() ?? []) this.#pending.set(keyText(key), key);
    this.#auditDueMs = 0;
    this.#servicesDue = true;
    this.#trigger.fire();
  }

  /** Acts until the signal aborts. */
  async lead(signal: AbortSignal): Promise<void> {
    const { clock } = this.deps;
    const backoff = new Backoff(200, 30_000);
    this.reconsider();
    while (!signal.aborted) {
      this.#tellLock();
      const acts = this.ready && !this.locked;
      const done = !acts || (await this.#turn(signal));
      if (done) backoff.reset();
      const untilAudit = acts ? Math.max(0, this.#auditDueMs - clock.monotonic()) : undefined;
      if (done) await this.#trigger.wait(untilAudit, signal);
      else await pause(clock, backoff.next(), signal);
      await pause(clock, gatherMs, signal);
    }
  }

  #tellLock(): void {
    if (this.#toldLock === this.locked) return;
    this.#toldLock = this.locked;
    this.deps.log.info(this.locked ? 'the datastore is locked: nothing is written' : 'the datastore is open again');
  }

  #changed(view: SyncedView, keys: readonly Key[] | undefined): void {
    if (keys === undefined) this.reconsider();
    for (const key of keys ?? []) {
      this.#pending.set(keyText(key), key);
      // What was a departed node's is looked for at once.
      if (key.type === 'Node' && view.known(key) === undefined) this.#auditDueMs = 0;
      if (forServices.has(key.type)) this.#servicesDue = true;
    }
    this.#trigger.fire();
  }

  /** Works off what is pending, then audits if that is due; whether all of it went well. */
  async #turn(signal: AbortSignal): Promise<boolean> {
    const { clock, log } = this.deps;
    this.#busySinceMs = clock.monotonic();
    try {
      const settled = await this.#drain(signal);
      if (!settled || signal.aborted) return settled;
      const audits = clock.monotonic() >= this.#auditDueMs;
      if (audits) await this.#audit(signal);
      return await this.#serve(audits, signal);
    } catch (thrown) {
      if (signal.aborted) return true;
      this.#auditDueMs = 0;
      this.#servicesDue = true;
      const expected = thrown instanceof StoreUnavailableError || thrown instanceof GoneError;
      if (expected) log.warn({ reason: explain(thrown) }, 'the datastore cannot be reached; trying again');
      else log.error({ err: thrown }, 'a pass failed; trying again');
      return false;
    } finally {
      this.#busySinceMs = undefined;
    }
  }

  async #drain(signal: AbortSignal): Promise<boolean> {
    const keys = this.#pending;
    this.#pending = new Map();
    const queue = keys.entries();
    let settled = true;
    let broken: unknown;
    const worker = async () => {
      for (const [text, key] of queue) {
        if (broken !== undefined || signal.aborted || this.locked) return;
        keys.delete(text);
        const outcome = await this.#settle(key, signal).catch((thrown: unknown) => {
          broken = thrown;
          return 'failed' as const;
        });
        if (outcome === 'failed') {
          settled = false;
          this.#pending.set(text, key);
        }
      }
    };
    await Promise.all(Array.from({ length: width }, worker));
    // What was not reached stays to be done.
    for (const [text, key] of keys) this.#pending.set(text, key);
    if (broken !== undefined) throw broken;
    return settled;
  }

  /** @throws StoreUnavailableError */
  async #settle(key: Key, signal: AbortSignal): Promise<'settled' | 'failed'> {
    const world = { settings: this.deps.settings(), store: this.store, cluster: this.cluster };
    const actions = actionsFor(key, world);
    for (const [at, action] of actions.entries()) {
      if (signal.aborted || this.locked) return 'failed';
      const outcome = await this.#perform(action);
      // A node goes only after all that was its own: what follows waits for what did not come about.
      if (outcome === 'failed' || (outcome === 'void' && at < actions.length - 1)) return 'failed';
    }
    return 'settled';
  }

  async #audit(signal: AbortSignal): Promise<void> {
    const { auditor, clock, settings } = this.deps;
    const { leakGraceSeconds, auditSeconds, nodes, copies } = settings();
    this.#auditDueMs = clock.monotonic() + auditSeconds * 1000;
    const found = await auditor.look(nodes ? leakGraceSeconds : 0, signal);
    for (const action of found) {
      if (signal.aborted || this.locked) return;
      await this.#perform(action);
    }
    if (this.cluster === undefined || !copies.endpoints) return;
    const options = { nowSeconds: clock.monotonic() / 1000, graceSeconds: leakGraceSeconds };
    const { actions, seen } = goneEndpoints(this.store, this.cluster, this.#gonePods, options);
    this.#gonePods = seen;
    for (const action of actions) if (!signal.aborted && !this.locked) await this.#perform(action);
  }

  /** Addresses of services. @returns whether all have what they should */
  async #serve(thorough: boolean, signal: AbortSignal): Promise<boolean> {
    const { assignIps } = this.deps.settings();
    if (assignIps === undefined || !(this.#servicesDue || thorough) || this.locked) return true;
    this.#servicesDue = false;
    const { cluster = this.store } = this;
    const done = await this.deps.loadBalancers.pass(
      this.store,
      cluster,
      assignIps,
      thorough,
      () => this.locked,
      signal,
    );
    if (!done) this.#servicesDue = true;
    return done;
  }

  /** One log line for each decision. @throws StoreUnavailableError */
  async #perform(action: Action): Promise<'done' | 'void' | 'failed'> {
    const { performer, metrics, log } = this.deps;
    if (this.locked) return 'failed';
    const facts = { action: action.do, subject: subjectOf(action), why: action.why };
    const detail = 'detail' in action ? { detail: action.detail } : {};
    try {
      const outcome = await performer.perform(action);
      metrics.acted(action.why, outcome);
      if (outcome === 'done' && action.do === 'releaseAddress') metrics.reclaimed(action.holder.node ?? '');
      log.info({ ...facts, ...detail }, outcome === 'done' ? 'done' : 'left alone: it is no longer as it was judged');
      return outcome;
    } catch (thrown) {
      metrics.acted(action.why, 'failed');
      if (thrown instanceof StoreUnavailableError) throw thrown;
      log.error({ ...facts, reason: explain(thrown) }, 'could not be done');
      // What the datastore refuses it refuses again, until it changes.
      return thrown instanceof InputError ? 'void' : 'failed';
    }
  }
}
