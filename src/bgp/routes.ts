import { type Cidr, cidrOf, type Family, familyOf, type Ip, octets as octetsOf, parseIp } from '../model/address.ts';
import type { BmpStatistics, Side } from './bmp/messages.ts';
import type { MonitoredRoute } from './bmp/monitor.ts';
import { llgrStale, noLlgr } from './communities.ts';
import type { Connection } from './connection.ts';
import type { SpeakerContext } from './context.ts';
import type { ExportContext } from './exporting.ts';
import { compileFilter, type Filter, operated, type Verdict, withCommunity } from './filters.ts';
import { type ImportContext, rejectAttributes, rejectPrefix } from './importing.ts';
import type { Negotiated } from './negotiate.ts';
import { ownHop } from './nexthop.ts';
import type { FamilyCounts } from './peer.ts';
import { limitExceeded, limitState } from './prefix-limit.ts';
import type { PrefixId } from './prefixes.ts';
import { Rejections } from './rejections.ts';
import { AdjRibIn, type Candidate, type Source } from './rib.ts';
import type { PeerConfig } from './settings.ts';
import { Timers } from './timers.ts';
import type { Attributes } from './wire/attributes.ts';
import type { WireError } from './wire/errors.ts';
import type { RefreshSubtype } from './wire/message.ts';
import { cidrsOf, eachPrefix, octetsFor, type PrefixBlock } from './wire/nlri.ts';
import type { Update } from './wire/update.ts';

/** A restarted peer must have told its whole table by then; what is stale still goes. RFC 4724 §4.2 wants a bound. */
const stalePathSeconds = 360;

type StaleTimer = 'restart' | 'stalePaths' | `longLived${Family}`;

interface Counts {
  received: number;
  withdrawn: number;
  endOfRib: boolean;
}

/**
 * The routes between one peer and the tables: what it tells goes through the import checks into its Adj-RIB-In, an
 * established session joins an update group, and a lost one leaves stale routes behind as a graceful restart wants.
 */
export class Routes {
  readonly #source: Source;
  readonly rejections = new Rejections();
  readonly #in: ReadonlyMap<Family, AdjRibIn>;
  readonly #counts = new Map<Family, Counts>();
  readonly #faults = new Map<string, number>();
  readonly #rejected = new Map<string, number>();
  readonly #timers: Timers<StaleTimer>;
  /** How long routes stay after the restart time, by family. RFC 9494. */
  #longLived: ReadonlyMap<Family, number> = new Map();
  #import: ImportContext | undefined;
  /** Our end of the session's connection. */
  #local: Ip | undefined;
  #enhanced = false;
  /** Routes of before the session are stale until the end-of-RIB marks. */
  #restartedPeer = false;
  #filters: ReadonlyMap<Family, Filter> = new Map();
  #logged = new Set<string>();
  /** Families near their limit, of which the log has told in this session. */
  #warned = new Set<Family>();

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
    this.#timers = new Timers(context.clock, (name) => this.#expired(name));
  }

  /** The session is established: the peer is told our routes, and stale ones are weighed. */
  up(connection: Connection, negotiated: Negotiated): void {
    const { context } = this;
    this.#source.identifier = negotiated.identifier;
    this.#local = connection.localAddress;
    this.#import = this.#importContext(negotiated);
    this.#filters = importFilters(this.config, negotiated);
    this.#warned.clear();
    this.#timers.disarm('restart');
    for (const [family, adj] of this.#in) this.#reconsiderStale(family, adj, negotiated);
    this.#enhanced = negotiated.enhancedRefresh;
    this.#restartedPeer = this.#stale() > 0;
    if (this.#restartedPeer) this.#timers.arm('stalePaths', stalePathSeconds * 1000);
    for (const family of negotiated.families) {
      this.#counts.set(family, { received: 0, withdrawn: 0, endOfRib: false });
      const receiver = {
        source: this.#source,
        send: (messages: readonly Uint8Array[]) => connection.send(messages),
        writable: () => connection.writable(),
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
    this.#import = this.#importContext(negotiated);
    this.#filters = importFilters(config, negotiated);
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
    for (const [family, adj] of this.#in) {
      this.context.tables[family].leave(this.#source);
      adj.clear();
      this.context.settled(this.config.name, family);
    }
  }

  /** What ends the session when more is kept of a family than may be; a warning is logged on the way there. */
  overLimit(family: Family): WireError | undefined {
    const { name, maxPrefixes } = this.config;
    const count = this.#in.get(family)?.count ?? 0;
    const state = maxPrefixes ? limitState(count, maxPrefixes) : 'within';
    if (!maxPrefixes || state === 'within') {
      this.#warned.delete(family);
      return undefined;
    }
    if (!this.#warned.has(family))
      this.context.log.warn({ peer: name, family, count, limit: maxPrefixes.limit }, 'peer nears its prefix limit');
    this.#warned.add(family);
    return state === 'exceeded' && !maxPrefixes.warnOnly ? limitExceeded(family, count, maxPrefixes) : undefined;
  }

  /** @throws WireError that ends the session: the peer tells more than it may */
  update(update: Update): void {
    if (this.context.monitor.wantsReceived) this.context.monitor.received(this.config.name, update);
    for (const { field, remedy, message } of update.faults) {
      this.#count(this.#faults, `${field} ${remedy}`);
      this.#logOnce(`${field} ${remedy}`, { field, remedy, detail: message }, 'malformed attribute in UPDATE');
    }
    for (const block of update.withdrawn) this.#withdraw(block);
    for (const { block, attributes } of update.announced) {
      this.#announce(block, attributes);
      const excess = this.overLimit(block.family);
      if (excess) throw excess;
    }
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
    if (this.#counts.get(family)?.endOfRib === false && this.#restartedPeer) return;
    const swept = this.#sweep(family, adj);
    if (this.#stale() === 0) this.#timers.disarm('stalePaths');
    this.context.log.info({ peer: this.config.name, family, routes: adj.count, swept }, 'end of the repeated routes');
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
      yield { family, prefix: this.context.tables[family].rib.prefixes.cidr(id), attributes: candidate.attributes };
    }
    if (side === 'post') return;
    for (const { prefix, attributes } of this.rejections.values())
      yield { family: familyOf(prefix), prefix, attributes };
  }

  /** What the peer told is all known: nothing was changed at import, and no refused route is forgotten. */
  get faithful(): boolean {
    const rules = Object.values(this.config.importRules ?? {}).flat();
    return this.rejections.forgotten === 0 && rules.every(({ operations }) => operations.length === 0);
  }

  statistics(): BmpStatistics {
    const rejected = [...this.#rejected.values()].reduce((sum, count) => sum + count, 0);
    return { rejected, routes: new Map([...this.#in].map(([family, adj]) => [family, adj.count])) };
  }

  resume(): void {
    for (const family of this.#in.keys()) this.context.tables[family].resume();
  }

  counts(): Readonly<Record<string, FamilyCounts>> {
    const all: Record<string, FamilyCounts> = {};
    for (const [family, adj] of this.#in) {
      const { received = 0, withdrawn = 0, endOfRib = false } = this.#counts.get(family) ?? {};
      const advertised = this.context.tables[family].advertised(this.#source);
      all[`ipv${family}`] = { received, withdrawn, accepted: adj.count, stale: adj.staleCount, advertised, endOfRib };
    }
    return all;
  }

  tallies(): { faults: Readonly<Record<string, number>>; rejected: Readonly<Record<string, number>> } {
    return { faults: Object.fromEntries(this.#faults), rejected: Object.fromEntries(this.#rejected) };
  }

  #announce(block: PrefixBlock, attributes: Attributes): void {
    const adj = this.#in.get(block.family);
    const context = this.#import;
    if (!adj || !context) return;
    const rejection = rejectAttributes(attributes, context);
    const { prefixes } = this.context.tables[block.family].rib;
    const filter = this.#filters.get(block.family);
    const shared = new Map<Verdict, Attributes>();
    const told = this.context.monitor.active ? new Map<Attributes, Cidr[]>() : undefined;
    const gone: Cidr[] = [];
    eachPrefix(block, (octets, at, length) => {
      this.#tally(block.family, 'received');
      const reason = rejection ?? rejectPrefix(block.family, octets, at, length, context);
      const verdict = reason ? 'reject' : filter?.judge(octets, at, length, attributes, true);
      if (verdict !== 'reject') {
        this.#unreject(block.family, octets, at, length);
        const kept = shared.get(verdict) ?? this.context.interner.intern(operated(attributes, verdict ?? []));
        shared.set(verdict, kept);
        if (told) listIn(told, kept).push(prefixAt(block.family, octets, at, length));
        return adj.announce(prefixes.intern(octets, at, length), kept);
      }
      this.#reject(reason ?? 'filter');
      const prefix = prefixAt(block.family, octets, at, length);
      this.rejections.add({ prefix, reason: reason ?? 'filter', attributes });
      const known = prefixes.find(octets, at, length);
      if (known !== undefined) adj.withdraw(known);
      if (known !== undefined) gone.push(prefix);
    });
    const { monitor } = this.context;
    for (const [kept, list] of told ?? []) monitor.announced(this.config.name, block.family, kept, list);
    monitor.withdrawn(this.config.name, block.family, gone);
  }

  #withdraw(block: PrefixBlock): void {
    const adj = this.#in.get(block.family);
    const { prefixes } = this.context.tables[block.family].rib;
    const { monitor } = this.context;
    if (monitor.active) monitor.withdrawn(this.config.name, block.family, cidrsOf(block));
    eachPrefix(block, (octets, at, length) => {
      this.#tally(block.family, 'withdrawn');
      this.#unreject(block.family, octets, at, length);
      const id = prefixes.find(octets, at, length);
      if (id !== undefined) adj?.withdraw(id);
    });
  }

  #endOfRib(family: Family): void {
    const counts = this.#counts.get(family);
    const adj = this.#in.get(family);
    if (!counts || !adj) return;
    counts.endOfRib = true;
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
      if (seconds === 0) {
        dropped += adj.sweep();
        continue;
      }
      dropped += adj.rewriteStale((attributes) =>
        attributes.communities?.includes(noLlgr)
          ? undefined
          : this.context.interner.intern(withCommunity(attributes, llgrStale)),
      );
      if (adj.staleCount === 0) continue;
      this.#timers.arm(`longLived${family}`, seconds * 1000);
      const { log } = this.context;
      log.warn({ peer: this.config.name, family, routes: adj.staleCount, seconds }, 'stale routes kept as last resort');
    }
    return dropped;
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

  /** Drops what is stale; returns how many. */
  #sweep(family: Family, adj: AdjRibIn): number {
    const { monitor, tables } = this.context;
    if (monitor.active && adj.staleCount > 0) {
      const stale = [...adj.entries()].filter(([, candidate]) => candidate.stale);
      const gone = stale.map(([id]) => tables[family].rib.prefixes.cidr(id));
      monitor.swept(this.config.name, family, gone);
    }
    return adj.sweep();
  }

  #stale(): number {
    let count = 0;
    for (const adj of this.#in.values()) count += adj.staleCount;
    return count;
  }

  #importContext({ external, peerAsn }: Negotiated): ImportContext {
    const { asn, identifier, clusterId, addresses } = this.context;
    const ownAddresses = new Set(addresses.map(({ address }) => address));
    if (this.#local) ownAddresses.add(this.#local);
    const { acceptDefault, localAsn, allowedLocalAs = 0 } = this.config;
    const asns = localAsn === undefined ? [asn] : [asn, localAsn];
    return {
      asns,
      allowedLocalAs,
      identifier,
      clusterId,
      peerAsn,
      external,
      ownAddresses,
      acceptDefault,
      onLink: this.config.interface !== undefined,
      limits: this.context.limits,
    };
  }

  /** Undefined when this node has no address that the peer could use as next hop: it is told nothing of the family. */
  #exportContext(family: Family, negotiated: Negotiated): ExportContext | undefined {
    const { asn, addresses, clusterId } = this.context;
    const { external, fourOctetAs, extendedMessages, extendedNextHop, longLived } = negotiated;
    const local = this.config.localAddress ?? this.#local;
    const hop = ownHop(family, { addresses, local, peer: this.config.address, extendedNextHop });
    if (!hop) {
      this.#logOnce(
        `next hop ${family}`,
        { family },
        'no address of ours is a next hop for the peer: it is told nothing',
      );
      return undefined;
    }
    const { nextHopMode, exportRules, localAsn, removePrivateAs } = this.config;
    const filter = exportRules && compileFilter(exportRules[family], external);
    return {
      family,
      asn: localAsn ?? asn,
      external,
      fourOctetAs,
      ...hop,
      nextHopMode,
      ...(external ? {} : { reflection: { clusterId, client: this.#source.client === true } }),
      ...(longLived ? { longLived: true } : {}),
      ...(extendedMessages ? { extendedMessages } : {}),
      ...(extendedNextHop ? { extendedNextHop } : {}),
      ...(removePrivateAs ? { removePrivateAs } : {}),
      ...(filter ? { filter } : {}),
    };
  }

  #unreject(family: Family, octets: Uint8Array, at: number, length: number): void {
    if (this.rejections.size > 0) this.rejections.delete(prefixAt(family, octets, at, length));
  }

  #reject(reason: string): void {
    this.#count(this.#rejected, reason);
    this.#logOnce(reason, { reason }, 'routes from peer rejected');
  }

  #tally(family: Family, what: 'received' | 'withdrawn'): void {
    const counts = this.#counts.get(family);
    if (counts) counts[what]++;
  }

  #count(tally: Map<string, number>, key: string): void {
    tally.set(key, (tally.get(key) ?? 0) + 1);
  }

  /** The first of its kind in this peer's life is a line in the log; counters tell of the rest. */
  #logOnce(key: string, fields: object, message: string): void {
    if (this.#logged.has(key) || this.#logged.size > 64) return;
    this.#logged.add(key);
    this.context.log.warn({ peer: this.config.name, ...fields }, message);
  }
}

function importFilters({ importRules }: PeerConfig, { families, external }: Negotiated): ReadonlyMap<Family, Filter> {
  const filters = new Map<Family, Filter>();
  for (const family of families) {
    const filter = importRules && compileFilter(importRules[family], external);
    if (filter) filters.set(family, filter);
  }
  return filters;
}

/** What decides which of the peer's routes are kept, and how. */
function importKey({ importRules, acceptDefault, allowedLocalAs }: PeerConfig): string {
  return JSON.stringify([importRules, acceptDefault, allowedLocalAs]);
}

function prefixAt(family: Family, octets: Uint8Array, at: number, length: number): Cidr {
  const address = new Uint8Array(octetsOf(family));
  address.set(octets.subarray(at, at + octetsFor(length)));
  return cidrOf(address, length);
}

function listIn<K, V>(lists: Map<K, V[]>, key: K): V[] {
  const list = lists.get(key) ?? [];
  lists.set(key, list);
  return list;
}
