/**
 * Finds small integers by hash: open addressing with linear probing, no object per entry. Who owns the identifiers
 * keeps their hashes, probes `table` from `hash & mask`, and compares what the identifiers stand for.
 */
export class IdIndex {
  /** Identifier + 1; 0: empty. At most half full, so that every probe ends. */
  table = new Int32Array(256);
  mask = 255;
  #count = 0;

  get count(): number {
    return this.#count;
  }

  /** @param hashes by identifier, also of those already in the index */
  insert(id: number, hashes: Int32Array): void {
    if ((this.#count + 1) * 2 > this.table.length) this.#grow(hashes);
    this.#put(id, hashes);
    this.#count++;
  }

  /** Closes the gap, so that no mark of a removed entry lengthens later probes. */
  remove(id: number, hashes: Int32Array): void {
    const { table, mask } = this;
    let gap = (hashes[id] ?? 0) & mask;
    while (table[gap] !== id + 1) {
      if (table[gap] === 0) throw new Error(`identifier ${id} is not in the index`);
      gap = (gap + 1) & mask;
    }
    for (let at = (gap + 1) & mask; ; at = (at + 1) & mask) {
      const entry = table[at] ?? 0;
      if (entry === 0) break;
      const home = (hashes[entry - 1] ?? 0) & mask;
      // It may move back only as far as its home.
      if (((at - home) & mask) < ((at - gap) & mask)) continue;
      table[gap] = entry;
      gap = at;
    }
    table[gap] = 0;
    this.#count--;
  }

  #put(id: number, hashes: Int32Array): void {
    const { table, mask } = this;
    let at = (hashes[id] ?? 0) & mask;
    while (table[at] !== 0) at = (at + 1) & mask;
    table[at] = id + 1;
  }

  #grow(hashes: Int32Array): void {
    const before = this.table;
    this.table = new Int32Array(before.length * 2);
    this.mask = this.table.length - 1;
    for (let at = 0; at < before.length; at++) {
      const entry = before[at] ?? 0;
      if (entry !== 0) this.#put(entry - 1, hashes);
    }
  }
}

/** A larger array with the same content, where `index` does not fit. */
export function fitting<T extends Int32Array | Uint32Array | Uint8Array>(array: T, index: number): T {
  if (index < array.length) return array;
  const Kind = array.constructor as new (length: number) => T;
  const larger = new Kind(Math.max(index + 1, array.length * 2));
  larger.set(array);
  return larger;
}

/** Spreads the bits of a 32-bit number over all of it (the finalizer of MurmurHash3). */
export function mixed(value: number): number {
  let h = value;
  h = Math.imul(h ^ (h >>> 16), 0x85ebca6b);
  h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35);
  return h ^ (h >>> 16);
}
