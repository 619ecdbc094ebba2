import { fitting } from '../../base/id-index.ts';
import type { PackedRoutes, PrefixRun, RouteForm } from '../../kernel/types.ts';
import type { Cidr, Family } from '../../model/address.ts';
import type { DestinationId } from '../calc/destinations.ts';
import type { FormId } from '../calc/forms.ts';
import type { RouteTable } from '../calc/routes.ts';

/**
 * Routes of the table that are written together, in the order in which they came. What they are made of is not retained:
 * until `clear`, nobody may let go of it.
 */
export class RouteBatch implements PackedRoutes {
  #ids: Int32Array;
  #forms: Int32Array;
  #count = 0;
  #effort = 0;
  /** The form pushed last, and its next hops: mostly the next one's as well. */
  #last: { readonly form: FormId; readonly hops: number } | undefined;

  /** @param room routes for which there is room at once */
  constructor(
    private readonly table: RouteTable,
    room = 64,
  ) {
    this.#ids = new Int32Array(room);
    this.#forms = new Int32Array(room);
  }

  get count(): number {
    return this.#count;
  }

  /**
   * What takes time: the next hops of all routes, where a route without one counts as one, and each form that differs
   * from the one before, whose message is made anew.
   */
  get effort(): number {
    return this.#effort;
  }

  push(id: DestinationId, form: FormId): void {
    const at = this.#count++;
    if (at === this.#ids.length) {
      this.#ids = fitting(this.#ids, at);
      this.#forms = fitting(this.#forms, at);
    }
    this.#ids[at] = id;
    this.#forms[at] = form;
    if (this.#last?.form !== form) {
      if (this.#last) this.#effort++;
      this.#last = { form, hops: Math.max(1, this.table.forms.get(form).nextHops.length) };
    }
    this.#effort += this.#last.hops;
  }

  /** The batch is empty again. */
  clear(): void {
    this.#count = 0;
    this.#effort = 0;
    this.#last = undefined;
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

  alike(at: number): number {
    const form = this.formId(at);
    const odd = this.id(at) & 1;
    let end = at + 1;
    while (end < this.#count && this.#forms[end] === form && ((this.#ids[end] ?? 0) & 1) === odd) end++;
    return end - at;
  }

  /** Their destinations, a view that lasts until the next `push`. */
  alikeIds(at: number): Int32Array {
    return this.#ids.subarray(at, at + this.alike(at));
  }

  place(at: number, run: PrefixRun): void {
    this.table.destinations.place(this.#ids, at, run);
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
