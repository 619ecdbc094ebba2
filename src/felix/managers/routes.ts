import type { Failure } from '../../base/reconcile.ts';
import type { Netlink, Route } from '../../kernel/types.ts';
import { bits, type Cidr, cidrParts, type Family, familyOf, type Ip } from '../../model/address.ts';
import { mainTable, ourProtocol, sameRoute } from '../calc/route.ts';
import type { Candidate, RouteTable } from '../calc/routes.ts';

/** Routes written in one call, between which the event loop runs. */
const sliceLength = 1000;
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

/**
 * Brings the main table to what the route table wants. It keeps what the kernel is believed to hold, from a first
 * reading and then from events, so that a change costs only the routes it touches. Ours are all routes of protocol 80
 * and Calico's workload routes (protocol 3 on a pod's device); any other route is never replaced or removed.
 */
export class RouteManager {
  #actual = new Map<Cidr, Route[]>();
  #dirty = new Set<Cidr>();
  readonly #failed = new Map<Cidr, Failure>();
  #repairs = new Map<Cidr, number>();

  constructor(
    private readonly netlink: Netlink,
    private readonly table: RouteTable,
    private readonly options: { readonly families: readonly Family[]; readonly interfacePrefix: string },
  ) {}

  /** Reads the kernel's routes anew; every difference is found at the next `apply`. */
  read(): Route[] {
    const found = this.options.families.flatMap((family) => this.netlink.routes(family, mainTable));
    this.#actual = new Map();
    for (const route of found) {
      const same = this.#actual.get(route.destination);
      if (same) same.push(route);
      else this.#actual.set(route.destination, [route]);
      if (this.#owns(route)) this.#dirty.add(route.destination);
    }
    for (const destination of this.table.winners.keys()) this.#dirty.add(destination);
    this.#repairs = new Map();
    return found.filter((route) => this.#owns(route));
  }

  /** Takes over what the kernel reports. @returns whether something is to be mended */
  onRoute(route: Route, gone: boolean): boolean {
    if (route.table !== mainTable || !this.options.families.includes(familyOf(route.destination))) return false;
    const { destination } = route;
    const others = (this.#actual.get(destination) ?? []).filter((other) => other.metric !== route.metric);
    this.#believe(destination, gone ? others : [...others, route]);
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

  /** The kernel drops the routes of a device that goes down, and for IPv4 says nothing (fib_sync_down_dev). */
  deviceDown(name: string): boolean {
    let lost = false;
    for (const [destination, routes] of this.#actual) {
      const left = routes.filter(({ nextHops }) => !nextHops.some(({ device }) => device === name));
      if (left.length === routes.length) continue;
      this.#believe(destination, left);
      this.#dirty.add(destination);
      lost = true;
    }
    return lost;
  }

  /** What failed is tried again at the next `apply`. */
  retry(): void {
    for (const destination of this.#failed.keys()) this.#dirty.add(destination);
  }

  /** Whether the kernel holds the route, as far as is known. */
  stands(route: Route): boolean {
    return (this.#actual.get(route.destination) ?? []).some((found) => sameRoute(route, found));
  }

  /** Whether a route to the destination through the device is in the kernel, as far as is known. */
  through(destination: Cidr, device: string): boolean {
    return (this.#actual.get(destination) ?? []).some(({ nextHops }) => nextHops.some((hop) => hop.device === device));
  }

  get hasFailed(): boolean {
    return this.#failed.size > 0;
  }

  /** @param ready whether a route may be added now; the others wait for a later call, what stands of them stays */
  async apply(ready: (candidate: Candidate) => boolean): Promise<RoutesReport> {
    for (const destination of this.table.takeDirty()) this.#dirty.add(destination);
    const dirty = [...this.#dirty];
    this.#dirty = new Set();
    const report = { changed: 0, released: [] as Ip[] };
    for (let at = 0; at < dirty.length; at += sliceLength) {
      if (at > 0) await new Promise((resolve) => setImmediate(resolve));
      this.#slice(dirty.slice(at, at + sliceLength), ready, report);
    }
    return { ...report, failures: [...this.#failed.values()] };
  }

  #slice(
    destinations: readonly Cidr[],
    ready: (candidate: Candidate) => boolean,
    report: { changed: number; released: Ip[] },
  ): void {
    const upserts: Route[] = [];
    const deletes: Route[] = [];
    for (const destination of destinations) this.#plan(destination, ready, upserts, deletes);
    if (upserts.length + deletes.length === 0) return;
    const released = this.#released(upserts, deletes);
    const failures = this.netlink.applyRoutes(upserts, deletes);
    const failed = new Set(failures.map(({ route }) => route));
    for (const { route, cause } of failures) {
      this.#failed.set(route.destination, { kind: 'route', item: route.destination, cause });
    }
    for (const route of deletes) if (!failed.has(route)) this.#replace(route, []);
    for (const route of upserts) if (!failed.has(route)) this.#replace(route, [route]);
    report.changed += upserts.length + deletes.length - failures.length;
    report.released.push(...released);
  }

  /** What has to happen to one destination. */
  #plan(destination: Cidr, ready: (candidate: Candidate) => boolean, upserts: Route[], deletes: Route[]): void {
    this.#failed.delete(destination);
    const winner = this.table.winners.get(destination);
    const found = this.#actual.get(destination) ?? [];
    const wanted = winner?.route;
    deletes.push(...found.filter((route) => this.#owns(route) && route.metric !== wanted?.metric));
    if (!winner || !wanted) return;
    const rivals = found.filter(({ metric }) => metric === wanted.metric);
    if (rivals.some((route) => sameRoute(wanted, route))) return;
    const foreign = rivals.find((route) => !this.#owns(route));
    if (foreign) {
      const cause = new Error(`a route of protocol ${foreign.protocol}, which is not ours, is in its place`);
      this.#failed.set(destination, { kind: 'route', item: destination, cause });
    } else if (ready(winner)) upserts.push(wanted);
    else this.#dirty.add(destination);
  }

  #differs(destination: Cidr): boolean {
    const wanted = this.table.winners.get(destination)?.route;
    const found = this.#actual.get(destination) ?? [];
    if (wanted && !found.some((route) => sameRoute(wanted, route))) return true;
    return found.some((route) => this.#owns(route) && !(wanted && sameRoute(wanted, route)));
  }

  #released(upserts: readonly Route[], deletes: readonly Route[]): Ip[] {
    const moved = upserts.flatMap((route) =>
      (this.#actual.get(route.destination) ?? []).filter((before) => this.#owns(before) && !sameRoute(route, before)),
    );
    return [...deletes, ...moved].flatMap((route) => {
      const { address, length, family } = cidrParts(route.destination);
      return length === bits(family) && this.#onPodDevice(route) ? [address] : [];
    });
  }

  #replace(route: Route, by: readonly Route[]): void {
    const others = (this.#actual.get(route.destination) ?? []).filter(({ metric }) => metric !== route.metric);
    this.#believe(route.destination, [...others, ...by]);
  }

  #believe(destination: Cidr, routes: Route[]): void {
    if (routes.length === 0) this.#actual.delete(destination);
    else this.#actual.set(destination, routes);
  }

  #owns(route: Route): boolean {
    return route.protocol === ourProtocol || (route.protocol === bootProtocol && this.#onPodDevice(route));
  }

  #onPodDevice({ nextHops }: Route): boolean {
    const { interfacePrefix } = this.options;
    return nextHops.length > 0 && nextHops.every(({ device }) => device?.startsWith(interfacePrefix) ?? false);
  }
}
