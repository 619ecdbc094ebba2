import type { Failure } from '../../base/reconcile.ts';
import type { Netlink, Route } from '../../kernel/types.ts';
import { bits, type Cidr, cidrParts, type Family, familyOf, type Ip } from '../../model/address.ts';
import { mainTable, ourProtocol, sameRoute } from '../calc/route.ts';
import type { Candidate, RouteTable } from '../calc/routes.ts';

/** Routes written in one call, between which the event loop runs. */
const sliceLength = 1024;
/** Repairs of one destination between two readings of the kernel; beyond it, something else wants the route too. */
const repairLimit = 100;
/** RTPROT_BOOT, which Calico gives workload routes. */
const bootProtocol = 3;

export interface RoutesReport {
  readonly failures: Failure[];
  readonly changed: number;
  /** Pod addresses whose route went away or moved to another device. */
  readonly released: Ip[];
}

/** What is written in one call. */
interface Slice {
  /** Where the kernel has nothing. */
  fresh: Route[];
  upserts: Route[];
  deletes: Route[];
}

/**
 * Brings the main table to what the route table wants. It keeps what the kernel is believed to hold, from a first
 * reading and then from events and its own writing, so that a change costs only the routes it touches. Where the kernel
 * holds what is wanted, belief and wish are one object. Ours are all routes of protocol 80 and Calico's workload routes
 * (protocol 3 on a pod's device); any other route is never replaced or removed.
 */
export class RouteManager {
  #actual = new Map<Cidr, readonly Route[]>();
  /** Pods' devices → destinations of the routes through them. */
  #byDevice = new Map<string, Set<Cidr>>();
  #dirty = new Set<Cidr>();
  readonly #failed = new Map<Cidr, Failure>();
  #repairs = new Map<Cidr, number>();
  /** Belief has changed since the kernel was last read. */
  #moved = true;

  constructor(
    private readonly netlink: Netlink,
    private readonly table: RouteTable,
    private readonly options: { readonly families: readonly Family[]; readonly interfacePrefix: string },
  ) {}

  /** Looks at the kernel's routes; every difference is mended at the next `apply`. */
  read(): void {
    const readings = this.options.families.map((family) => this.netlink.readRoutes(family, mainTable));
    this.#repairs = new Map();
    this.retry();
    if (!this.#moved && readings.every(({ unchanged }) => unchanged)) return;
    this.#actual = new Map();
    this.#byDevice = new Map();
    for (const reading of readings) for (const route of reading.routes()) this.#take(route);
    const { winners } = this.table;
    for (const [destination, { route }] of winners) if (!this.stands(route)) this.#dirty.add(destination);
    this.#moved = false;
  }

  /** Our routes in the kernel, as far as is known. */
  ours(): Route[] {
    return [...this.#actual.values()].flatMap((routes) => routes.filter((route) => this.#owns(route)));
  }

  /** Takes over what the kernel reports. @returns whether something is to be mended */
  onRoute(route: Route, gone: boolean): boolean {
    if (route.table !== mainTable || !this.options.families.includes(familyOf(route.destination))) return false;
    const { destination } = route;
    const found = this.#found(destination);
    const others = found.filter((other) => other.metric !== route.metric);
    this.#believe(destination, gone ? others : [...others, route], found);
    if (!this.#differs(destination)) return false;
    const repairs = (this.#repairs.get(destination) ?? 0) + 1;
    this.#repairs.set(destination, repairs);
    if (repairs > repairLimit) {
      const cause = new Error(`changed ${repairs} times by something else; left alone until the next resync`);
      this.#failed.set(destination, { kind: 'route', item: destination, cause });
      return false;
    }
    this.#dirty.add(destination);
    return true;
  }

  /**
   * The kernel drops the routes of a pod's device that goes down, and for IPv4 says nothing (fib_sync_down_dev). Which
   * it drops with another device it alone knows: then `read`.
   */
  deviceDown(name: string): void {
    for (const destination of this.#byDevice.get(name) ?? []) {
      const found = this.#found(destination);
      const left = found.filter(({ nextHops }) => !nextHops.some(({ device }) => device === name));
      this.#believe(destination, left, found);
      this.#dirty.add(destination);
    }
  }

  /** What failed is tried again at the next `apply`. */
  retry(): void {
    for (const destination of this.#failed.keys()) this.#dirty.add(destination);
  }

  /** Whether the kernel holds the route, as far as is known. */
  stands(route: Route): boolean {
    const found = this.#actual.get(route.destination);
    return found !== undefined && (found[0] === route || found.some((one) => sameRoute(route, one)));
  }

  /** Whether a route to the destination through the device is in the kernel, as far as is known. */
  through(destination: Cidr, device: string): boolean {
    return this.#found(destination).some(({ nextHops }) => nextHops.some((hop) => hop.device === device));
  }

  get hasFailed(): boolean {
    return this.#failed.size > 0;
  }

  /** @param ready whether a route may be added now; the others wait for a later call, what stands of them stays */
  async apply(ready: (candidate: Candidate) => boolean): Promise<RoutesReport> {
    const dirty = this.#takeDirty();
    const report = { changed: 0, released: [] as Ip[] };
    const slice: Slice = { fresh: [], upserts: [], deletes: [] };
    let planned = 0;
    for (const destination of dirty) {
      if (planned > 0 && planned % sliceLength === 0) {
        this.#write(slice, report);
        await new Promise((resolve) => setImmediate(resolve));
      }
      planned++;
      this.#plan(destination, ready, slice);
    }
    this.#write(slice, report);
    return { ...report, failures: [...this.#failed.values()] };
  }

  #takeDirty(): ReadonlySet<Cidr> {
    const said = this.table.takeDirty();
    const before = this.#dirty;
    this.#dirty = new Set();
    if (before.size === 0) return said;
    for (const destination of said) before.add(destination);
    return before;
  }

  /** Writes what a slice holds and empties it. */
  #write(slice: Slice, report: { changed: number; released: Ip[] }): void {
    const { fresh, upserts, deletes } = slice;
    if (fresh.length + upserts.length + deletes.length === 0) return;
    slice.fresh = [];
    slice.upserts = [];
    slice.deletes = [];
    const released = this.#released(upserts, deletes);
    const failures = this.netlink.applyRoutes(upserts.length > 0 ? [...upserts, ...fresh] : fresh, deletes);
    const failed = new Set(failures.map(({ route }) => route));
    for (const { route, cause } of failures) {
      this.#failed.set(route.destination, { kind: 'route', item: route.destination, cause });
    }
    for (const route of deletes) if (!failed.has(route)) this.#replace(route, []);
    for (const route of upserts) if (!failed.has(route)) this.#replace(route, [route]);
    for (const route of fresh)
      if (failed.size === 0 || !failed.has(route)) this.#believe(route.destination, [route], undefined);
    report.changed += fresh.length + upserts.length + deletes.length - failures.length;
    report.released.push(...released);
  }

  /** What has to happen to one destination. */
  #plan(destination: Cidr, ready: (candidate: Candidate) => boolean, slice: Slice): void {
    if (this.#failed.size > 0) this.#failed.delete(destination);
    const winner = this.table.winners.get(destination);
    const found = this.#actual.get(destination);
    if (found) this.#planOver(destination, winner, found, ready, slice);
    else if (winner && ready(winner)) slice.fresh.push(winner.route);
    else if (winner) this.#dirty.add(destination);
  }

  #planOver(
    destination: Cidr,
    winner: Candidate | undefined,
    found: readonly Route[],
    ready: (candidate: Candidate) => boolean,
    slice: Slice,
  ): void {
    const wanted = winner?.route;
    for (const route of found)
      if (route !== wanted && route.metric !== wanted?.metric && this.#owns(route)) slice.deletes.push(route);
    if (!winner || !wanted || this.stands(wanted)) return;
    const foreign = found.find((route) => route.metric === wanted.metric && !this.#owns(route));
    if (foreign) {
      const cause = new Error(`a route of protocol ${foreign.protocol}, which is not ours, is in its place`);
      this.#failed.set(destination, { kind: 'route', item: destination, cause });
    } else if (ready(winner)) slice.upserts.push(wanted);
    else this.#dirty.add(destination);
  }

  #differs(destination: Cidr): boolean {
    const wanted = this.table.winners.get(destination)?.route;
    const found = this.#found(destination);
    if (wanted && !found.some((route) => sameRoute(wanted, route))) return true;
    return found.some((route) => this.#owns(route) && !(wanted && sameRoute(wanted, route)));
  }

  #released(upserts: readonly Route[], deletes: readonly Route[]): Ip[] {
    const moved: Route[] = [];
    for (const route of upserts)
      for (const before of this.#found(route.destination))
        if (this.#owns(before) && !sameRoute(route, before)) moved.push(before);
    return [...deletes, ...moved].flatMap((route) => {
      const { address, length, family } = cidrParts(route.destination);
      return length === bits(family) && this.#onPodDevice(route) ? [address] : [];
    });
  }

  #replace(route: Route, by: readonly Route[]): void {
    const found = this.#actual.get(route.destination);
    const others = found?.filter(({ metric }) => metric !== route.metric) ?? [];
    this.#believe(route.destination, others.length > 0 ? [...others, ...by] : by, found);
  }

  /** A route as it was read. One of ours that is not wanted so goes at the next `apply`. */
  #take(route: Route): void {
    const { destination } = route;
    const wanted = this.table.winners.get(destination)?.route;
    const same = wanted !== undefined && sameRoute(wanted, route);
    if (!same && this.#owns(route)) this.#dirty.add(destination);
    const before = this.#actual.get(destination);
    const kept = same ? wanted : route;
    this.#believe(destination, before ? [...before, kept] : [kept], before);
  }

  #found(destination: Cidr): readonly Route[] {
    return this.#actual.get(destination) ?? [];
  }

  #believe(destination: Cidr, routes: readonly Route[], before: readonly Route[] | undefined): void {
    this.#moved = true;
    if (before) for (const route of before) this.#index(route, false);
    if (routes.length > 0) this.#actual.set(destination, routes);
    else if (before) this.#actual.delete(destination);
    for (const route of routes) this.#index(route, true);
  }

  #index({ destination, nextHops }: Route, there: boolean): void {
    for (const { device } of nextHops) {
      if (device === undefined || !device.startsWith(this.options.interfacePrefix)) continue;
      const known = this.#byDevice.get(device) ?? new Set();
      if (there) this.#byDevice.set(device, known.add(destination));
      else if (known.delete(destination) && known.size === 0) this.#byDevice.delete(device);
    }
  }

  #owns(route: Route): boolean {
    return route.protocol === ourProtocol || (route.protocol === bootProtocol && this.#onPodDevice(route));
  }

  #onPodDevice({ nextHops }: Route): boolean {
    const { interfacePrefix } = this.options;
    return nextHops.length > 0 && nextHops.every(({ device }) => device?.startsWith(interfacePrefix) ?? false);
  }
}
