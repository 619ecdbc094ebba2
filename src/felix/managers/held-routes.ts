import { fitting } from '../../base/id-index.ts';
import type { RouteForm } from '../../kernel/types.ts';
import type { DestinationId } from '../calc/destinations.ts';
import type { FormId } from '../calc/forms.ts';
import type { RouteTable } from '../calc/routes.ts';

const none: readonly FormId[] = [];

/**
 * The routes that the kernel is believed to hold, by destination. One route to a destination, as nearly always, takes
 * four octets; where there are several, for they differ in metric, there is a list.
 */
export class HeldRoutes {
  /** By destination: the form of its only route, + 1; 0: there is none, -1: several. */
  #only = new Int32Array(256);
  readonly #several = new Map<DestinationId, FormId[]>();
  /** By destination: the reading that found it last. */
  #seen = new Uint32Array(256);
  #reading = 0;
  /** Pods' devices → destinations of the routes through them. */
  readonly #byDevice = new Map<string, Set<DestinationId>>();
  /** The form that was last seen to lead to no pod, as nearly all do. */
  #elsewhere: RouteForm | undefined;

  constructor(
    private readonly table: RouteTable,
    private readonly interfacePrefix: string,
  ) {}

  /** Of a destination with one route at most: its form; `several` for any other. */
  only(id: DestinationId): FormId | undefined | 'several' {
    const only = this.#only[id] ?? 0;
    if (only > 0) return only - 1;
    return only === 0 ? undefined : 'several';
  }

  get(id: DestinationId): readonly FormId[] {
    const only = this.only(id);
    if (only === undefined) return none;
    return only === 'several' ? [...(this.#several.get(id) ?? none)] : [only];
  }

  set(id: DestinationId, forms: readonly FormId[]): void {
    const before = this.get(id);
    const [first, ...more] = forms;
    if (before.length === 0 && first !== undefined && more.length === 0) this.#first(id, first);
    else this.#replace(id, before, forms);
  }

  /** One more route; an IPv6 node has one to fe80::/64 for each of its devices. */
  add(id: DestinationId, form: FormId): void {
    if ((this.#only[id] ?? 0) === 0) {
      this.#first(id, form);
      return;
    }
    const several = this.#several.get(id);
    if (several) {
      several.push(form);
      this.table.forms.retain(form);
      this.#index(id, form, true);
    } else this.set(id, [...this.get(id), form]);
  }

  /** Destinations of routes through a pod's device. */
  through(device: string): readonly DestinationId[] {
    return [...(this.#byDevice.get(device) ?? [])];
  }

  /** Every destination that has a route. */
  *destinations(): Generator<DestinationId> {
    for (let id = 0; id < this.#only.length; id++) if (this.#only[id] !== 0) yield id;
  }

  /** A reading begins: what it finds takes the place of what was believed. */
  begin(): void {
    this.#reading++;
  }

  /** The reading found routes of a form to destinations. @returns those of which it had found another before */
  foundAlike(destinations: Int32Array, form: FormId): DestinationId[] {
    const again: DestinationId[] = [];
    const reading = this.#reading;
    for (let at = 0; at < destinations.length; at++) {
      const id = destinations[at] ?? 0;
      if (this.#seen[id] === reading) {
        this.add(id, form);
        again.push(id);
        continue;
      }
      if (id >= this.#seen.length) this.#seen = fitting(this.#seen, id);
      this.#seen[id] = reading;
      if (this.#only[id] !== form + 1) this.set(id, [form]);
    }
    return again;
  }

  /** There is no route to the destination any more. */
  drop(id: DestinationId): void {
    const only = this.#only[id] ?? 0;
    if (only > 0) this.#drop(id, only - 1);
    else if (only < 0) this.set(id, none);
  }

  /** Whether the reading has found a route to the destination. */
  seen(id: DestinationId): boolean {
    return this.#seen[id] === this.#reading;
  }

  /** Routes of one form to destinations; those that have a route already are given back. */
  addAlike(destinations: Int32Array, form: FormId): DestinationId[] {
    const others: DestinationId[] = [];
    const { table } = this;
    const elsewhere = !leadsToPod(table.forms.get(form), this.interfacePrefix);
    for (let at = 0; at < destinations.length; at++) {
      const id = destinations[at] ?? 0;
      if ((this.#only[id] ?? 0) !== 0) others.push(id);
      else if (elsewhere && id < this.#only.length) {
        this.#only[id] = form + 1;
        table.destinations.retain(id);
        table.forms.retain(form);
      } else this.#first(id, form);
    }
    return others;
  }

  #drop(id: DestinationId, form: FormId): void {
    this.#only[id] = 0;
    this.#index(id, form, false);
    this.table.forms.release(form);
    this.table.destinations.release(id);
  }

  #first(id: DestinationId, form: FormId): void {
    this.#only = fitting(this.#only, id);
    this.#only[id] = form + 1;
    this.table.destinations.retain(id);
    this.table.forms.retain(form);
    this.#index(id, form, true);
  }

  #replace(id: DestinationId, before: readonly FormId[], forms: readonly FormId[]): void {
    for (const form of forms) this.table.forms.retain(form);
    if (before.length === 0 && forms.length > 0) this.table.destinations.retain(id);
    for (const form of before) this.#index(id, form, false);
    this.#only = fitting(this.#only, id);
    this.#only[id] = forms.length > 1 ? -1 : (forms[0] ?? -1) + 1;
    if (forms.length > 1) this.#several.set(id, [...forms]);
    else this.#several.delete(id);
    for (const form of forms) this.#index(id, form, true);
    for (const form of before) this.table.forms.release(form);
    if (before.length > 0 && forms.length === 0) this.table.destinations.release(id);
  }

  #index(id: DestinationId, form: FormId, there: boolean): void {
    const found = this.table.forms.get(form);
    if (found === this.#elsewhere) return;
    if (!leadsToPod(found, this.interfacePrefix)) {
      this.#elsewhere = found;
      return;
    }
    for (const { device } of found.nextHops) {
      if (device === undefined || !device.startsWith(this.interfacePrefix)) continue;
      const known = this.#byDevice.get(device) ?? new Set();
      if (there) this.#byDevice.set(device, known.add(id));
      else if (known.delete(id) && known.size === 0) this.#byDevice.delete(device);
    }
  }
}

function leadsToPod({ nextHops }: RouteForm, interfacePrefix: string): boolean {
  return nextHops.some(({ device }) => device?.startsWith(interfacePrefix));
}

/** Whether routes of the form lead to pods and nowhere else. */
export function onPodDevice({ nextHops }: RouteForm, interfacePrefix: string): boolean {
  return nextHops.length > 0 && nextHops.every(({ device }) => device?.startsWith(interfacePrefix) ?? false);
}
