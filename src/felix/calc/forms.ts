import { formOf } from '../../kernel/route.ts';
import type { RouteForm } from '../../kernel/types.ts';

/** A form of routes as a small integer: valid while somebody retains it. */
export type FormId = number;

/** Forms of routes, of which there are as many as next hops and pods, keyed by small integers. */
export class RouteForms {
  readonly #byKey = new Map<string, FormId>();
  readonly #forms: (RouteForm | undefined)[] = [];
  readonly #references: number[] = [];
  readonly #free: FormId[] = [];
  /** The form that was asked for last, which often is the next one too. */
  #last: { readonly form: RouteForm; readonly id: FormId } | undefined;

  /** A new one is retained by nobody until `retain`. */
  intern(form: RouteForm): FormId {
    if (this.#last?.form === form) return this.#last.id;
    const key = keyOf(form);
    const id = this.#byKey.get(key) ?? this.#add(key, form);
    this.#last = { form, id };
    return id;
  }

  get(id: FormId): RouteForm {
    const form = this.#forms[id];
    if (!form) throw new Error(`there is no form ${id}`);
    return form;
  }

  retain(id: FormId): void {
    this.#references[id] = (this.#references[id] ?? 0) + 1;
  }

  release(id: FormId): void {
    const left = (this.#references[id] ?? 0) - 1;
    if (left < 0) throw new Error(`form ${id} released more often than retained`);
    this.#references[id] = left;
    if (left > 0) return;
    this.#byKey.delete(keyOf(this.get(id)));
    this.#forms[id] = undefined;
    this.#free.push(id);
    this.#last = undefined;
  }

  #add(key: string, form: RouteForm): FormId {
    const id = this.#free.pop() ?? this.#forms.length;
    this.#forms[id] = formOf(form);
    this.#references[id] = 0;
    this.#byKey.set(key, id);
    return id;
  }
}

function keyOf({ type, nextHops, protocol, scope, metric, table, source }: RouteForm): string {
  const hops = nextHops.map(({ gateway, device, weight, onlink }) => [gateway, device, weight, onlink].join(' '));
  return [type, protocol, scope, metric, table, source, ...hops].join();
}
