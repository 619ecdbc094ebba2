/** Desired against actual, for every kind of kernel object alike. */

export interface Difference<K, V> {
  readonly upserts: readonly (readonly [K, V])[];
  readonly deletes: readonly K[];
}

/** Pure: what would turn `actual` into `desired`. */
export function diff<K, V>(
  desired: ReadonlyMap<K, V>,
  actual: ReadonlyMap<K, V>,
  same: (wanted: V, found: V) => boolean,
): Difference<K, V> {
  const upserts: [K, V][] = [];
  for (const [key, value] of desired) {
    const found = actual.get(key);
    if (found === undefined || !same(value, found)) upserts.push([key, value]);
  }
  const deletes: K[] = [];
  for (const key of actual.keys()) if (!desired.has(key)) deletes.push(key);
  return { upserts, deletes };
}

/** One object that could not be applied; the others went on. */
export interface Failure {
  readonly kind: string;
  readonly item: string;
  readonly cause: unknown;
}
