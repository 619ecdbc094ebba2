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
  readonly #ids: DestinationId[] = [];
  readonly #forms: FormId[] = [];

  constructor(private readonly table: RouteTable) {}

  get count(): number {
    return this.#ids.length;
  }

  push(id: DestinationId, form: FormId): void {
    this.#ids.push(id);
    this.#forms.push(form);
    this.table.destinations.retain(id);
    this.table.forms.retain(form);
  }

  done(): void {
    for (const form of this.#forms) this.table.forms.release(form);
    for (const id of this.#ids) this.table.destinations.release(id);
  }

  id(at: number): DestinationId {
    return nth(this.#ids, at);
  }

  formId(at: number): FormId {
    return nth(this.#forms, at);
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
}

/** @throws RangeError beyond the end, where nobody asks */
function nth(list: readonly number[], at: number): number {
  const found = list[at];
  if (found === undefined) throw new RangeError(`${at} of ${list.length}`);
  return found;
}
