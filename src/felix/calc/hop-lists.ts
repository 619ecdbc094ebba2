import type { Hop } from '../../model/feed.ts';

/** A list of next hops as a small integer: valid while somebody retains it. */
export type HopListId = number;

/** Lists of next hops, of which a hundred thousand routes share a few. */
export class HopLists {
  readonly #byKey = new Map<string, HopListId>();
  readonly #lists: (readonly Hop[] | undefined)[] = [];
  readonly #references: number[] = [];
  readonly #free: HopListId[] = [];

  /** A new one is retained by nobody until `retain`. */
  intern(hops: readonly Hop[]): HopListId {
    const key = hops.length === 1 ? (hops[0] ?? '') : hops.join();
    const known = this.#byKey.get(key);
    if (known !== undefined) return known;
    const id = this.#free.pop() ?? this.#lists.length;
    this.#lists[id] = hops;
    this.#references[id] = 0;
    this.#byKey.set(key, id);
    return id;
  }

  get(id: HopListId): readonly Hop[] {
    return this.#lists[id] ?? [];
  }

  retain(id: HopListId): void {
    this.#references[id] = (this.#references[id] ?? 0) + 1;
  }

  release(id: HopListId): void {
    const left = (this.#references[id] ?? 0) - 1;
    this.#references[id] = left;
    if (left > 0) return;
    this.#byKey.delete(this.get(id).join());
    this.#lists[id] = undefined;
    this.#free.push(id);
  }
}
