import { Backoff } from '../base/backoff.ts';
import { explain } from '../base/errors.ts';
import { Trigger } from '../base/trigger.ts';
import type { Event } from '../datastore/store.ts';
import { sync } from '../datastore/syncer.ts';
import type { Consumer, Update } from '../datastore/update.ts';
import type { KernelEvent, Link } from '../kernel/types.ts';
import { Announced, type Announcement } from './announced.ts';
import { Dataplane } from './apply.ts';
import { type Graph, watchedTypes } from './calc/graph.ts';
import type { Encapsulation } from './calc/tunnels.ts';
import type { FelixConfig } from './config.ts';
import type { ConfigLine } from './configuration.ts';
import { inPieces, serveControl } from './control.ts';
import { DatastoreLink } from './datastore-link.ts';
import { configureGraph, type FelixDependencies, graphOf, kernelOf, mtuOf } from './dependencies.ts';
import { followFeed } from './feed.ts';
import { FeedKeeper } from './feed-keeper.ts';
import { FlowManager } from './managers/flows.ts';
import type { Counts } from './metrics.ts';
import { type Round, Rounds, refreshRounds } from './rounds.ts';
import { Intake, inSlices, nextTurn, Turns } from './slices.ts';
import { FailureLedger, type FelixStatus, type LastApply } from './status.ts';
import { TunnelSupport } from './tunnel-support.ts';
import { countsOf, describe, routesText, satisfies } from './view.ts';
import { Waiters } from './waiters.ts';

/** Leftover IP sets are destroyed when nothing else happened for so long: each costs the kernel a grace period. */
const idleMs = 20;

/**
 * The agent of one node: it follows the datastore and the route feed and keeps the kernel as they want it. It writes
 * nothing before the datastore is in sync, adopts what it finds, and leaves the dataplane in place when it ends.
 */
export class Felix {
  readonly #graph: Graph;
  readonly #announced: Announced;
  readonly #dataplane: Dataplane;
  readonly #flows: FlowManager;
  readonly #waiters = new Waiters();
  readonly #consumers: Consumer[] = [];
  readonly #changed: Trigger;
  readonly #ledger: FailureLedger;
  readonly #feed: FeedKeeper;
  readonly #datastore: DatastoreLink;
  #inSync = false;
  #monitoring = false;
  #mustRead = true;
  /** A pod's start waits for the next pass only. */
  #atOnce = false;
  #lastApply: LastApply | undefined;
  #busySince: number | undefined;
  readonly #bgp: boolean;
  #config: FelixConfig;
  readonly #rounds: Rounds;
  readonly #intake: Intake<Event>;
  readonly #support: TunnelSupport;
  /** A pass is due that reads what others may have changed, and what the last one took, in milliseconds. */
  readonly #check = { due: false, cost: 0 };
  readonly #configListeners: ((config: FelixConfig) => void)[] = [];
  readonly #passListeners: ((pass: LastApply) => void)[] = [];

  constructor(private readonly deps: FelixDependencies) {
    this.#bgp = deps.bgp ?? true;
    const { clock, log, config, deleteFlows } = deps;
    const kernel = kernelOf(deps);
    this.#config = config;
    this.#changed = new Trigger(clock);
    this.#rounds = new Rounds(clock, () => this.#roundsOf(this.#config));
    this.#ledger = new FailureLedger(() => clock.wall(), log);
    this.#graph = graphOf(deps, kernel.iptables.keys());
    this.#announced = new Announced(this.#graph, (atOnce) => {
      this.#atOnce ||= atOnce;
      this.#changed.fire();
    });
    this.#intake = new Intake(clock, (event) => this.#take(event), deps.calculated);
    this.#flows = new FlowManager(deleteFlows, clock, log, () => this.#waiters.settle());
    this.#dataplane = new Dataplane(
      this.#graph,
      kernel,
      this.#flows,
      config.interfacePrefix,
      (kind, family) => mtuOf(this.#config, kind, family),
      () => this.#changed.fire(),
    );
    this.#support = new TunnelSupport(log);
    this.#datastore = new DatastoreLink(clock);
    this.#feed = new FeedKeeper(this.#graph, () => this.#changed.fire(), log, clock, config.staleRouteSeconds);
  }

  /**
   * Runs until the signal aborts.
   * @throws EnvironmentError when another felix serves this node
   */
  async run(signal: AbortSignal): Promise<void> {
    const { store, netlink, clock, log, runDir } = this.deps;
    const stop = new AbortController();
    const all = AbortSignal.any([signal, stop.signal]);
    const control = runDir === undefined ? undefined : await this.#serve(runDir);
    try {
      await netlink.monitor((event) => this.#onKernelEvent(event), all, { othersRoutes: true }).ready;
      this.#feed.start();
      await Promise.all([
        sync({ store, types: watchedTypes, consumer: (update) => this.#onUpdate(update), log, clock, signal: all }),
        ...(this.#bgp && runDir !== undefined
          ? [followFeed({ path: `${runDir}/routes.sock`, listener: this.#feed, clock, log, signal: all })]
          : []),
        this.#flows.run(all),
        this.#rounds.run(all),
        this.#loop(all),
      ]);
    } finally {
      stop.abort();
      this.#feed.stop();
      await this.#dataplane.release();
      await control?.close();
    }
  }

  #serve(runDir: string): ReturnType<typeof serveControl> {
    return serveControl(runDir, () => this.status(), this.deps.log, {
      '/v1/config': () => this.configLines(),
      '/v1/routes': () => inPieces(routesText(this.#graph, this.#dataplane, this.#ledger), this.deps.log),
      ...this.deps.views,
    });
  }

  /**
   * Waits until the chains, settings and routes of an endpoint stand in the kernel.
   * @param endpoint `keyText` of its key
   * @param revision of the stored object, or a later one; undefined for any
   */
  whenProgrammed(
    endpoint: string,
    revision: string | undefined,
    timeoutMs: number,
    signal: AbortSignal,
  ): Promise<'programmed' | 'timeout'> {
    const stands = () => {
      const found = this.#graph.endpoints.get(endpoint);
      return (
        found !== undefined && satisfies(found.revision, revision) && this.#dataplane.stateOf(found) === 'programmed'
      );
    };
    return this.#waiters.until(stands, 'programmed', timeoutMs, this.deps.clock, signal);
  }

  /** As `Announced.announce`: an endpoint of this node that is being written. */
  announce(...[key, value, families]: Parameters<Announced['announce']>): Announcement | undefined {
    return this.#announced.announce(key, value, families);
  }

  /** A device was made here: what the kernel tells of it a moment later is known already. */
  deviceMade(link: Link): void {
    this.#onKernelEvent({ what: 'link', link, gone: false });
  }

  /** Waits until nothing of an endpoint is left: not in the datastore as seen here, not in the kernel. */
  whenRemoved(endpoint: string, timeoutMs: number, signal: AbortSignal): Promise<'removed' | 'timeout'> {
    const gone = () => this.#lastApply !== undefined && this.#dataplane.removed(endpoint);
    return this.#waiters.until(gone, 'removed', timeoutMs, this.deps.clock, signal);
  }

  /** Hands every update of the datastore to `consumer` as well, from the first one on if called before `run`. */
  onUpdate(consumer: Consumer): void {
    this.#consumers.push(consumer);
  }

  status(): FelixStatus {
    return {
      node: this.deps.nodename,
      pid: process.pid,
      bgp: this.#bgp,
      inSync: this.#inSync,
      datastore: this.#datastore.status,
      ...describe(this.#graph, this.#dataplane, this.#ledger, this.#feed.state, this.podMtu()),
      ...(this.#lastApply && { lastApply: this.#lastApply }),
    };
  }

  /** Everything was applied at least once, and policy is not held up. */
  ready(): boolean {
    return (
      this.#lastApply !== undefined && !this.#ledger.list.some(({ kind }) => kind === 'iptables' || kind === 'ipset')
    );
  }

  /** No pass has been running for longer than `milliseconds`. */
  alive(milliseconds: number): boolean {
    return this.#busySince === undefined || this.deps.clock.monotonic() - this.#busySince < milliseconds;
  }

  /** For metrics. */
  counts(): Counts {
    const tunnels = this.#dataplane.tunnels();
    const { staleSeconds } = this.#datastore;
    return { ...countsOf(this.#graph, this.deps.policy.activePolicies(), tunnels, this.#inSync), staleSeconds };
  }

  /** MTU of the devices of pods that start now, in octets: what fits the tunnels, or the uplink; undefined until known. */
  podMtu(): number | undefined {
    return this.deps.podMtu ?? this.#dataplane.podMtu();
  }

  /** Tells of every change of what tunnels this kernel lacks, from the first pass on. */
  onTunnelSupport(listener: (lacking: ReadonlySet<Encapsulation>) => void): void {
    this.#support.onChange(listener);
  }

  /** Every setting with its value and origin. */
  configLines(): ConfigLine[] {
    return this.deps.configuration?.lines() ?? [];
  }

  /** Tells of every change of settings. */
  onConfig(listener: (config: FelixConfig) => void): void {
    this.#configListeners.push(listener);
  }

  /** Tells of every pass. */
  onPass(listener: (pass: LastApply) => void): void {
    this.#passListeners.push(listener);
  }

  async #loop(signal: AbortSignal): Promise<void> {
    const { clock } = this.deps;
    const backoff = new Backoff(100, 10_000);
    let retryAt: number | undefined;
    while (!signal.aborted) {
      const sweep = this.#dataplane.sweepDue;
      const untilRetry = retryAt === undefined ? undefined : Math.max(0, retryAt - clock.monotonic());
      const fired = await this.#changed.wait(sweep ? Math.min(idleMs, untilRetry ?? idleMs) : untilRetry, signal);
      if (signal.aborted || !this.#inSync) continue;
      const retry = retryAt !== undefined && clock.monotonic() >= retryAt;
      if (!fired && !retry) {
        await this.#sweep();
        continue;
      }
      // Everything that arrives in this turn of the event loop goes into one pass.
      if (!this.#atOnce) await nextTurn();
      this.#atOnce = false;
      const turns = new Turns(clock);
      await inSlices(turns, (enough) => this.#graph.settle(enough), signal);
      const failed = await this.#pass(retry, turns);
      if (!failed) {
        backoff.reset();
        retryAt = undefined;
      } else if (retryAt === undefined || retry) retryAt = clock.monotonic() + backoff.next();
    }
  }

  /** @returns whether something failed */
  async #pass(retry: boolean, turns: Turns): Promise<boolean> {
    const { clock, log } = this.deps;
    const began = clock.monotonic();
    this.#busySince = began;
    const checked = this.#check.due;
    const spent = checked ? this.#spent() : 0;
    this.#check.due = false;
    if (this.#mustRead) await this.#read(turns);
    const report = await this.#dataplane.pass(retry, turns);
    this.#busySince = undefined;
    this.#ledger.update(report.failures);
    this.#support.update(this.#dataplane.tunnels(), (kind) => this.#graph.remote.poolsWithout(kind));
    if (report.again) this.#changed.fire();
    const first = this.#lastApply === undefined;
    this.#lastApply = {
      at: clock.wall().toISOString(),
      milliseconds: clock.monotonic() - began,
      routesChanged: report.routesChanged,
      failures: report.failures.length,
    };
    const stands = report.failures.length === 0 ? 'the kernel is as wanted' : 'what failed is tried again';
    log[first ? 'info' : 'debug'](this.#lastApply, first ? `first pass done: ${stands}` : 'pass done');
    if (checked) this.#check.cost = this.#spent() - spent;
    this.#waiters.settle();
    this.#tellOfPass(this.#lastApply);
    return report.failures.length > 0;
  }

  /** After what waited for the pass has gone on: a pod's start, above all. */
  #tellOfPass(pass: LastApply): void {
    setImmediate(() => {
      for (const listener of this.#passListeners) listener(pass);
    });
  }

  /** Milliseconds of work, of which only differences mean something. It costs as much as a small pass. */
  #spent(): number {
    const { cpuMilliseconds, clock } = this.deps;
    return cpuMilliseconds ? cpuMilliseconds() : clock.monotonic();
  }

  async #sweep(): Promise<void> {
    const failure = await this.#dataplane.sweep();
    if (failure)
      this.deps.log.warn(
        { error: explain(failure.cause) },
        'unused IP sets could not be destroyed; will retry at the next change or refresh',
      );
  }

  /** What the kernel tells while it is being read counts. */
  async #read(turns: Turns): Promise<void> {
    this.#mustRead = false;
    const first = !this.#monitoring;
    this.#monitoring = true;
    await this.#dataplane.readKernel(turns);
    if (!first) return;
    this.#graph.adopt(this.#dataplane.routes.ours());
    // The time may have run out before there was anything to keep.
    this.#feed.start();
    this.deps.log.info({ routes: this.#dataplane.routes.owned }, 'took over the routes in the kernel');
  }

  #onUpdate(update: Update): void {
    for (const consumer of this.#consumers) consumer(update);
    switch (update.op) {
      case 'events':
        this.#intake.add(update.events, () => {
          if (this.#inSync) this.#reconfigure();
          this.#changed.fire();
        });
        return;
      case 'listed':
        this.#intake.add([], () => this.#announced.listed(update.revision));
        return;
      case 'inSync':
        this.#intake.add([], () => this.#synced());
        return;
      case 'connection':
        if (update.up) this.#datastore.up();
        else this.#datastore.down(update.reason);
        return;
    }
  }

  #synced(): void {
    this.#inSync = true;
    this.#reconfigure();
    this.#datastore.up();
    this.deps.log.info({ endpoints: this.#graph.endpoints.size }, 'datastore in sync');
    this.#changed.fire();
  }

  #take(event: Event): void {
    this.deps.configuration?.apply(event);
    if (!this.#announced.told(event)) this.#graph.apply(event);
  }

  #onKernelEvent(event: KernelEvent): void {
    if (!this.#monitoring) return;
    if (event.what === 'overrun') {
      this.deps.log.warn('kernel events were lost; reading everything again');
      this.#mustRead = true;
      this.#changed.fire();
    } else if (this.#dataplane.onKernelEvent(event)) this.#changed.fire();
  }

  /** Puts changed settings into force. */
  #reconfigure(): void {
    const { configuration, policy, log } = this.deps;
    const changed = configuration?.refresh() ?? [];
    if (!configuration || changed.length === 0) return;
    const config = configuration.current;
    this.#config = config;
    if (changed.includes('logLevel')) log.level = config.logLevel;
    policy.configure(config);
    configureGraph(this.#graph, config);
    this.#feed.staleSeconds = config.staleRouteSeconds;
    this.#rounds.restart();
    for (const listener of this.#configListeners) listener(config);
  }

  #roundsOf(config: FelixConfig): Round[] {
    const then = (action: () => void) => () => {
      action();
      this.#changed.fire();
    };
    return refreshRounds(config, {
      readAll: then(() => {
        this.#mustRead = true;
      }),
      sets: then(() => this.#dataplane.invalidateSets()),
      tables: then(() => this.#dataplane.invalidateTables()),
      check: then(() => {
        this.#check.due = true;
        this.#dataplane.recheck();
      }),
      checkCost: () => this.#check.cost,
    });
  }
}
