import { fitting } from '../../base/id-index.ts';
import type { PackedRoutes, RouteForm } from '../../kernel/types.ts';
import type { Cidr, Family } from '../../model/address.ts';
import type { DestinationId } from '../calc/destinations.ts';
import type { FormId } from '../calc/forms.ts';
import type { RouteTable } from '../calc/routes.ts';

/**
 * Routes of the table that are written together, in the order in which they came. What they are made of is retained
 * until `done`: the kernel's events may come while it is being written to.
 */
export class RouteBatch implements PackedRoutes {
  #ids = new Int32Array(64);
  #forms = new Int32Array(64);
  #count = 0;

  constructor(private readonly table: RouteTable) {}

  get count(): number {
    return this.#count;
  }

  push(id: DestinationId, form: FormId): void {
    const at = this.#count++;
    this.#ids = fitting(this.#ids, at);
    this.#forms = fitting(this.#forms, at);
    this.#ids[at] = id;
    this.#forms[at] = form;
    this.table.destinations.retain(id);
    this.table.forms.retain(form);
  }

  /** The batch is empty again. */
  done(): void {
    const { forms, destinations } = this.table;
    for (let at = 0; at < this.#count; at++) {
      forms.release(this.#forms[at] ?? 0);
      destinations.release(this.#ids[at] ?? 0);
    }
    this.#count = 0;
  }

  id(at: number): DestinationId {
    return this.#nth(this.#ids, at);
  }

  formId(at: number): FormId {
    return this.#nth(this.#forms, at);
  }

  form(at: number): RouteForm {
    return this.table.forms.get(this.formId(at));
  }

  family(at: number): Family {
    return this.table.destinations.family(this.id(at));
  }

  length(at: number): number {
    return this.table.destinations.length(this.id(at));
  }

  copy(at: number, into: Uint8Array, to: number): void {
    this.table.destinations.copy(this.id(at), into, to);
  }

  destination(at: number): Cidr {
    return this.table.destinations.cidr(this.id(at));
  }

  /** @throws RangeError beyond the end, where nobody asks */
  #nth(list: Int32Array, at: number): number {
    const found = list[at];
    if (found === undefined || at >= this.#count) throw new RangeError(`${at} of ${this.#count}`);
    return found;
  }
}
