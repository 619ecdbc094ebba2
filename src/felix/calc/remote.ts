import type { Event } from '../../datastore/store.ts';
import { addressAt, attributeOf } from '../../ipam/block.ts';
import type { DesiredSet, Route, RuleText } from '../../kernel/types.ts';
import { type Cidr, type Family, familyOf, hostCidr, parseCidr } from '../../model/address.ts';
import type { Block } from '../../model/ipam.ts';
import { isEntry } from './endpoints.ts';
import { gatewayRoute } from './route.ts';
import type { RouteClass, RouteTable } from './routes.ts';
import {
  memberOf,
  type Place,
  type PoolMode,
  placeOf,
  poolFor,
  type Range,
  rangeOf,
  samePlace,
  vxlanDevices,
  wayTo,
} from './tunnels.ts';

export interface VxlanSettings {
  /** `auto`: when a pool of the family wants it. */
  readonly enabled: boolean | 'auto';
  readonly port: number;
  readonly id: number;
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

/** Who has what of a block: its owner all, and the nodes that borrowed from it single addresses. */
interface Shares {
  readonly parts: readonly { readonly destination: Cidr; readonly range: Range; readonly node: string }[];
}

interface Said {
  readonly class: RouteClass;
  readonly destination: Cidr;
}

/**
 * Routes to the blocks of other nodes straight from the datastore: through VXLAN, or directly to nodes of the same
 * subnet. Wishes go into the route table; a change costs the blocks that it touches.
 */
export class RemoteBlocks {
  readonly #places = new Map<Family, Map<string, Place>>();
  readonly #pools = new Map<string, PoolMode>();
  /** By key: of two pools with one prefix the same wins whichever came first. */
  #poolsInOrder: readonly PoolMode[] = [];
  readonly #blocks = new Map<Cidr, Shares>();
  /** Node → blocks of which it has something. */
  readonly #byNode = new Map<string, Set<Cidr>>();
  readonly #said = new Map<Cidr, readonly Said[]>();
  readonly #tunnels = new Map<Family, DesiredTunnel | undefined>();
  /** Grows with every change of what rules and sets depend on. */
  version = 0;

  constructor(
    private readonly options: { readonly node: string; readonly families: readonly Family[]; readonly plain: boolean },
    private readonly routes: RouteTable,
    private settings: VxlanSettings,
  ) {
    for (const family of options.families) this.#places.set(family, new Map());
  }

  configure(settings: VxlanSettings): void {
    this.settings = settings;
    this.#changed();
    this.#refreshAll();
  }

  /** @throws InputError for an address of a Node that cannot be */
  node(event: Event): void {
    if (event.op === 'invalid') return;
    const { key } = event.op === 'set' ? event.entry : event;
    if (key.type !== 'Node') return;
    const spec = event.op === 'set' && isEntry(event.entry, 'Node') ? event.entry.value.spec : undefined;
    let different = false;
    for (const [family, places] of this.#places) {
      const place = spec && placeOf(key.name, spec, family);
      if (samePlace(places.get(key.name), place)) continue;
      if (place) places.set(key.name, place);
      else places.delete(key.name);
      different = true;
    }
    if (!different) return;
    this.#changed();
    if (key.name === this.options.node) this.#refreshAll();
    else for (const block of this.#byNode.get(key.name) ?? []) this.#refresh(block);
  }

  pool(key: string, pool: PoolMode | undefined): void {
    if (pool) this.#pools.set(key, pool);
    else this.#pools.delete(key);
    this.#poolsInOrder = [...this.#pools].sort(([a], [b]) => (a < b ? -1 : 1)).map(([, each]) => each);
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
    this.#refresh(cidr);
  }

  /** The same object again as long as nothing changed; undefined: there should be no such device. */
  tunnel(family: Family): DesiredTunnel | undefined {
    if (!this.#tunnels.has(family)) this.#tunnels.set(family, this.#tunnel(family));
    return this.#tunnels.get(family);
  }

  /** Addresses from which VXLAN packets are taken; empty without VXLAN. */
  sets(family: Family): DesiredSet[] {
    const tunnel = this.tunnel(family);
    if (!tunnel) return [];
    return [{ name: setName(family), type: 'hash:net', family, members: new Set(tunnel.peers.map(memberOf)) }];
  }

  /**
   * For INPUT: VXLAN packets of our network come from nodes of the cluster or not at all (a foreign host could inject
   * packets into any pod otherwise). The network identifier tells ours: the 32 bits at octet 4 of the VXLAN header,
   * less the last reserved octet. Other tunnels on the same port are not ours to judge.
   */
  inputRules(family: Family): RuleText[] {
    const tunnel = this.tunnel(family);
    if (!tunnel) return [];
    const word = family === 4 ? '0>>22&0x3C@12' : '52';
    const ours = `-p udp --dport ${tunnel.port} -m u32 --u32 "${word}>>8=0x${tunnel.id.toString(16)}"`;
    const known = `-m set --match-set ${setName(family)} src`;
    return [`${ours} ${known} -m addrtype --dst-type LOCAL -j ACCEPT`, `${ours} -m addrtype --dst-type LOCAL -j DROP`];
  }

  /** For nat: what the node forwards into the tunnel for others, such as a node port's clients, has its address. */
  natRules(family: Family): RuleText[] {
    const tunnel = this.tunnel(family);
    if (!tunnel) return [];
    const foreign = '-m addrtype ! --src-type LOCAL --limit-iface-out -m addrtype --src-type LOCAL';
    return [`-o ${tunnel.device} ${foreign} -j MASQUERADE`];
  }

  #tunnel(family: Family): DesiredTunnel | undefined {
    const { node } = this.options;
    const places = this.#places.get(family);
    const own = places?.get(node);
    if (!places || !own || !this.#wanted(family)) return undefined;
    const peers = [...places.values()]
      .filter((place) => place.node !== node && place.tunnel !== undefined)
      .sort((a, b) => (a.node < b.node ? -1 : 1));
    const { port, id } = this.settings;
    return { device: vxlanDevices[family], family, id, port, own, peers };
  }

  #wanted(family: Family): boolean {
    const { enabled } = this.settings;
    if (enabled !== 'auto') return enabled;
    return [...this.#pools.values()].some(({ range, vxlanMode }) => range.family === family && vxlanMode !== 'Never');
  }

  #changed(): void {
    this.#tunnels.clear();
    this.version++;
  }

  #refreshAll(): void {
    for (const cidr of this.#blocks.keys()) this.#refresh(cidr);
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
    if (now.length > 0) this.#said.set(cidr, now);
    else this.#said.delete(cidr);
  }

  #wishes(cidr: Cidr): { readonly class: RouteClass; readonly route: Route }[] {
    const shares = this.#blocks.get(cidr);
    if (!shares) return [];
    return shares.parts.flatMap((part) => this.#wish(part) ?? []);
  }

  #wish({
    destination,
    range,
    node,
  }: Shares['parts'][number]): { readonly class: RouteClass; readonly route: Route } | undefined {
    if (node === this.options.node) return undefined;
    const { family } = range;
    const places = this.#places.get(family);
    const there = places?.get(node);
    const rules = { vxlan: this.#wanted(family), plain: this.options.plain };
    const way = wayTo(poolFor(this.#poolsInOrder, range), places?.get(this.options.node), there, rules);
    if (way === undefined || !there) return undefined;
    if (way === 'direct') return { class: 'noEncap', route: gatewayRoute(destination, [{ gateway: there.underlay }]) };
    if (there.tunnel === undefined) return undefined;
    const hop = { gateway: there.tunnel, device: vxlanDevices[family], onlink: true };
    return { class: 'vxlan', route: gatewayRoute(destination, [hop]) };
  }
}

/** `host:<node>` owns the block; an address whose attributes name another node is that node's. */
function sharesOf(cidr: Cidr, block: Block): Shares {
  const owner = block.affinity?.startsWith('host:') ? block.affinity.slice(5) : undefined;
  const part = (destination: Cidr, node: string) => ({ destination, range: rangeOf(destination), node });
  const parts = owner === undefined ? [] : [part(cidr, owner)];
  for (const [ordinal, index] of block.allocations.entries()) {
    if (index === null) continue;
    const attribute = attributeOf(block, ordinal);
    const node = attribute?.secondary?.['node'];
    if (node === undefined || node === owner || attribute?.releasedAt !== undefined) continue;
    parts.push(part(hostCidr(addressAt(block, ordinal)), node));
  }
  return { parts };
}

function nodesOf(shares: Shares | undefined): ReadonlySet<string> {
  return new Set(shares?.parts.map(({ node }) => node));
}

/** Calico's name. */
function setName(family: Family): string {
  return `cali${family}0all-vxlan-net`;
}

/** What a pool's spec says of encapsulation. @throws InputError */
export function poolMode(
  key: string,
  spec: { cidr: string; vxlanMode: PoolMode['vxlanMode']; ipipMode: PoolMode['ipipMode'] },
): PoolMode {
  return {
    range: rangeOf(parseCidr(spec.cidr, `${key}.spec.cidr`)),
    vxlanMode: spec.vxlanMode,
    ipipMode: spec.ipipMode,
  };
}
