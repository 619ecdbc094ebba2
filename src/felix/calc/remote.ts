import type { Event } from '../../datastore/store.ts';
import type { DesiredSet, Route, RuleText } from '../../kernel/types.ts';
import { type Cidr, type Family, familyOf, type Ip } from '../../model/address.ts';
import type { Block } from '../../model/ipam.ts';
import { isEntry } from './endpoints.ts';
import { PoolModes } from './pool-modes.ts';
import { gatewayRoute } from './route.ts';
import type { RouteClass, RouteTable } from './routes.ts';
import { nodesOf, type Shares, sharesOf } from './shares.ts';
import { hostSet, ipipInput, noUdpRules, tunnelNat, udpRules, vxlanInput } from './tunnel-rules.ts';
import {
  type Encapsulation,
  ipipDevice,
  type Place,
  type PoolMode,
  placeOf,
  rangeOf,
  samePlace,
  udpDevice,
  vxlanDevices,
  wayTo,
} from './tunnels.ts';

/** `enabled` is `auto` for: when a pool of the family wants it. */
export interface TunnelSettings {
  readonly vxlan: { readonly enabled: boolean | 'auto'; readonly port: number; readonly id: number };
  readonly ipip: { readonly enabled: boolean | 'auto' };
  readonly udp: { readonly port: number };
  /** Hosts besides the nodes from which packets of VXLAN and IPIP are taken. */
  readonly externalNodes: readonly Cidr[];
}

/** What the IPIP device should be. */
export interface DesiredIpip {
  readonly own: Place;
  /** The other nodes, each of which may send. */
  readonly peers: readonly Place[];
}

/** What the userspace tunnel should be. */
export interface DesiredUdp {
  readonly own: Place;
  readonly port: number;
  /** The other nodes, each of which may send. */
  readonly peers: readonly Place[];
  /** Prefix → address of the node that it is behind. */
  readonly destinations: ReadonlyMap<Cidr, Ip>;
}

/** What a VXLAN device should be. */
export interface DesiredTunnel {
  readonly device: string;
  readonly family: Family;
  readonly id: number;
  readonly port: number;
  readonly own: Place;
  /** The other nodes that have a tunnel address. */
  readonly peers: readonly Place[];
}

interface Wish {
  readonly class: RouteClass;
  readonly route: Route;
}

interface Said {
  readonly class: RouteClass;
  readonly destination: Cidr;
}

/**
 * Routes to the blocks of other nodes straight from the datastore: through VXLAN or IPIP, or directly to nodes of the
 * same subnet. A change costs the blocks that it touches; `settle` puts their wishes into the route table.
 */
export class RemoteBlocks {
  readonly #places = new Map<Family, Map<string, Place>>();
  readonly #pools = new PoolModes();
  readonly #blocks = new Map<Cidr, Shares>();
  /** Node → blocks of which it has something. */
  readonly #byNode = new Map<string, Set<Cidr>>();
  /** Blocks whose routes are to be worked out again. */
  readonly #stale = new Set<Cidr>();
  readonly #said = new Map<Cidr, readonly Said[]>();
  readonly #tunnels = new Map<Family, DesiredTunnel | undefined>();
  #ipip: { readonly desired: DesiredIpip | undefined } | undefined;
  #udp: { readonly desired: DesiredUdp | undefined } | undefined;
  /** Where the userspace tunnel's routes lead. */
  readonly #udpDestinations = new Map<Cidr, Ip>();
  /** Grows with every change of what rules and sets depend on. */
  version = 0;

  constructor(
    private readonly options: { readonly node: string; readonly families: readonly Family[]; readonly plain: boolean },
    private readonly routes: RouteTable,
    private settings: TunnelSettings,
  ) {
    for (const family of options.families) this.#places.set(family, new Map());
  }

  configure(settings: TunnelSettings): void {
    this.settings = settings;
    this.#changed();
    this.#refreshAll();
  }

  /** @throws InputError for an address of a Node that cannot be */
  node(event: Event): void {
    if (event.op === 'invalid') return;
    const { key } = event.op === 'set' ? event.entry : event;
    if (key.type !== 'Node') return;
    const value = event.op === 'set' && isEntry(event.entry, 'Node') ? event.entry.value : undefined;
    const wanted = this.#pools.kinds(4);
    let different = false;
    for (const [family, places] of this.#places) {
      const place = value && placeOf(key.name, value, family);
      if (samePlace(places.get(key.name), place)) continue;
      if (place) places.set(key.name, place);
      else places.delete(key.name);
      if (family === 4) this.#pools.setNode(key.name, place?.lacks ?? new Set());
      different = true;
    }
    if (!different) return;
    this.#changed();
    const now = this.#pools.kinds(4);
    if (key.name === this.options.node || now.symmetricDifference(wanted).size > 0) this.#refreshAll();
    else for (const block of this.#byNode.get(key.name) ?? []) this.#stale.add(block);
  }

  pool(key: string, pool: PoolMode | undefined): void {
    this.#pools.set(key, pool);
    this.#changed();
    this.#refreshAll();
  }

  block(cidr: Cidr, block: Block | undefined): void {
    if (!this.options.families.includes(familyOf(cidr))) return;
    for (const node of nodesOf(this.#blocks.get(cidr))) this.#byNode.get(node)?.delete(cidr);
    const shares = block && !block.deleted ? sharesOf(cidr, block) : undefined;
    if (shares) this.#blocks.set(cidr, shares);
    else this.#blocks.delete(cidr);
    for (const node of nodesOf(shares)) {
      const blocks = this.#byNode.get(node) ?? new Set();
      this.#byNode.set(node, blocks.add(cidr));
    }
    this.#stale.add(cidr);
  }

  /**
   * Works out the routes of what changed, until `enough` says to stop: ten thousand blocks take too long for one go.
   * @returns whether some are left
   */
  settle(enough: () => boolean): boolean {
    for (const cidr of this.#stale) {
      this.#stale.delete(cidr);
      this.#refresh(cidr);
      if (enough()) break;
    }
    return this.#stale.size > 0;
  }

  /** The same object again as long as nothing changed; undefined: there should be no such device. */
  tunnel(family: Family): DesiredTunnel | undefined {
    if (!this.#tunnels.has(family)) this.#tunnels.set(family, this.#tunnel(family));
    return this.#tunnels.get(family);
  }

  /** The same object again as long as nothing changed; undefined: no IPIP. */
  ipip(): DesiredIpip | undefined {
    this.#ipip ??= { desired: this.#ipipWanted() ? this.#ipipOf() : undefined };
    return this.#ipip.desired;
  }

  /** The same object again as long as nothing changed; undefined: no userspace tunnel. */
  udp(): DesiredUdp | undefined {
    this.#udp ??= { desired: this.#pools.kinds(4).has('udp') ? this.#udpOf() : undefined };
    return this.#udp.desired;
  }

  /** Nodes that have an address of some family. */
  get hosts(): number {
    return new Set([...this.#places.values()].flatMap((places) => [...places.keys()])).size;
  }

  /**
   * Whether a route of BIRD's to the destination is one that Calico left: one into a pool, where our speaker does what
   * its BIRD did. Without a speaker of ours somebody else's BIRD may be in its place.
   */
  inherits(destination: Cidr): boolean {
    return !this.options.plain && this.#pools.of(rangeOf(destination)) !== undefined;
  }

  /** Keys of the pools whose packets to other nodes have no way without this kind of tunnel. */
  poolsWithout(kind: Encapsulation, family?: Family): string[] {
    return this.#pools.without(kind, family);
  }

  /**
   * Addresses from which packets of tunnels are taken; none without a tunnel.
   * @param standing devices that are still in the kernel, wanted or not
   * @param hosts whether another rule asks for the nodes, too
   */
  sets(family: Family, standing = nothing, hosts = false): DesiredSet[] {
    const vxlan = this.#guarded(family, standing);
    const ipip = family === 4 ? this.#guardedIpip(standing) : undefined;
    const udp = family === 4 ? this.#guardedUdp(standing) : undefined;
    const { externalNodes } = this.settings;
    return [
      ...(vxlan ? [hostSet('all-vxlan-net', family, vxlan.peers, externalNodes)] : []),
      ...(ipip || hosts ? [hostSet('all-hosts-net', family, this.#peers(family), externalNodes)] : []),
      ...(udp ? [hostSet('all-udp-net', family, udp.peers)] : []),
    ];
  }

  /** For the filter table: rules that come first in the chain. */
  rules(family: Family, standing = nothing): ReadonlyMap<string, readonly RuleText[]> {
    const vxlan = this.#guarded(family, standing);
    const ipip = family === 4 && this.#guardedIpip(standing);
    const udp = family === 4 ? this.#guardedUdp(standing) : undefined;
    const { input, output, forward } = udp ? udpRules(udp.port) : noUdpRules;
    return new Map([
      ['cali-INPUT', [...(vxlan ? vxlanInput(family, vxlan) : []), ...(ipip ? ipipInput() : []), ...input]],
      ['cali-OUTPUT', output],
      ['cali-FORWARD', forward],
    ]);
  }

  /** For nat. */
  natRules(family: Family): RuleText[] {
    const four = family === 4;
    const devices = [this.tunnel(family)?.device, four && this.ipip() && ipipDevice, four && this.udp() && udpDevice];
    return devices.flatMap((device) => (device ? [tunnelNat(device)] : []));
  }

  /** A tunnel that is wanted, or not yet taken down. */
  #guarded(family: Family, standing: ReadonlySet<string>): Pick<DesiredTunnel, 'id' | 'port' | 'peers'> | undefined {
    const tunnel = this.tunnel(family);
    if (tunnel || !standing.has(vxlanDevices[family])) return tunnel;
    return { ...this.settings.vxlan, peers: this.#peers(family).filter(hasTunnel) };
  }

  #guardedIpip(standing: ReadonlySet<string>): Pick<DesiredIpip, 'peers'> | undefined {
    return this.ipip() ?? (standing.has(ipipDevice) ? { peers: this.#peers(4) } : undefined);
  }

  #guardedUdp(standing: ReadonlySet<string>): Pick<DesiredUdp, 'port' | 'peers'> | undefined {
    return this.udp() ?? (standing.has(udpDevice) ? { ...this.settings.udp, peers: this.#peers(4) } : undefined);
  }

  #tunnel(family: Family): DesiredTunnel | undefined {
    const own = this.#places.get(family)?.get(this.options.node);
    if (!own || !this.#vxlanWanted(family)) return undefined;
    const { port, id } = this.settings.vxlan;
    return { device: vxlanDevices[family], family, id, port, own, peers: this.#peers(family).filter(hasTunnel) };
  }

  #ipipOf(): DesiredIpip | undefined {
    const own = this.#places.get(4)?.get(this.options.node);
    return own && { own, peers: this.#peers(4) };
  }

  #udpOf(): DesiredUdp | undefined {
    const own = this.#places.get(4)?.get(this.options.node);
    const destinations = new Map(this.#udpDestinations);
    return own && { own, ...this.settings.udp, peers: this.#peers(4), destinations };
  }

  /** The other nodes, by name. */
  #peers(family: Family): Place[] {
    return [...(this.#places.get(family)?.values() ?? [])]
      .filter(({ node }) => node !== this.options.node)
      .sort((a, b) => (a.node < b.node ? -1 : 1));
  }

  #vxlanWanted(family: Family): boolean {
    const { enabled } = this.settings.vxlan;
    return enabled === 'auto' ? this.#pools.kinds(family).has('vxlan') : enabled;
  }

  #ipipWanted(): boolean {
    const { enabled } = this.settings.ipip;
    return enabled === 'auto' ? this.#pools.kinds(4).has('ipip') : enabled;
  }

  #changed(): void {
    this.#tunnels.clear();
    this.#ipip = undefined;
    this.#udp = undefined;
    this.version++;
  }

  #refreshAll(): void {
    for (const cidr of this.#blocks.keys()) this.#stale.add(cidr);
  }

  #refresh(cidr: Cidr): void {
    const wishes = this.#wishes(cidr);
    const now = wishes.map(
      ({ class: routeClass, route }): Said => ({ class: routeClass, destination: route.destination }),
    );
    for (const { class: routeClass, destination } of this.#said.get(cidr) ?? [])
      if (!now.some((one) => one.class === routeClass && one.destination === destination))
        this.routes.remove(destination, { class: routeClass, owner: cidr });
    for (const { class: routeClass, route } of wishes)
      this.routes.add({ class: routeClass, owner: cidr, preference: '', route });
    this.#refreshUdp(this.#said.get(cidr) ?? [], wishes);
    if (now.length > 0) this.#said.set(cidr, now);
    else this.#said.delete(cidr);
  }

  #refreshUdp(before: readonly Said[], now: readonly Wish[]): void {
    const gone = before.filter(({ class: routeClass }) => routeClass === 'udp');
    const come = now.filter(({ class: routeClass }) => routeClass === 'udp');
    if (gone.length + come.length === 0) return;
    for (const { destination } of gone) this.#udpDestinations.delete(destination);
    for (const { route } of come) {
      const gateway = route.nextHops[0]?.gateway;
      if (gateway !== undefined) this.#udpDestinations.set(route.destination, gateway);
    }
    this.#udp = undefined;
  }

  #wishes(cidr: Cidr): Wish[] {
    const shares = this.#blocks.get(cidr);
    if (!shares) return [];
    return shares.parts.flatMap((part) => this.#wish(part) ?? []);
  }

  #wish({ destination, range, node }: Shares['parts'][number]): Wish | undefined {
    if (node === this.options.node) return undefined;
    const { family } = range;
    const places = this.#places.get(family);
    const there = places?.get(node);
    const rules = { vxlan: this.#vxlanWanted(family), ipip: this.#ipipWanted(), plain: this.options.plain };
    const way = wayTo(this.#pools.of(range), places?.get(this.options.node), there, rules);
    if (way === undefined || !there) return undefined;
    if (way === 'direct') return { class: 'noEncap', route: gatewayRoute(destination, [{ gateway: there.underlay }]) };
    if (way !== 'vxlan') {
      const device = way === 'ipip' ? ipipDevice : udpDevice;
      const hop = { gateway: there.underlay, device, onlink: true };
      return { class: way, route: gatewayRoute(destination, [hop]) };
    }
    if (there.tunnel === undefined) return undefined;
    const hop = { gateway: there.tunnel, device: vxlanDevices[family], onlink: true };
    return { class: 'vxlan', route: gatewayRoute(destination, [hop]) };
  }
}

const nothing: ReadonlySet<string> = new Set();

function hasTunnel({ tunnel }: Place): boolean {
  return tunnel !== undefined;
}
