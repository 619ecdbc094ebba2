import type { Failure } from '../base/reconcile.ts';
import type { Ipsets, Iptables, KernelEvent, Netlink } from '../kernel/types.ts';
import type { OpenUdpTunnel } from '../kernel/udp-tunnel.ts';
import { type Family, familyOf, hostCidr, type Ip } from '../model/address.ts';
import { Beside } from './beside.ts';
import { ownDevices } from './calc/devices.ts';
import { endpointRoutes, type LocalEndpoint } from './calc/endpoints.ts';
import type { DesiredFirewall, Graph } from './calc/graph.ts';
import type { RouteClass, Winner } from './calc/routes.ts';
import { EndpointManager, type WriteSysctl } from './managers/endpoints.ts';
import { SetManager, TablesManager } from './managers/firewall.ts';
import type { FlowManager } from './managers/flows.ts';
import { RouteManager } from './managers/routes.ts';
import { ShapingManager } from './managers/shaping.ts';
import type { TunnelStatus } from './managers/tunnel.ts';
import type { Turns } from './slices.ts';
import { type Tunnel, type TunnelMtu, tunnelManagers } from './tunnel-managers.ts';

export interface Kernel {
  readonly netlink: Netlink;
  /** One driver for each family that the node handles. */
  readonly iptables: ReadonlyMap<Family, Iptables>;
  readonly ipsets: Ipsets;
  readonly writeSysctl: WriteSysctl;
  readonly openUdpTunnel?: OpenUdpTunnel;
  /** Whether forwarding is switched on; without it, it is. */
  readonly forwarding?: () => boolean;
  /** As in FelixDependencies. */
  readonly readingRoutes?: (read: () => Promise<void>) => Promise<void>;
}

export interface PassReport {
  readonly failures: readonly Failure[];
  readonly routesChanged: number;
  /** Another pass has something to clear away. */
  readonly again: boolean;
}

/** Where an endpoint stands between its stored form and the kernel. */
export type EndpointState = 'programmed' | 'waitingForInterface' | 'waitingForPolicy' | 'waitingForRoutes';

/** Classes whose routes wait for something: a pod's chains, a tunnel's device. */
const gated: ReadonlySet<RouteClass> = new Set<RouteClass>(['localWorkload', 'vxlan', 'ipip', 'udp']);

/**
 * The dataplane as one visible, ordered list. What would open traffic before its policy waits: rules wait for their
 * sets, and a pod's routes for its chains. What closes goes in the reverse order: a departed pod's routes first, then
 * its chains (an unknown pod device meets a DROP, so one restore may add and remove), and sets last, when no rule names
 * them. A tunnel opens after its rules and closes after its routes have moved; its rules go with the pass after that.
 * Other routes that are no pod's open nothing here and wait for nobody.
 */
export class Dataplane {
  readonly routes: RouteManager;
  readonly #endpoints: EndpointManager;
  readonly #shaping: ShapingManager;
  readonly #tunnels: readonly Tunnel[];
  readonly #sets: SetManager;
  readonly #tables: ReadonlyMap<Family, TablesManager>;
  /** Endpoints whose chains stand, as they were when the chains were made. */
  readonly #standing = new Map<Family, ReadonlyMap<string, LocalEndpoint>>();
  /** Endpoints of the last pass. */
  #known: ReadonlyMap<string, LocalEndpoint> = new Map();
  /** Endpoints that left the graph, until nothing of them is left in the kernel. */
  readonly #leaving = new Map<string, { readonly endpoint: LocalEndpoint; cut: boolean }>();
  #firewall: DesiredFirewall | undefined;
  #hostSettled = false;
  /** What comes back while rules are being written. */
  readonly #beside = new Beside();
  /** What the kernel told of the node's own addresses and devices since they were last read. */
  #addresses: 'known' | 'new' | 'gone' = 'known';
  /** Address → the node's device that has it, as last read. */
  #devices: ReadonlyMap<Ip, string> = new Map();

  constructor(
    private readonly graph: Graph,
    private readonly kernel: Kernel,
    private readonly flows: FlowManager,
    private readonly interfacePrefix: string,
    mtu: TunnelMtu = () => 0,
    /** Asks for another pass. */
    wake: () => void = () => undefined,
  ) {
    const families = [...kernel.iptables.keys()];
    const { netlink, openUdpTunnel } = kernel;
    this.#tunnels = tunnelManagers({ families, remote: graph.remote, netlink, openUdpTunnel, mtu, wake });
    this.routes = new RouteManager(kernel.netlink, graph.routes, {
      ...{ families, interfacePrefix },
      inherits: (destination) => graph.remote.inherits(destination),
    });
    this.#endpoints = new EndpointManager(kernel.netlink, kernel.writeSysctl, families);
    this.#shaping = new ShapingManager(
      kernel.netlink,
      (endpoint) => this.#endpoints.indexOf(endpoint),
      interfacePrefix,
    );
    this.#sets = new SetManager(kernel.ipsets);
    this.#tables = new Map([...kernel.iptables].map(([family, driver]) => [family, new TablesManager(driver, family)]));
  }

  /** Reads links, addresses and routes anew: a thousand devices take a turn of the event loop. */
  async readKernel(turns: Turns): Promise<void> {
    this.#endpoints.read();
    for (const tunnel of this.#tunnels) tunnel.askAgain();
    await turns.breathe();
    this.readAddresses();
    const { readingRoutes = (read) => read() } = this.kernel;
    await readingRoutes(() => this.routes.read(turns));
    await turns.breathe();
  }

  readAddresses(): void {
    const addresses = this.kernel.netlink.addresses();
    this.#devices = new Map(addresses.map(({ address, device }) => [address, device]));
    this.graph.setLinkAddresses([...this.#devices.keys()], ownDevices(addresses, this.interfacePrefix));
  }

  invalidateSets(): void {
    this.#sets.invalidate();
  }

  invalidateTables(): void {
    for (const tables of this.#tables.values()) tables.invalidate();
  }

  /** The next pass reads rules and IP sets again and looks after sysctls. */
  recheck(): void {
    this.invalidateSets();
    this.invalidateTables();
    this.#endpoints.recheck();
    this.#shaping.recheck();
    for (const tunnel of this.#tunnels) tunnel.recheck();
    this.#hostSettled = false;
  }

  /** @returns whether a pass is due: something of ours changed, or what failed may succeed now */
  onKernelEvent(event: Exclude<KernelEvent, { what: 'overrun' }>): boolean {
    const due = this.#take(event);
    if (due) this.#beside.ask();
    return due;
  }

  #take(event: Exclude<KernelEvent, { what: 'overrun' }>): boolean {
    if (event.what === 'route') return this.routes.onRoute(event.route, event.gone);
    if (event.what === 'address') return this.#onAddress(event.index, event.gone);
    const { link, gone } = event;
    if (!gone && link.name.startsWith(this.interfacePrefix) && this.#endpoints.knows(link)) return false;
    if (!gone) this.routes.retry();
    const lost = this.#endpoints.onLink(link, gone);
    if (lost && link.name.startsWith(this.interfacePrefix)) this.routes.deviceDown(link.name);
    else if (lost) this.#addresses = 'gone';
    const below = this.#tunnels.filter((tunnel) => tunnel.onLink(link)).length > 0;
    return lost || below || (!gone && this.#concerns(link.name));
  }

  /** @param retry whether what failed before and has not changed since is tried again */
  async pass(retry: boolean, turns: Turns): Promise<PassReport> {
    await this.#lookAtAddresses(turns);
    await this.#workOut(turns);
    const endpoints = new Map(this.graph.endpoints);
    const departed = this.#depart(endpoints);
    for (const tunnel of this.#tunnels) tunnel.plan();
    const firewall = this.graph.firewall(this.#standingTunnels());
    const failures: Failure[] = [];
    const add = (failure: Failure | undefined) => failure && failures.push(failure);

    add(this.#hostSysctls());
    // Before the rules, whose reading takes long on a busy machine.
    failures.push(...(await this.#endpoints.mendSysctls(turns)));
    if (retry) this.routes.retry();
    await turns.breathe();
    const closed = await this.routes.apply(({ class: routeClass }) => !gated.has(routeClass));
    this.#cut([...closed.released, ...departed]);
    // A restore may wait long, for a lock or a busy machine.
    const restored = this.#applyFirewall(firewall, endpoints, retry);
    const refused = await this.#beside.during(restored, () => this.#mendLost(turns));
    failures.push(...refused, ...(await this.#openTunnels(refused.length > 0, turns)));
    failures.push(...(await this.#endpoints.apply(endpoints.values(), turns)));
    failures.push(...this.#shaping.apply(endpoints.values()));
    const opened = await this.routes.apply((winner) => this.#mayOpen(winner));
    this.#cut(opened.released);
    const ended = await Promise.all(this.#tunnels.map((tunnel) => tunnel.close()));
    failures.push(...ended.flatMap((one) => one.failures));
    this.#firewall = failures.some(({ kind }) => kind === 'ipset' || kind === 'iptables') ? undefined : firewall;
    failures.push(...opened.failures, ...this.flows.failures);
    const again = ended.some((one) => one.closed);
    return { failures, routesChanged: closed.changed + opened.changed, again };
  }

  /** Whether IP sets may be left over; `sweep` then destroys them. */
  get sweepDue(): boolean {
    return this.#firewall !== undefined && this.#sets.sweepDue(this.#firewall.sets);
  }

  async sweep(): Promise<Failure | undefined> {
    return this.#firewall && this.#sets.sweep(this.#firewall.sets);
  }

  /** The smallest MTU of the tunnels that there should be, or else the uplink's; undefined while that is not known. */
  podMtu(): number | undefined {
    const sizes = this.#tunnels.flatMap((tunnel) => tunnel.mtu() ?? []);
    if (sizes.length > 0) return Math.min(...sizes);
    const uplinks = this.graph.nodeAddresses.flatMap((address) => this.#devices.get(address) ?? []);
    const mtus = uplinks.flatMap((device) => this.#endpoints.mtuOf(device) ?? []);
    return mtus.length > 0 ? Math.min(...mtus) : undefined;
  }

  /** Octets of the largest packet to a pod, as its device has it now. */
  mtuOf({ interfaceName }: LocalEndpoint): number | undefined {
    return this.#endpoints.mtuOf(interfaceName);
  }

  /** At felix's end, which the dataplane outlives. */
  async release(): Promise<void> {
    await Promise.all(this.#tunnels.map(({ kind }) => kind.release?.()));
  }

  /** The tunnels that there should be. */
  tunnels(): TunnelStatus[] {
    return this.#tunnels.flatMap((tunnel) => tunnel.status() ?? []);
  }

  /** Of an endpoint of the graph. */
  stateOf(endpoint: LocalEndpoint): EndpointState {
    if (!this.#chainsStand(endpoint)) return 'waitingForPolicy';
    if (!this.#endpoints.present(endpoint)) return 'waitingForInterface';
    const routed = endpointRoutes(endpoint).every((route) => this.routes.stands(route));
    return routed && this.#endpoints.ready(endpoint) ? 'programmed' : 'waitingForRoutes';
  }

  /** Whether nothing of the endpoint is left in the kernel, its connections included. */
  removed(key: string): boolean {
    if (this.graph.endpoints.has(key) || this.#known.has(key)) return false;
    const leaving = this.#leaving.get(key);
    if (!leaving) return true;
    const { addresses, interfaceName } = leaving.endpoint;
    const routed = addresses.some((address) => this.routes.through(hostCidr(address), interfaceName));
    if (!leaving.cut || routed || addresses.some((address) => this.flows.pending(address))) return false;
    if ([...this.#standing.values()].some((standing) => standing.has(key))) return false;
    this.#leaving.delete(key);
    return true;
  }

  /** The node's own addresses decide which next hops are ours; the kernel drops routes with an address silently. */
  #onAddress(index: number, gone: boolean): boolean {
    if (this.#endpoints.isPodDevice(index, this.interfacePrefix)) return false;
    this.#addresses = gone || this.#addresses === 'gone' ? 'gone' : 'new';
    return true;
  }

  /** What comes between two turns counts as well; of a stream without end, the rest is taken in one go at last. */
  async #workOut(turns: Turns): Promise<void> {
    for (let times = 0; times < 100; times++) {
      for (const _ of this.graph.prepare()) if (turns.enough()) await turns.next();
      if (!this.graph.settle(turns.enough)) return;
      await turns.next();
    }
    this.graph.settle();
  }

  /** A thousand addresses that come at once are looked at once. */
  async #lookAtAddresses(turns: Turns): Promise<void> {
    const what = this.#addresses;
    if (what === 'known') return;
    this.#addresses = 'known';
    for (const tunnel of this.#tunnels) tunnel.recheck();
    this.readAddresses();
    if (what === 'gone') {
      await turns.next();
      await this.routes.read(turns);
    } else this.routes.retry();
    await turns.breathe();
  }

  /** The connections of these addresses end; it goes on beside the pass. */
  #cut(addresses: readonly Ip[]): void {
    this.flows.add(addresses);
    for (const leaving of this.#leaving.values()) leaving.cut = true;
  }

  /** Sets, then rules; at once when every set is there already and only members change. */
  async #applyFirewall(
    { tables, sets }: DesiredFirewall,
    endpoints: ReadonlyMap<string, LocalEndpoint>,
    retry: boolean,
  ): Promise<Failure[]> {
    const overlap = this.#sets.hasAll(sets);
    const updated = this.#sets.update(sets, retry);
    if (!overlap) {
      const failure = await updated;
      if (failure) return [failure];
    }
    const restores = [...this.#tables].map(async ([family, manager]) => {
      const failure = await manager.apply(tables.get(family) ?? new Map(), retry);
      return { family, failure };
    });
    const [setFailure, ...restored] = await Promise.all([updated, ...restores]);
    for (const { family, failure } of restored) if (!setFailure && !failure) this.#standing.set(family, endpoints);
    return [setFailure, ...restored.map(({ failure }) => failure)].filter((failure) => failure !== undefined);
  }

  /** Of pods and routes that stood before, what others took away. What fails the rest of the pass does again, and tells. */
  async #mendLost(turns: Turns): Promise<void> {
    // With what the kernel tells in the same turn.
    await turns.next();
    const standing = [...this.graph.endpoints.values()].filter((endpoint) => this.#chainsStand(endpoint));
    await this.#endpoints.apply(standing, turns);
    this.flows.add(this.routes.mend((winner) => this.#mayOpen(winner)).released);
  }

  /** A device takes packets of the tunnel as soon as it stands, so the rules that choose them come first. */
  async #openTunnels(rulesFailed: boolean, turns: Turns): Promise<Failure[]> {
    const failures: Failure[] = [];
    for (const tunnel of this.#tunnels) {
      await turns.breathe();
      if (!rulesFailed || tunnel.ready) failures.push(...(await tunnel.open(turns)));
    }
    return failures;
  }

  #standingTunnels(): ReadonlySet<string> {
    return new Set(this.#tunnels.flatMap((tunnel) => (tunnel.stands ? [tunnel.kind.device] : [])));
  }

  /** Forwarding, without which no route of ours has an effect. At the start and with every check. */
  #hostSysctls(): Failure | undefined {
    if (this.#hostSettled || this.kernel.forwarding?.() === false) return undefined;
    try {
      if (this.#tables.has(4)) this.kernel.writeSysctl('net/ipv4/ip_forward', '1');
      if (this.#tables.has(6)) this.kernel.writeSysctl('net/ipv6/conf/all/forwarding', '1');
      this.#hostSettled = true;
      return undefined;
    } catch (cause) {
      return { kind: 'sysctl', item: 'forwarding', cause };
    }
  }

  #mayOpen({ class: routeClass, owner, family }: Winner): boolean {
    if (!gated.has(routeClass)) return true;
    if (routeClass !== 'localWorkload') {
      return this.#tunnels.some(({ kind, ready }) => kind.kind === routeClass && kind.family === family && ready);
    }
    const endpoint = owner === undefined ? undefined : this.graph.endpoints.get(owner);
    return endpoint !== undefined && this.#chainsStand(endpoint) && this.#endpoints.ready(endpoint);
  }

  /** In every family that it has an address of; in the others nothing passes an unknown device. */
  #chainsStand(endpoint: LocalEndpoint): boolean {
    const own = new Set(endpoint.addresses.map((address) => familyOf(address)));
    const needed = own.size > 0 ? own : this.#tables.keys();
    return [...needed].every((family) => this.#standing.get(family)?.get(endpoint.key) === endpoint);
  }

  /** Compares with the last pass. @returns addresses that endpoints no longer have */
  #depart(endpoints: ReadonlyMap<string, LocalEndpoint>): Ip[] {
    const gone: Ip[] = [];
    for (const [key, last] of this.#known) {
      const now = endpoints.get(key);
      if (now === last) continue;
      gone.push(...last.addresses.filter((address) => !now?.addresses.includes(address)));
      if (!now) this.#leaving.set(key, { endpoint: last, cut: false });
    }
    this.#known = endpoints;
    for (const key of [...this.#leaving.keys()]) if (endpoints.has(key) || this.removed(key)) this.#leaving.delete(key);
    return gone;
  }

  #concerns(device: string): boolean {
    for (const { interfaceName } of this.graph.endpoints.values()) if (interfaceName === device) return true;
    return this.routes.hasFailed;
  }
}
