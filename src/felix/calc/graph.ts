import { InputError } from '../../base/errors.ts';
import { type Event, type Key, keyText, type Type } from '../../datastore/store.ts';
import type { Route, RouteForm } from '../../kernel/types.ts';
import { type Cidr, type Family, familyOf, type Ip, parseCidr, parseIp } from '../../model/address.ts';
import { type FeedMessage, type Hop, hopParts } from '../../model/feed.ts';
import type { WorkloadEndpoint } from '../../model/kinds.ts';
import { endpointRoutes, isEntry, type LocalEndpoint, LocalEndpoints } from './endpoints.ts';
import { FeedTable } from './feed.ts';
import { type DesiredFirewall, Firewall } from './firewall.ts';
import type { NatOptions } from './nat.ts';
import type { PolicySource } from './policy-source.ts';
import { RemoteBlocks, type TunnelSettings } from './remote.ts';
import { blackhole, gatewayForm } from './route.ts';
import { RouteTable } from './routes.ts';
import { ServiceLoops } from './service-loops.ts';
import { poolMode } from './tunnels.ts';

export type { DesiredFirewall } from './firewall.ts';

/** What felix watches; IPReservation and the last two for those whom it passes updates on to, FelixConfiguration for its settings. */
export const watchedTypes = [
  'WorkloadEndpoint',
  'Profile',
  'NetworkPolicy',
  'GlobalNetworkPolicy',
  'StagedNetworkPolicy',
  'StagedGlobalNetworkPolicy',
  'StagedKubernetesNetworkPolicy',
  'Tier',
  'NetworkSet',
  'GlobalNetworkSet',
  'EndpointSlice',
  'Service',
  'HostEndpoint',
  'IPPool',
  'IPReservation',
  'Block',
  'Node',
  'BGPConfiguration',
  'FelixConfiguration',
  'IpamConfig',
  'ClusterInformation',
] as const satisfies readonly Type[];

const noTunnels: ReadonlySet<string> = new Set();

/**
 * The whole calculation of a node: datastore objects and the route feed in, desired kernel state out.
 *
 *   WorkloadEndpoint ─┬─ LocalEndpoints ─── sysctls, link up ─┐
 *                     │        └────────── /32, /128 ──┐      │
 *   Profile, policy ──┴─ PolicySource ── filter, sets ─┼──────┼─► desired
 *   Block ──────────────────────────── blackholes ─────┤      │
 *   Block, Node, IPPool ─ RemoteBlocks ─ tunnels ──────┤      │
 *   route feed, Node ── FeedTable ──── gateways ───── RouteTable
 *   IPPool ─────────────────────────── nat, sets ─────────────┘
 *
 * Events say what is now, never what to do: any order, repetition or leaving out of intermediate states ends in the
 * same result.
 */
export class Graph {
  readonly #endpoints: LocalEndpoints;
  readonly routes = new RouteTable();
  readonly feed = new FeedTable(this.routes.destinations);
  readonly #blocks = new Set<Cidr>();
  readonly #invalid = new Map<string, Error>();
  #nodeAddresses: readonly Ip[] = [];
  #linkAddresses: readonly Ip[] = [];
  /** What the next hops that were looked at last come to. */
  #feedForm: { readonly nextHops: readonly Hop[]; readonly form: RouteForm | undefined } | undefined;
  readonly remote: RemoteBlocks;
  /** Ranges of service addresses that the nodes announce. */
  readonly services = new ServiceLoops();
  readonly #firewall: Firewall;

  constructor(
    private readonly options: {
      readonly node: string;
      readonly families: readonly Family[];
      readonly interfacePrefix: string;
      /** Pods may be given sources besides their own addresses; absent: no. */
      readonly sourceSpoofing?: boolean;
      readonly policy: PolicySource;
      readonly tunnels: TunnelSettings;
      /** Without BGP: routes to nodes of the same subnet come from the datastore. */
      readonly plain: boolean;
    },
  ) {
    this.remote = new RemoteBlocks(options, this.routes, options.tunnels);
    this.#endpoints = new LocalEndpoints(options);
    const { remote, services } = this;
    this.#firewall = new Firewall({ ...options, remote, services, endpoints: this.#endpoints.byKey });
  }

  /** Endpoints of this node by key. */
  get endpoints(): ReadonlyMap<string, LocalEndpoint> {
    return this.#endpoints.byKey;
  }

  /** The addresses that its Node resource gives it. */
  get nodeAddresses(): readonly Ip[] {
    return this.#nodeAddresses;
  }

  get ownAddresses(): ReadonlySet<Ip> {
    return new Set([...this.#nodeAddresses, ...this.#linkAddresses]);
  }

  /** Stored objects that could not be understood, and policies that could not be compiled. */
  problems(): readonly { readonly key: string; readonly error: Error }[] {
    const stored = [...this.#invalid].map(([key, error]) => ({ key, error }));
    return [...stored, ...this.options.policy.problems().filter(({ key }) => !this.#invalid.has(key))];
  }

  apply(event: Event): void {
    const key = event.op === 'delete' ? event.key : event.entry.key;
    if (event.op === 'invalid') this.#invalid.set(keyText(key), event.entry.error);
    else this.#invalid.delete(keyText(key));
    try {
      this.#route(key.type, event);
    } catch (thrown) {
      // A value that its schema let through and a parser refuses: the object keeps its last good form.
      if (!(thrown instanceof InputError)) throw thrown;
      this.#invalid.set(keyText(key), thrown);
    }
  }

  /** How outgoing NAT is done. */
  configureNat(options: NatOptions): void {
    this.#firewall.configureNat(options);
  }

  /** An endpoint of this node that is being written: until it is stored it has chains, and is neither routed nor in a set. */
  announce(key: Key<'WorkloadEndpoint'>, value: WorkloadEndpoint, families: readonly Family[]): void {
    const entry = { key, value: { ...value, spec: { ...value.spec, ipNetworks: [] } }, revision: '' };
    this.#endpoint({ op: 'set', entry });
    this.options.policy.announce(entry, families);
  }

  /**
   * Works out what events left open, until `enough` says to stop. @returns whether something is left; the route table
   * is as wanted when nothing is
   */
  settle(enough: () => boolean = never): boolean {
    return this.remote.settle(enough);
  }

  /** A line of the route feed. */
  applyFeed(message: FeedMessage): void {
    this.#refreshFeed(this.feed.apply(message));
  }

  /** Next hops found in the kernel at start stay until the feed has been heard. */
  adopt(found: Iterable<Route>): void {
    this.#refreshFeed(this.feed.adopt(found));
  }

  /** The feed was silent for too long: what it has not repeated goes. */
  dropStaleRoutes(): number {
    const dropped = this.feed.dropStale();
    this.#refreshFeed(dropped);
    return dropped.length;
  }

  /**
   * The addresses on the node's own devices; a route through one of them leads nowhere.
   * @param devices the same by device, as prefixes
   */
  setLinkAddresses(addresses: readonly Ip[], devices: ReadonlyMap<string, ReadonlySet<Cidr>> = new Map()): void {
    this.options.policy.setDevices(devices);
    const before = this.ownAddresses;
    this.#linkAddresses = addresses;
    this.#ownChanged(before);
  }

  /** Works out piece by piece what `firewall` puts together; what changes between two, `firewall` makes anew. */
  *prepare(): Generator<void> {
    yield* this.options.policy.prepare();
    for (const family of this.options.families) {
      this.options.policy.filter(family);
      yield;
    }
  }

  /**
   * Tables and sets of all families. The same object again as long as nothing changed.
   * @param standing tunnel devices in the kernel: one that is no longer wanted stays guarded until it is down
   */
  firewall(standing: ReadonlySet<string> = noTunnels): DesiredFirewall {
    return this.#firewall.desired(standing);
  }

  #route(type: Type, event: Event): void {
    switch (type) {
      case 'WorkloadEndpoint':
        this.#endpoint(event);
        // Its last good form stays in force, as an endpoint here and as a member of sets.
        if (event.op !== 'invalid') this.options.policy.apply(event);
        break;
      case 'Profile':
      case 'NetworkPolicy':
      case 'GlobalNetworkPolicy':
      case 'StagedNetworkPolicy':
      case 'StagedGlobalNetworkPolicy':
      case 'StagedKubernetesNetworkPolicy':
      case 'Tier':
      case 'NetworkSet':
      case 'GlobalNetworkSet':
      case 'EndpointSlice':
      case 'HostEndpoint':
        this.options.policy.apply(event);
        break;
      case 'IPPool':
        this.#pool(event);
        break;
      case 'Block':
        this.#block(event);
        break;
      case 'BGPConfiguration':
        if (this.services.apply(event)) this.#refreshFeed(this.feed.prefixes());
        break;
      case 'Node':
        this.options.policy.apply(event);
        this.#node(event);
        break;
      default:
        // Of no meaning here.
        break;
    }
  }

  #endpoint(event: Event): void {
    const change = this.#endpoints.apply(event);
    if (!change) return;
    const { before, after } = change;
    if (after?.problem) this.#invalid.set(after.key, after.problem);
    this.#firewall.endpointChanged(before, after);
    const kept = new Set(after ? endpointRoutes(after).map(({ destination }) => destination) : []);
    for (const { destination } of before ? endpointRoutes(before) : []) {
      if (before && !kept.has(destination))
        this.routes.remove(destination, { class: 'localWorkload', owner: before.key });
    }
    for (const route of after ? endpointRoutes(after) : []) {
      if (after) this.routes.add({ class: 'localWorkload', owner: after.key, preference: after.created, route });
    }
  }

  #pool(event: Event): void {
    if (event.op === 'invalid') return;
    const key = keyText(event.op === 'set' ? event.entry.key : event.key);
    if (event.op === 'set' && isEntry(event.entry, 'IPPool')) {
      const { cidr, natOutgoing } = event.entry.value.spec;
      this.#firewall.pool(key, { cidr: parseCidr(cidr, `${key}.spec.cidr`), natOutgoing });
      this.remote.pool(key, poolMode(key, event.entry.value));
    } else {
      this.#firewall.pool(key, undefined);
      this.remote.pool(key, undefined);
    }
  }

  #block(event: Event): void {
    if (event.op === 'invalid') return;
    const { key } = event.op === 'set' ? event.entry : event;
    if (key.type !== 'Block') return;
    const { cidr } = key;
    const value = event.op === 'set' && isEntry(event.entry, 'Block') ? event.entry.value : undefined;
    this.remote.block(cidr, value);
    const ours = value?.affinity === `host:${this.options.node}` && !value.deleted && this.#handles(cidr);
    if (ours === this.#blocks.has(cidr)) return;
    if (ours) {
      this.#blocks.add(cidr);
      this.routes.add({ class: 'blackhole', owner: cidr, preference: '', route: blackhole(cidr) });
    } else {
      this.#blocks.delete(cidr);
      this.routes.remove(cidr, { class: 'blackhole', owner: cidr });
    }
  }

  #node(event: Event): void {
    this.remote.node(event);
    if (event.op === 'invalid') return;
    const { key } = event.op === 'set' ? event.entry : event;
    if (key.type !== 'Node' || key.name !== this.options.node) return;
    const bgp = event.op === 'set' && isEntry(event.entry, 'Node') ? event.entry.value.spec.bgp : undefined;
    const before = this.ownAddresses;
    this.#nodeAddresses = [bgp?.ipv4Address, bgp?.ipv6Address].flatMap((text) =>
      text === undefined ? [] : [addressOf(text, `Node(${key.name}).spec.bgp`)],
    );
    this.#ownChanged(before);
  }

  #ownChanged(before: ReadonlySet<Ip>): void {
    const now = this.ownAddresses;
    if (now.symmetricDifference(before).size === 0) return;
    this.#feedForm = undefined;
    this.#refreshFeed(this.feed.prefixes());
  }

  /** The feed's wish for each prefix, without next hops that are our own. */
  #refreshFeed(prefixes: Iterable<Cidr>): void {
    for (const prefix of prefixes) {
      const nextHops = this.feed.nextHops(prefix);
      // Many in a row have the same.
      if (nextHops && this.#feedForm?.nextHops !== nextHops)
        this.#feedForm = { nextHops, form: feedForm(nextHops, this.ownAddresses) };
      const form = nextHops && this.#feedForm?.form;
      if (!form || !this.#handles(prefix) || this.services.covers(prefix))
        this.routes.remove(prefix, { class: 'bgp', owner: prefix });
      else this.routes.want('bgp', prefix, form);
    }
  }

  #handles(cidr: Cidr): boolean {
    return this.options.families.includes(familyOf(cidr));
  }
}

/** Through those of the hops that are not our own; undefined without one. */
function feedForm(nextHops: readonly Hop[], own: ReadonlySet<Ip>): RouteForm | undefined {
  const hops = nextHops.map(hopParts).filter(({ gateway }) => !own.has(gateway));
  return hops.length > 0 ? gatewayForm(hops) : undefined;
}

/** `10.0.0.1/24` or a bare address. */
function addressOf(text: string, field: string): Ip {
  const slash = text.indexOf('/');
  return parseIp(slash < 0 ? text : text.slice(0, slash), field);
}

function never(): boolean {
  return false;
}
