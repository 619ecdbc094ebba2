import { type Clock, systemClock } from '../../base/clock.ts';
import type { Failure } from '../../base/reconcile.ts';
import { withDestination } from '../../kernel/route.ts';
import type { Netlink, Route, RouteForm } from '../../kernel/types.ts';
import { bits, type Cidr, cidrParts, type Family, familyOf, type Ip } from '../../model/address.ts';
import type { DestinationId } from '../calc/destinations.ts';
import type { FormId } from '../calc/forms.ts';
import { birdProtocol, mainTable, ourProtocol, sameForm } from '../calc/route.ts';
import type { RouteTable, Winner } from '../calc/routes.ts';
import { Turns } from '../slices.ts';
import { HeldRoutes, onPodDevice } from './held-routes.ts';
import { RouteBatch } from './route-batch.ts';
import { RouteFailures } from './route-failures.ts';
import { RouteReader } from './route-reader.ts';

/** Destinations looked at before the clock is looked at. */
const sliceLength = 1024;
/**
 * Next hops and forms written before the clock is looked at: the kernel takes 2 to 20 µs for each, as many as it takes
 * so many milliseconds for. Fewer at once than `sliceLength` cost a tenth more.
 */
const leastEffort = 128;
const writeMs = 4;
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

/** What is written in one turn. */
interface Slice {
  readonly sets: RouteBatch;
  readonly deletes: RouteBatch;
}

/**
 * Brings the main table to what the route table wants. It keeps what the kernel is believed to hold, from a first
 * reading and then from events and its own writing, so that a change costs only the routes it touches. Where the kernel
 * holds what is wanted, belief and wish are one form. Ours are all routes of protocol 80, Calico's workload routes
 * (protocol 3 on a pod's device) and what its BIRD left in our pools; any other route is never replaced or removed.
 */
export class RouteManager {
  readonly #held: HeldRoutes;
  readonly #reader: RouteReader;
  readonly #failed: RouteFailures;
  #repairs = new Map<Cidr, number>();
  /** Destinations whose route somebody took away or changed since the last `apply`. */
  #lost = new Set<DestinationId>();
  /** As much is written at once. */
  #effort = 2 * leastEffort;
  /** Belief has changed since the kernel was last read. */
  #moved = true;

  constructor(
    private readonly netlink: Netlink,
    private readonly table: RouteTable,
    private readonly options: {
      readonly families: readonly Family[];
      readonly interfacePrefix: string;
      /** Whether a route of BIRD's there is one that Calico left; without it, none is. */
      readonly inherits?: (destination: Cidr) => boolean;
      /** Of its slices; without it, the system's. */
      readonly clock?: Clock;
    },
  ) {
    this.#held = new HeldRoutes(table, options.interfacePrefix);
    this.#reader = new RouteReader(table, this.#held, {
      formOf: (id, found) => this.#formOf(id, found),
      differs: (id) => this.#differs(id),
    });
    this.#failed = new RouteFailures(table.destinations);
  }

  /**
   * Looks at the kernel's routes; every difference is mended at the next `apply`. What the kernel tells meanwhile is
   * newer than what is being read, and counts once that is taken over.
   */
  async read(turns = new Turns(this.options.clock ?? systemClock)): Promise<void> {
    const { families } = this.options;
    const readings = families.map((family) => ({ family, ...this.netlink.readRoutes(family, mainTable) }));
    this.#repairs = new Map();
    this.retry();
    if (!this.#moved && readings.every(({ unchanged }) => unchanged)) return;
    this.#moved = true;
    await this.#reader.take(readings, turns, () => {
      this.#moved = false;
    });
  }

  /** Our routes in the kernel, as far as is known. */
  *ours(): Generator<Route> {
    const { destinations, forms } = this.table;
    for (const id of this.#held.destinations())
      for (const form of this.#held.get(id))
        if (this.#owns(id, form)) yield withDestination(forms.get(form), destinations.cidr(id));
  }

  /** How many `ours` gives. */
  get owned(): number {
    let count = 0;
    for (const id of this.#held.destinations())
      for (const form of this.#held.get(id)) if (this.#owns(id, form)) count++;
    return count;
  }

  /** Takes over what the kernel reports. @returns whether something is to be mended that no pass will look at yet */
  onRoute(route: Route, gone: boolean): boolean {
    if (this.#reader.defers(() => this.onRoute(route, gone))) return false;
    const { destination } = route;
    if (route.table !== mainTable || !this.options.families.includes(familyOf(destination))) return false;
    const { destinations, forms } = this.table;
    const id = gone ? destinations.find(destination) : destinations.intern(destination);
    if (id === undefined) return false;
    const others = this.#held.get(id).filter((other) => forms.get(other).metric !== route.metric);
    this.#believe(id, gone ? others : [...others, this.#formOf(id, route)]);
    if (!this.#differs(id)) return false;
    const repairs = (this.#repairs.get(destination) ?? 0) + 1;
    this.#repairs.set(destination, repairs);
    if (repairs > repairLimit) {
      const cause = new Error(`changed ${repairs} times by something else; left alone until the next resync`);
      this.#failed.add(destination, cause);
      return false;
    }
    this.#lose(id);
    return true;
  }

  /**
   * The kernel drops the routes of a pod's device that goes down, and for IPv4 says nothing (fib_sync_down_dev). Which
   * it drops with another device it alone knows: then `read`.
   */
  deviceDown(name: string): void {
    if (this.#reader.defers(() => this.deviceDown(name))) return;
    for (const id of this.#held.through(name)) {
      const left = this.#held.get(id).filter((form) => !this.#leadsTo(form, name));
      this.#believe(id, left);
      this.#lose(id);
    }
  }

  #lose(id: DestinationId): void {
    this.table.touch(id);
    this.#lost.add(id);
  }

  /**
   * Sets what was lost, some hundreds at most; the next `apply` looks at it once more. For a time when that has to wait,
   * and not while it is under way.
   */
  mend(ready: (winner: Winner) => boolean): Pick<RoutesReport, 'changed' | 'released'> {
    const report = { changed: 0, released: [] as Ip[] };
    const lost = [...this.#lost].slice(0, sliceLength);
    this.#lost.clear();
    const slice = { sets: new RouteBatch(this.table), deletes: new RouteBatch(this.table) };
    this.#planAll(lost, 0, ready, slice);
    this.#write(slice, report);
    return report;
  }

  /** What failed is tried again at the next `apply`. */
  retry(): void {
    for (const id of this.#failed.known()) this.table.touch(id);
  }

  /** Whether the kernel holds the route, as far as is known. */
  stands(route: Route): boolean {
    const id = this.table.destinations.find(route.destination);
    return id !== undefined && this.#held.get(id).some((form) => sameForm(route, this.table.forms.get(form)));
  }

  /** Whether a route to the destination through the device is in the kernel, as far as is known. */
  through(destination: Cidr, device: string): boolean {
    const id = this.table.destinations.find(destination);
    return id !== undefined && this.#held.get(id).some((form) => this.#leadsTo(form, device));
  }

  get hasFailed(): boolean {
    return this.#failed.size > 0;
  }

  /** @param ready whether a route may be added now; the others wait for a later call, what stands of them stays */
  async apply(ready: (winner: Winner) => boolean): Promise<RoutesReport> {
    const dirty = this.table.takeDirty();
    this.#lost.clear();
    const report = { changed: 0, released: [] as Ip[] };
    const room = Math.min(dirty.length, sliceLength);
    const slice = { sets: new RouteBatch(this.table, room), deletes: new RouteBatch(this.table) };
    const { clock = systemClock } = this.options;
    // What was done before in this turn, and what comes after, are not added to a slice.
    const long = dirty.length > sliceLength;
    const turns = new Turns(clock);
    if (long) await turns.next();
    for (let at = 0; at < dirty.length; ) {
      if (turns.enough()) await turns.next();
      const began = clock.monotonic();
      at = this.#planAll(dirty, at, ready, slice);
      const effort = slice.sets.effort + slice.deletes.effort;
      this.#write(slice, report);
      this.#pace(clock.monotonic() - began, effort);
    }
    if (long) await turns.next();
    this.#failed.forget();
    return { ...report, failures: this.#failed.list };
  }

  /** A piece that took so long says how long the next one may be. */
  #pace(milliseconds: number, effort: number): void {
    if (milliseconds > writeMs) this.#effort = Math.max(leastEffort, this.#effort / 2);
    else if (effort >= this.#effort && milliseconds < writeMs / 2)
      this.#effort = Math.min(sliceLength, this.#effort * 2);
  }

  /** Writes what a slice holds. */
  #write(slice: Slice, report: { changed: number; released: Ip[] }): void {
    this.#reader.aside(() => this.#writeAll(slice, report));
  }

  #writeAll({ sets, deletes }: Slice, report: { changed: number; released: Ip[] }): void {
    const released = [...this.#moving(sets), ...this.#going(deletes)];
    const refused = sets.count > 0 ? this.netlink.writeRoutes('set', sets) : [];
    const kept = deletes.count > 0 ? this.netlink.writeRoutes('delete', deletes) : [];
    for (const { at, cause } of refused) this.#failed.add(sets.destination(at), cause);
    for (const { at, cause } of kept) this.#failed.add(deletes.destination(at), cause);
    const stayed = new Set(kept.map(({ at }) => at));
    for (let at = 0; at < deletes.count; at++)
      if (!stayed.has(at)) this.#believe(deletes.id(at), this.#others(deletes.id(at), deletes.formId(at)));
    this.#standAll(sets, new Set(refused.map(({ at }) => at)));
    report.changed += sets.count + deletes.count - refused.length - kept.length;
    report.released.push(...released);
    sets.clear();
    deletes.clear();
  }

  /** @returns how far it came */
  #planAll(dirty: readonly DestinationId[], from: number, ready: (winner: Winner) => boolean, slice: Slice): number {
    const end = Math.min(from + sliceLength, dirty.length);
    let at = from;
    const fits = () => slice.sets.effort + slice.deletes.effort < this.#effort;
    while (at < end && fits()) this.#plan(dirty[at++] ?? 0, ready, slice);
    return at;
  }

  /** What has to happen to one destination. */
  #plan(id: DestinationId, ready: (winner: Winner) => boolean, slice: Slice): void {
    this.#failed.excuse(id);
    const wanted = this.table.form(id);
    const only = this.#held.only(id);
    if (only === wanted) return;
    if (only !== undefined) this.#planOver(id, wanted, ready, slice);
    else if (wanted !== undefined) this.#planSet(id, wanted, ready, slice);
  }

  #planOver(id: DestinationId, wanted: FormId | undefined, ready: (winner: Winner) => boolean, slice: Slice): void {
    const { forms, destinations } = this.table;
    const metric = wanted === undefined ? undefined : forms.get(wanted).metric;
    const found = this.#held.get(id);
    for (const form of found)
      if (forms.get(form).metric !== metric && this.#owns(id, form)) slice.deletes.push(id, form);
    if (wanted === undefined || found.some((form) => this.#same(wanted, form))) return;
    const foreign = found.find((form) => forms.get(form).metric === metric && !this.#owns(id, form));
    if (foreign === undefined) this.#planSet(id, wanted, ready, slice);
    else {
      const { protocol } = forms.get(foreign);
      const cause = new Error(`a route of protocol ${protocol}, which is not ours, is in its place`);
      this.#failed.add(destinations.cidr(id), cause);
    }
  }

  #planSet(id: DestinationId, wanted: FormId, ready: (winner: Winner) => boolean, slice: Slice): void {
    if (ready(this.table.winner(id))) slice.sets.push(id, wanted);
    else this.table.touch(id);
  }

  #differs(id: DestinationId): boolean {
    const wanted = this.table.form(id);
    if (this.#held.only(id) === wanted) return false;
    const found = this.#held.get(id);
    if (wanted !== undefined && !found.some((form) => this.#same(wanted, form))) return true;
    return found.some((form) => this.#owns(id, form) && !(wanted !== undefined && this.#same(wanted, form)));
  }

  /** Pod addresses that lead elsewhere once these are set. */
  #moving(sets: RouteBatch): Ip[] {
    const moving: Ip[] = [];
    for (let at = 0; at < sets.count; at++) {
      const id = sets.id(at);
      if (this.#held.only(id) === undefined) continue;
      for (const before of this.#held.get(id))
        if (this.#owns(id, before) && !this.#same(sets.formId(at), before))
          moving.push(...this.#podAddress(id, before));
    }
    return moving;
  }

  *#going(deletes: RouteBatch): Generator<Ip> {
    for (let at = 0; at < deletes.count; at++) yield* this.#podAddress(deletes.id(at), deletes.formId(at));
  }

  *#podAddress(id: DestinationId, form: FormId): Generator<Ip> {
    const { destinations, forms } = this.table;
    if (destinations.length(id) !== bits(destinations.family(id))) return;
    if (onPodDevice(forms.get(form), this.options.interfacePrefix)) yield cidrParts(destinations.cidr(id)).address;
  }

  /** The form of a route as found: what is wanted, where it is the same. */
  #formOf(id: DestinationId, found: RouteForm): FormId {
    const wanted = this.table.form(id);
    return wanted !== undefined && sameForm(this.table.forms.get(wanted), found)
      ? wanted
      : this.table.forms.intern(found);
  }

  #same(wanted: FormId, found: FormId): boolean {
    return wanted === found || sameForm(this.table.forms.get(wanted), this.table.forms.get(found));
  }

  /** The routes are in the kernel now, but for those at some places. */
  #standAll(sets: RouteBatch, failed: ReadonlySet<number>): void {
    if (failed.size > 0) {
      for (let at = 0; at < sets.count; at++) if (!failed.has(at)) this.#stands(sets.id(at), sets.formId(at));
      return;
    }
    for (let at = 0; at < sets.count; ) {
      const form = sets.formId(at);
      const ids = sets.alikeIds(at);
      this.#moved = true;
      for (const id of this.#held.addAlike(ids, form)) this.#stands(id, form);
      at += ids.length;
    }
  }

  /** The route is in the kernel now. */
  #stands(id: DestinationId, form: FormId): void {
    if (this.#held.only(id) !== undefined) this.#believe(id, [...this.#others(id, form), form]);
    else {
      this.#moved = true;
      this.#held.add(id, form);
    }
  }

  /** What stands beside a route of the form: the kernel tells them apart by metric. */
  #others(id: DestinationId, form: FormId): FormId[] {
    const { forms } = this.table;
    const { metric } = forms.get(form);
    return this.#held.get(id).filter((other) => forms.get(other).metric !== metric);
  }

  #believe(id: DestinationId, forms: readonly FormId[]): void {
    this.#moved = true;
    this.#held.set(id, forms);
  }

  #leadsTo(form: FormId, device: string): boolean {
    return this.table.forms.get(form).nextHops.some((hop) => hop.device === device);
  }

  #owns(id: DestinationId, form: FormId): boolean {
    const found = this.table.forms.get(form);
    switch (found.protocol) {
      case ourProtocol:
        return true;
      case bootProtocol:
        return onPodDevice(found, this.options.interfacePrefix);
      case birdProtocol:
        return this.options.inherits?.(this.table.destinations.cidr(id)) ?? false;
      default:
        return false;
    }
  }
}
