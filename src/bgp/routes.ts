import { type Family, familyOf, type Ip, parseIp } from '../model/address.ts';
import type { PrefixId } from '../model/prefixes.ts';
import type { BmpStatistics, Side } from './bmp/messages.ts';
import type { MonitoredRoute } from './bmp/monitor.ts';
import { llgrStale, noLlgr } from './communities.ts';
import type { Connection } from './connection.ts';
import type { SpeakerContext } from './context.ts';
import type { ExportContext } from './exporting.ts';
import { withCommunity } from './filters.ts';
import { Intake } from './intake.ts';
import type { AttributeId } from './intern.ts';
import type { Negotiated } from './negotiate.ts';
import { Pace } from './pacing.ts';
import type { FamilyCounts } from './peer-status.ts';
import type { Rejections } from './rejections.ts';
import { AdjRibIn, type Candidate, type Source } from './rib.ts';
import { exportContextOf, importContextOf, importFiltersOf, importKey } from './session-contexts.ts';
import type { PeerConfig } from './settings.ts';
import { Timers } from './timers.ts';
import type { WireError } from './wire/errors.ts';
import type { RefreshSubtype } from './wire/message.ts';
import type { PathCidr } from './wire/nlri.ts';
import type { Update } from './wire/update.ts';

/** A restarted peer must have told its whole table by then; what is stale still goes. RFC 4724 §4.2 wants a bound. */
const stalePathSeconds = 360;

type StaleTimer = 'restart' | 'stalePaths' | `longLived${Family}`;

/**
 * The routes between one peer and the tables: what it tells goes through the import checks into its Adj-RIB-In, an
 * established session joins an update group, and a lost one leaves stale routes behind as a graceful restart wants.
 */
export class Routes {
  readonly #source: Source;
  readonly #in: ReadonlyMap<Family, AdjRibIn>;
  readonly #intake: Intake;
  /** Families whose first whole table has come in this session. */
  readonly #complete = new Set<Family>();
  /** Families of which the peer tells several paths of a prefix. RFC 7911. */
  #withPaths: ReadonlySet<Family> = new Set();
  readonly #timers: Timers<StaleTimer>;
  /** How long routes stay after the restart time, by family. RFC 9494. */
  #longLived: ReadonlyMap<Family, number> = new Map();
  /** Our end of the session's connection. */
  #local: Ip | undefined;
  #enhanced = false;
  /** Of the session's families. */
  readonly #paces: Pace[] = [];
  /** Routes of before the session are stale until the end-of-RIB marks. */
  #restartedPeer = false;

  constructor(
    private config: PeerConfig,
    private readonly context: SpeakerContext,
  ) {
    const kind = config.asn === (config.localAsn ?? context.asn) ? 'ibgp' : 'ebgp';
    const client = kind === 'ibgp' && config.routeReflectorClient === true;
    this.#source = {
      name: config.name,
      kind,
      address: config.address,
      ...(config.interface ? { interface: config.interface } : {}),
      client,
      identifier: parseIp('0.0.0.0'),
    };
    this.#in = new Map(
      config.families.map((family) => [family, new AdjRibIn(this.#source, context.tables[family].rib)]),
    );
    this.#intake = new Intake(this.#source, this.#in, context);
    this.#timers = new Timers(context.clock, (name) => this.#expired(name));
  }

  /** The session is established: the peer is told our routes, and stale ones are weighed. */
  up(connection: Connection, negotiated: Negotiated): void {
    const { context } = this;
    this.#source.identifier = negotiated.identifier;
    this.#local = connection.localAddress;
    this.#intake.open(this.#importRules(negotiated), negotiated.families);
    this.#complete.clear();
    this.#withPaths = new Set(negotiated.pathsReceived);
    this.#timers.disarm('restart');
    for (const [family, adj] of this.#in) this.#reconsiderStale(family, adj, negotiated);
    this.#enhanced = negotiated.enhancedRefresh;
    this.#restartedPeer = this.#stale() > 0;
    if (this.#restartedPeer) this.#timers.arm('stalePaths', stalePathSeconds * 1000);
    for (const family of negotiated.families) {
      const pace = new Pace(
        () => this.config.advertisementIntervalSeconds ?? 0,
        context,
        () => context.tables[family].resume(),
      );
      this.#paces.push(pace);
      const receiver = {
        source: this.#source,
        send: (messages: readonly Uint8Array[]) => connection.send(messages),
        writable: () => !pace.resting && connection.writable(),
        pace,
      };
      const exportContext = this.#exportContext(family, negotiated);
      if (exportContext) context.tables[family].join(receiver, exportContext);
    }
    // Nobody waits for one that sends no mark, or that itself waits for the others. RFC 4724 §4.1.
    const unawaited = negotiated.restart === undefined || negotiated.restart.restarted;
    for (const family of this.config.families) {
      if (unawaited || !negotiated.families.includes(family)) context.settled(this.config.name, family);
    }
  }

  /**
   * Follows a change of policy in a session that stays: what the peer is told is adjusted at once.
   * @returns families whose routes must be heard again, since those once refused are not kept
   */
  adopt(config: PeerConfig, negotiated: Negotiated | undefined): Family[] {
    const before = importKey(this.config);
    this.config = config;
    if (!negotiated) return [];
    this.#intake.adopt(this.#importRules(negotiated));
    for (const family of negotiated.families) {
      const exportContext = this.#exportContext(family, negotiated);
      if (exportContext) this.context.tables[family].change(this.#source, exportContext);
    }
    return importKey(config) === before ? [] : [...negotiated.families];
  }

  /** @param graceful the connection was lost without a NOTIFICATION */
  down(negotiated: Negotiated | undefined, graceful: boolean): void {
    this.rejections.clear();
    for (const family of this.#in.keys()) this.context.tables[family].leave(this.#source);
    for (const pace of this.#paces.splice(0)) pace.stop();
    const restart = graceful ? negotiated?.restart : undefined;
    const seconds = restart?.restartSeconds ?? 0;
    const longLived = (graceful && negotiated?.longLived) || [];
    this.#longLived = new Map(longLived.map(({ family, staleSeconds }) => [family, staleSeconds]));
    for (const [family, adj] of this.#in) {
      const kept = seconds > 0 && restart?.families.some((told) => told.family === family);
      if (kept || (this.#longLived.get(family) ?? 0) > 0) adj.markStale();
      else adj.clear();
    }
    this.#timers.disarm('stalePaths');
    const kept = this.#stale();
    if (kept === 0) return;
    if (seconds === 0) {
      this.#beginLongLived();
      return;
    }
    this.#timers.arm('restart', seconds * 1000);
    this.context.log.info({ peer: this.config.name, routes: kept, seconds }, 'peer restarts: routes kept as stale');
  }

  /** Everything learnt goes, and nothing is told any longer. */
  flush(): void {
    this.rejections.clear();
    this.#timers.disarmAll();
    for (const pace of this.#paces.splice(0)) pace.stop();
    for (const [family, adj] of this.#in) {
      this.context.tables[family].leave(this.#source);
      adj.clear();
      this.context.settled(this.config.name, family);
    }
  }

  /** What ends the session when more is kept of a family than may be; a warning is logged on the way there. */
  overLimit(family: Family): WireError | undefined {
    return this.#intake.overLimit(family, this.config);
  }

  /** @throws WireError that ends the session: the peer tells more than it may */
  update(update: Update): void {
    this.#intake.update(update, this.config);
    if (update.endOfRib !== undefined) this.#endOfRib(update.endOfRib);
  }

  /** The peer wants our routes again, or says where the ones that it repeats begin and end. RFC 2918, 7313 §4. */
  refresh(family: Family, subtype: RefreshSubtype = 'request'): void {
    const adj = this.#in.get(family);
    if (!adj) return;
    if (subtype === 'request') this.context.tables[family].refresh(this.source, this.#enhanced);
    else if (subtype === 'begin') this.#refreshBegins(adj);
    else this.#refreshEnds(family, adj);
  }

  /** What is not repeated goes at the end; routes still stale from a restart wait for their own end first. */
  #refreshBegins(adj: AdjRibIn): void {
    if (adj.staleCount > 0) return;
    adj.markStale();
    if (adj.staleCount > 0) this.#timers.arm('stalePaths', stalePathSeconds * 1000);
  }

  #refreshEnds(family: Family, adj: AdjRibIn): void {
    if (!this.#complete.has(family) && this.#restartedPeer) return;
    const swept = this.#sweep(family, adj);
    if (this.#stale() === 0) this.#timers.disarm('stalePaths');
    this.context.log.info({ peer: this.config.name, family, routes: adj.count, swept }, 'end of the repeated routes');
  }

  /** Families whose import filter looks at devices. */
  get judgedByDevice(): readonly Family[] {
    return this.#intake.judgedByDevice;
  }

  /** Its routes that were refused. */
  get rejections(): Rejections {
    return this.#intake.rejections;
  }

  /** As the tables know the peer. */
  get source(): Source {
    return this.#source;
  }

  /** What is kept of the peer's routes. */
  *received(): Generator<{ family: Family; id: PrefixId; candidate: Candidate }> {
    for (const [family, adj] of this.#in) for (const [id, candidate] of adj.entries()) yield { family, id, candidate };
  }

  /** The same, as monitoring stations are told; `pre`: with those that import refused, as far as remembered. */
  *monitored(side: Side): Generator<MonitoredRoute> {
    for (const { family, id, candidate } of this.received()) {
      if (candidate.stale) continue;
      yield { family, prefix: this.#named(family, id, candidate), attributes: candidate.attributes };
    }
    if (side === 'post') return;
    for (const { prefix, pathId, attributes } of this.rejections.values())
      yield { family: familyOf(prefix), prefix: pathId === undefined ? prefix : { prefix, pathId }, attributes };
  }

  /** What the peer told is all known: nothing was changed at import, and no refused route is forgotten. */
  get faithful(): boolean {
    const rules = Object.values(this.config.importRules ?? {}).flat();
    return this.rejections.forgotten === 0 && rules.every(({ operations }) => operations.length === 0);
  }

  statistics(): BmpStatistics {
    const rejected = Object.values(this.#intake.rejected).reduce((sum, count) => sum + count, 0);
    return { rejected, routes: new Map([...this.#in].map(([family, adj]) => [family, adj.count])) };
  }

  resume(): void {
    for (const family of this.#in.keys()) this.context.tables[family].resume();
  }

  counts(): Readonly<Record<string, FamilyCounts>> {
    const all: Record<string, FamilyCounts> = {};
    for (const [family, adj] of this.#in) {
      const { received, withdrawn } = this.#intake.tally(family);
      const endOfRib = this.#complete.has(family);
      const table = this.context.tables[family];
      all[`ipv${family}`] = {
        received,
        withdrawn,
        accepted: adj.count,
        stale: adj.staleCount,
        preferred: table.preferred(this.#source),
        advertised: table.advertised(this.#source),
        endOfRib,
      };
    }
    return all;
  }

  tallies(): { faults: Readonly<Record<string, number>>; rejected: Readonly<Record<string, number>> } {
    return { faults: this.#intake.faults, rejected: this.#intake.rejected };
  }

  #endOfRib(family: Family): void {
    const adj = this.#in.get(family);
    if (!adj) return;
    this.#complete.add(family);
    const swept = this.#sweep(family, adj);
    this.context.monitor.endOfRib(this.config.name, family);
    const { log, settled } = this.context;
    log.info({ peer: this.config.name, family, routes: adj.count, swept }, 'end of the initial table');
    this.#timers.disarm(`longLived${family}`);
    if (this.#stale() === 0) this.#timers.disarm('stalePaths');
    settled(this.config.name, family);
  }

  /** Routes stay for longer, as those of last resort, where the peer asked for that; the others go. RFC 9494 §4.2. */
  #beginLongLived(): number {
    let dropped = 0;
    for (const [family, adj] of this.#in) {
      const seconds = this.#longLived.get(family) ?? 0;
      if (seconds === 0) dropped += adj.sweep();
      else if (adj.staleCount > 0) this.#keepAsLastResort(family, adj, seconds);
    }
    return dropped;
  }

  #keepAsLastResort(family: Family, adj: AdjRibIn, seconds: number): void {
    const { log } = this.context;
    const peer = this.config.name;
    this.#timers.arm(`longLived${family}`, seconds * 1000);
    adj.rewriteStale(
      () => this.#asLastResort(),
      (dropped) => {
        log.warn({ peer, family, routes: adj.staleCount, dropped, seconds }, 'stale routes kept as last resort');
        if (adj.staleCount === 0) this.#timers.disarm(`longLived${family}`);
      },
    );
  }

  /** Attributes of a route of last resort; undefined where the route must not become one. Good for one turn. */
  #asLastResort(): (id: AttributeId) => AttributeId | undefined {
    const { interner } = this.context;
    const known = new Map<AttributeId, AttributeId | undefined>();
    return (id) => {
      if (known.has(id)) return known.get(id);
      const attributes = interner.get(id);
      const unwilling = attributes.communities?.includes(noLlgr);
      const changed = unwilling ? undefined : interner.intern(withCommunity(attributes, llgrStale));
      known.set(id, changed);
      return changed;
    };
  }

  #expired(name: StaleTimer): void {
    const { log } = this.context;
    if (name === 'longLived4' || name === 'longLived6') {
      const family = name === 'longLived4' ? 4 : 6;
      const swept = this.#in.get(family)?.sweep();
      log.warn({ peer: this.config.name, family, swept }, 'routes kept as last resort dropped: their time is over');
      return;
    }
    let swept = 0;
    if (name === 'restart') swept = this.#beginLongLived();
    else for (const [family, adj] of this.#in) swept += this.#sweep(family, adj);
    if (swept === 0) return;
    const message =
      name === 'restart'
        ? 'peer did not come back in time: stale routes dropped'
        : 'peer sent no end of its table: stale routes dropped';
    log.warn({ peer: this.config.name, swept }, message);
  }

  /** A family that did not outlive the restart is dropped at once. RFC 4724 §4.2. */
  #reconsiderStale(family: Family, adj: AdjRibIn, { restart, longLived, families }: Negotiated): void {
    if (!families.includes(family)) {
      adj.clear();
      return;
    }
    const told = [...(restart?.families ?? []), ...(longLived ?? [])];
    if (!told.some((candidate) => candidate.family === family && candidate.preserved)) adj.sweep();
  }

  /** Routes kept over the peer's restart. */
  get stale(): number {
    return this.#stale();
  }

  /** As the peer itself names the route. */
  #named(family: Family, id: PrefixId, { pathId = 0 }: Candidate): PathCidr {
    const prefix = this.context.tables[family].rib.prefixes.cidr(id);
    return this.#withPaths.has(family) ? { prefix, pathId } : prefix;
  }

  /** Drops what is stale; returns how many. Monitoring stations hear of each route as it leaves. */
  #sweep(family: Family, adj: AdjRibIn): number {
    const { monitor, tables } = this.context;
    if (!monitor.active) return adj.sweep();
    let gone: PathCidr[] = [];
    return adj.sweep({
      leaves: (id, pathId) => {
        const prefix = tables[family].rib.prefixes.cidr(id);
        gone.push(this.#withPaths.has(family) ? { prefix, pathId } : prefix);
      },
      over: () => {
        if (gone.length > 0) monitor.swept(this.config.name, family, gone);
        gone = [];
      },
    });
  }

  #stale(): number {
    let count = 0;
    for (const adj of this.#in.values()) count += adj.staleCount;
    return count;
  }

  #importRules(negotiated: Negotiated) {
    const { config, context } = this;
    return {
      context: importContextOf(config, context, negotiated, this.#local),
      filters: importFiltersOf(config, context, negotiated),
    };
  }

  #exportContext(family: Family, negotiated: Negotiated): ExportContext | undefined {
    const found = exportContextOf(family, this.config, this.context, negotiated, this.#local);
    const message = 'no address of ours is a next hop for the peer: it is told nothing';
    if (!found) this.#intake.logOnce(`next hop ${family}`, { family }, message);
    return found;
  }
}
