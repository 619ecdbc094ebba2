import { InputError } from '../base/errors.ts';
import type { Tier } from '../model/kinds.ts';

export interface TierInfo {
  /** Lower goes first; equal ones by name. */
  readonly order: number;
  readonly defaultAction: 'deny' | 'pass';
}

/** Tiers that exist in every cluster, whatever the datastore says of them. */
export const builtInTiers: ReadonlyMap<string, TierInfo> = new Map([
  ['kube-admin', { order: 1_000, defaultAction: 'pass' }],
  ['default', { order: 1_000_000, defaultAction: 'deny' }],
  ['kube-baseline', { order: 10_000_000, defaultAction: 'pass' }],
]);

/** The tiers of a cluster, built-in ones included. */
export class TierTable {
  readonly #known = new Map<string, TierInfo>(builtInTiers);
  #sorted: readonly (readonly [string, TierInfo])[] | undefined;

  has(name: string): boolean {
    return this.#known.has(name);
  }

  /** Returns what is wrong with it: the built-in tiers cannot be changed. */
  set(name: string, { spec }: Tier): readonly InputError[] {
    const info: TierInfo = { order: spec.order, defaultAction: spec.defaultAction === 'Pass' ? 'pass' : 'deny' };
    const fixed = builtInTiers.get(name);
    if (fixed) return differences(name, spec, fixed);
    this.#known.set(name, info);
    this.#sorted = undefined;
    return [];
  }

  delete(name: string): void {
    if (builtInTiers.has(name)) return;
    this.#known.delete(name);
    this.#sorted = undefined;
  }

  /** In the order in which packets meet them. */
  inOrder(): readonly (readonly [string, TierInfo])[] {
    this.#sorted ??= [...this.#known].sort(
      ([a, { order: first }], [b, { order: second }]) => first - second || (a < b ? -1 : 1),
    );
    return this.#sorted;
  }
}

function differences(name: string, spec: Tier['spec'], { order, defaultAction }: TierInfo): InputError[] {
  const action = defaultAction === 'pass' ? 'Pass' : 'Deny';
  const where = `Tier(${name}).spec`;
  return [
    ...(spec.order === order
      ? []
      : [new InputError(`${where}.order`, spec.order, `${order}, as this tier is built in`)]),
    ...(spec.defaultAction === action
      ? []
      : [new InputError(`${where}.defaultAction`, spec.defaultAction, `${action}, as this tier is built in`)]),
  ];
}
