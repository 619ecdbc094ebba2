import type { Socket } from 'node:net';
import type { Clock } from '../base/clock.ts';
import { explain } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import { KernelError } from '../kernel/types.ts';
import { type Cidr, type Family, familyOf, parseIp } from '../model/address.ts';
import { ownAttributes } from './advertisements.ts';
import { BfdAgent } from './bfd/agent.ts';
import type { Counter } from './bfd/settings.ts';
import { Stations } from './bmp/monitor.ts';
import type { SpeakerContext } from './context.ts';
import { Convergence } from './convergence.ts';
import { DynamicPeers } from './dynamic.ts';
import { AttributeInterner } from './intern.ts';
import { defaultLimits, type Limits } from './limits.ts';
import { Listening } from './listening.ts';
import { type NextHopDeps, NextHops, type WayChanges } from './next-hops.ts';
import { Pauses } from './pauses.ts';
import { Peer, type PeerStatus } from './peer.ts';
import type { RejectedRoute } from './rejections.ts';
import { AdjRibIn, type Source } from './rib.ts';
import type { PeerConfig, SpeakerConfig } from './settings.ts';
import { Strangers } from './strangers.ts';
import { RouteTable, type Selected } from './table.ts';
import { protectAccepted, type Remote, remoteOf, taken, transportOf } from './transport.ts';
import { Turns } from './turns.ts';

/** Seconds after which a start counts as complete although peers are still missing. RFC 4724 §4.1. */
export const deferralSeconds = 30;

export interface SpeakerDeps {
  readonly clock: Clock;
  readonly log: Log;
  readonly random?: () => number;
  /** Default: `defaultLimits`. */
  readonly limits?: Limits;
  /** An earlier process of this node ran since boot, and felix kept its routes in the kernel. */
  readonly restarted?: boolean;
  /** Default: `deferralSeconds`. */
  readonly deferralSeconds?: number;
  /** Finds out the kernel's route to an address; absent: no route leads through a device (next-hops.ts). */
  readonly lookup?: NextHopDeps['lookup'];
  /** Paths need a route to their next hop, and its metric counts. Default: every next hop counts as near. */
  readonly trackNextHops?: boolean;
}

/** Hears of selected routes, each batch in the turn in which it was decided. */
export interface RouteListener {
  selected(changes: readonly Selected[]): void;
  /** What has been selected is the whole of what the peers know. Said once. */
  converged(): void;
}

const families: readonly Family[] = [4, 6];

/**
 * The BGP speaker: listens, keeps up the configured sessions, and holds the tables. `apply` moves it from one
 * configuration to the next and touches only the sessions that differ.
 */
export class Speaker {
  readonly tables: Readonly<Record<Family, RouteTable>>;
  readonly #interner = new AttributeInterner();
  readonly #turns: Turns;
  readonly #pauses = new Pauses();
  readonly #peers = new Map<string, Peer>();
  readonly #convergence = new Convergence();
  readonly #listeners = new Set<RouteListener>();
  readonly #listening = new Listening({
    accept: (socket) => this.#accept(socket),
    failed: (cause) => this.deps.log.error({ reason: explain(cause) }, 'a connection could not be taken'),
  });
  readonly #dynamic: DynamicPeers;
  readonly #local: Source = { name: 'local', kind: 'local', identifier: parseIp('0.0.0.0') };
  readonly #originated: Readonly<Record<Family, AdjRibIn>>;
  readonly #strangers: Strangers;
  #config: SpeakerConfig;
  #converged = false;
  #running = false;
  readonly #nextHops: NextHops | undefined;
  readonly #bfd: BfdAgent;
  readonly #monitor: Stations;
  #cancelDeferral: (() => void) | undefined;

  constructor(
    config: SpeakerConfig,
    private readonly deps: SpeakerDeps,
  ) {
    this.#config = config;
    const { lookup, clock, log } = deps;
    this.#turns = new Turns(() => clock.monotonic());
    this.#nextHops = lookup && new NextHops({ lookup, clock, log, changed: (changes) => this.#reconsider(changes) });
    this.tables = { 4: this.#table(4), 6: this.#table(6) };
    this.#originated = {
      4: new AdjRibIn(this.#local, this.tables[4].rib),
      6: new AdjRibIn(this.#local, this.tables[6].rib),
    };
    const { bfdSessions, bmpQueuedOctets } = deps.limits ?? defaultLimits;
    this.#bfd = new BfdAgent({ ...deps, limit: bfdSessions });
    this.#monitor = new Stations({ ...deps, queuedOctets: bmpQueuedOctets, name: () => this.#config.identifier });
    this.#strangers = new Strangers(deps.clock, deps.log);
    this.#dynamic = new DynamicPeers({
      clock: deps.clock,
      log: deps.log,
      dormant: (name) => this.#peers.get(name)?.dormant ?? true,
      remove: (name) => {
        void this.#peers.get(name)?.stop('deconfigured');
        this.#peers.delete(name);
      },
    });
  }

  get config(): SpeakerConfig {
    return this.#config;
  }

  /** Every awaited peer has told its whole table, or the deferral time ran out, and all of it is decided. */
  get converged(): boolean {
    return this.#converged;
  }

  /** Peers whose first whole table is still awaited, each `family name`. */
  get awaited(): readonly string[] {
    return this.#convergence.awaited;
  }

  /** Listens and starts every session. @throws EnvironmentError when the port is taken or forbidden */
  async start(): Promise<void> {
    const { clock, log } = this.deps;
    await this.#listening.follow(this.#config);
    this.#running = true;
    this.#pauses.start();
    this.#nextHops?.start();
    this.#monitor.follow(this.#config.bmp ?? []);
    for (const peer of this.#config.peers) this.#convergence.expect(peer.name, peer.families);
    this.#originate(undefined, this.#config);
    for (const peer of this.#config.peers) this.#addPeer(peer);
    const seconds = this.deps.deferralSeconds ?? deferralSeconds;
    this.#cancelDeferral = clock.after(seconds * 1000, () => {
      const awaited = this.#convergence.awaited;
      if (awaited.length > 0) log.warn({ awaited, seconds }, 'start counts as complete without these peers');
      this.#convergence.giveUp();
      this.#check();
    });
    this.#check();
  }

  /** Follows a change of configuration. @throws EnvironmentError when a new port is taken or forbidden */
  async apply(config: SpeakerConfig): Promise<void> {
    const before = this.#config;
    await this.#listening.follow(config);
    this.#config = config;
    this.#monitor.follow(config.bmp ?? []);
    const identity = identityOf(config) === identityOf(before);
    const wanted = new Map([...this.#dynamic.follow(config), ...config.peers].map((peer) => [peer.name, peer]));
    for (const [name, peer] of [...this.#peers]) {
      const next = wanted.get(name);
      if (next && identity && sessionKey(next) === sessionKey(peer.config)) {
        if (!same(next, peer.config)) peer.adopt(next);
        continue;
      }
      this.#peers.delete(name);
      this.#dynamic.forget(name);
      void peer.stop(next ? 'configChange' : 'deconfigured');
    }
    this.#originate(before, config);
    for (const peer of config.peers) if (!this.#peers.has(peer.name)) this.#addPeer(peer);
    this.#check();
  }

  /**
   * Ends everything. `restart` closes the connections without a NOTIFICATION, so that peers keep our routes as stale
   * until we are back (RFC 4724); `shutdown` takes the routes back at once (cease 6/2).
   */
  async stop(how: 'restart' | 'shutdown'): Promise<void> {
    this.#running = false;
    this.#pauses.stop();
    this.#nextHops?.stop();
    this.#cancelDeferral?.();
    this.#listeners.clear();
    this.#listening.close();
    this.#dynamic.stop();
    const peers = [...this.#peers.values()];
    // First, so that no neighbour takes our going for a broken path.
    await this.#bfd.close();
    await Promise.all(peers.map((peer) => (how === 'shutdown' ? peer.stop('shutdown') : peer.stop())));
    this.#monitor.follow([]);
  }

  /** Returns what ends the subscription. `converged` is not called when it already is so. */
  subscribe(listener: RouteListener): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  peer(name: string): Peer | undefined {
    return this.#peers.get(name);
  }

  /** Who told the prefix and was refused. */
  rejected(prefix: Cidr): { readonly peer: string; readonly route: RejectedRoute }[] {
    return [...this.#peers.values()].flatMap((peer) => {
      const route = peer.rejections.get(prefix);
      return route ? [{ peer: peer.name, route }] : [];
    });
  }

  peers(): PeerStatus[] {
    return [...this.#peers.values()].map((peer) => peer.status());
  }

  /** The longest time for which the process answered nobody since it listens. */
  get longestPauseMilliseconds(): number {
    return this.#pauses.longestMilliseconds;
  }

  /** BMP stations, and whether they are connected. */
  stations(): ReturnType<Stations['status']> {
    return this.#monitor.status();
  }

  /** How many next hops are followed, and which have no route; undefined: none is. */
  nextHops(): ReturnType<NextHops['status']> | undefined {
    return this.deps.trackNextHops ? this.#nextHops?.status() : undefined;
  }

  /** BFD packets by what became of them. */
  bfdCounts(): Readonly<Record<Counter, number>> {
    return this.#bfd.counts();
  }

  #table(family: Family): RouteTable {
    return new RouteTable(
      family,
      {
        schedule: (work) => this.#turns.schedule(work),
        now: () => this.deps.clock.monotonic(),
        interner: this.#interner,
        selected: (changes) => {
          for (const listener of this.#listeners) listener.selected(changes);
        },
        wanted: () => this.#listeners.size > 0,
        ...(this.#nextHops && this.deps.trackNextHops ? { costOf: this.#nextHops.costOf } : {}),
        settled: () => this.#check(),
        oversized: (attributes, prefixes) =>
          this.deps.log.warn({ family, prefixes, asPath: attributes.asPath }, 'attributes too long to pass on'),
      },
      this.deps.restarted === true,
    );
  }

  /** Peers are not asked again only because a metric changed: no filter looks at that. */
  #reconsider({ hops, own, moved }: WayChanges): void {
    for (const family of families) void this.tables[family].reconsider(hops, own);
    if (moved) for (const peer of this.#peers.values()) peer.devicesChanged();
  }

  /** Path selection starts once everybody has spoken; what comes of it makes the start complete. */
  #check(): void {
    if (this.#converged || !this.#running || !this.#convergence.complete) return;
    for (const family of families) if (this.tables[family].held) this.tables[family].release();
    if (!families.every((family) => this.tables[family].settled)) return;
    this.#converged = true;
    this.#cancelDeferral?.();
    this.deps.log.info({ peers: this.#peers.size }, 'BGP start complete');
    for (const listener of this.#listeners) listener.converged();
  }

  #addPeer(config: PeerConfig): Peer {
    const { clock, log, random = Math.random, restarted = false, limits = defaultLimits } = this.deps;
    const context: SpeakerContext = {
      asn: this.#config.asn,
      identifier: this.#config.identifier,
      clusterId: this.#config.clusterId ?? this.#config.identifier,
      addresses: this.#config.addresses,
      tables: this.tables,
      turns: this.#turns,
      interner: this.#interner,
      clock,
      log,
      random,
      limits,
      bfd: this.#bfd,
      monitor: this.#monitor,
      deviceOf: this.#nextHops?.deviceOf ?? (() => ''),
      restarted,
      restarting: () => restarted && !this.#converged,
      settled: (name, family) => {
        this.#convergence.settle(name, family);
        this.#check();
      },
    };
    const peer = new Peer(config, context);
    this.#peers.set(config.name, peer);
    peer.start();
    return peer;
  }

  /** Withdraws what is no longer ours, and announces what is new or has another form. */
  #originate(before: SpeakerConfig | undefined, after: SpeakerConfig): void {
    const { advertisements, originationAttributes = {} } = after;
    const wanted = new Set(after.originations);
    const known = new Set(before?.originations);
    for (const prefix of known) {
      if (wanted.has(prefix)) continue;
      const family = familyOf(prefix);
      const id = this.tables[family].rib.prefixes.findCidr(prefix);
      if (id !== undefined) this.#originated[family].withdraw(id);
    }
    const sameForm = before !== undefined && formKey(before) === formKey(after);
    for (const prefix of wanted) {
      if (sameForm && known.has(prefix)) continue;
      const family = familyOf(prefix);
      const own = ownAttributes(prefix, advertisements, originationAttributes[prefix]);
      const id = this.tables[family].rib.prefixes.internCidr(prefix);
      this.#originated[family].announce(id, this.#interner.intern(own));
    }
  }

  #accept(socket: Socket): void {
    const remote = remoteOf(socket);
    const peer = remote && (this.#configured(remote) ?? this.#admit(remote));
    if (!(peer instanceof Peer)) {
      this.#strangers.turnAway(socket, remote?.address, peer?.refused);
      return;
    }
    try {
      protectAccepted(socket, familyOf(peer.config.address), transportOf(peer.config));
    } catch (thrown) {
      if (!(thrown instanceof KernelError)) throw thrown;
      this.deps.log.warn({ peer: peer.name, reason: thrown.message }, 'connection from the peer not usable, closed');
      socket.destroy();
      return;
    }
    peer.accept(taken(socket));
  }

  #configured({ address, zone }: Remote): Peer | undefined {
    for (const peer of this.#peers.values()) {
      const { config } = peer;
      if (config.address === address && (!zone || !config.interface || config.interface === zone)) return peer;
    }
    return undefined;
  }

  #admit(remote: Remote): Peer | { readonly refused: string } | undefined {
    const admitted = this.#dynamic.admit(remote, this.#config);
    return admitted && 'name' in admitted ? this.#addPeer(admitted) : admitted;
  }
}

/** What the form of originations depends on. */
function formKey({ advertisements, originationAttributes }: SpeakerConfig): string {
  return JSON.stringify([advertisements, originationAttributes]);
}

/** What every session depends on. */
function identityOf({ asn, identifier, clusterId = identifier, addresses }: SpeakerConfig): string {
  return JSON.stringify([asn, identifier, clusterId, addresses]);
}

/** Everything but what `Peer.adopt` follows in an established session. */
function sessionKey(config: PeerConfig): string {
  const {
    importRules: _imports,
    exportRules: _exports,
    acceptDefault: _default,
    nextHopMode: _mode,
    bfd: _bfd,
    allowedLocalAs: _allowed,
    removePrivateAs: _private,
    maxPrefixes: _limit,
    advertisementIntervalSeconds: _pace,
    ...session
  } = config;
  return JSON.stringify(session);
}

function same(a: PeerConfig, b: PeerConfig): boolean {
  return JSON.stringify(a) === JSON.stringify(b);
}
