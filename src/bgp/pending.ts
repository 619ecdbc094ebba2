import { fitting } from '../base/id-index.ts';
import type { PrefixId, PrefixTable } from '../model/prefixes.ts';

const marks = { none: 0, told: 1, untold: 2 } as const;

/** Prefixes that one receiver must still be told of, in the order in which they came. Each is retained. */
export class Pending {
  #queue: Int32Array = new Int32Array(64);
  #from = 0;
  #to = 0;
  #marks = new Uint8Array(64);
  #taken = false;

  constructor(private readonly prefixes: PrefixTable) {}

  get size(): number {
    return this.#to - this.#from;
  }

  /** @param told the receiver knows some route to the prefix from us, so that it must hear of its end */
  add(id: PrefixId, told: boolean): void {
    this.#marks = fitting(this.#marks, id);
    if (this.#marks[id] !== marks.none) return;
    this.#marks[id] = told ? marks.told : marks.untold;
    if (this.#to === this.#queue.length && this.#from * 2 > this.#to) this.#closeUp();
    this.#queue = fitting(this.#queue, this.#to);
    this.#queue[this.#to++] = id;
    this.prefixes.retain(id);
  }

  /**
   * Adds many, each once: as `add` would, but for a receiver that lacks a whole table in one pass over the marks and one
   * over the references, in the order in which they stand in memory.
   * @param ids become this one's
   */
  addAll(ids: Int32Array, told: boolean): void {
    if (this.size > 0) {
      for (const id of ids) this.add(id, told);
      return;
    }
    let bound = 0;
    for (let i = 0; i < ids.length; i++) bound = Math.max(bound, (ids[i] ?? 0) + 1);
    this.#marks = fitting(this.#marks, bound);
    const value = told ? marks.told : marks.untold;
    for (let i = 0; i < ids.length; i++) this.#marks[ids[i] ?? 0] = value;
    for (let id = 0; id < bound; id++) if (this.#marks[id] !== marks.none) this.prefixes.retain(id);
    this.#queue = ids.length > 0 ? ids : this.#queue;
    this.#from = 0;
    this.#to = ids.length;
  }

  /** The next prefix, the caller's to release; `told` speaks of it. Only while `size` is not 0. */
  take(): PrefixId {
    const id = this.#queue[this.#from++] ?? 0;
    this.#taken = this.#marks[id] === marks.told;
    this.#marks[id] = marks.none;
    if (this.#from === this.#to) {
      this.#from = 0;
      this.#to = 0;
    }
    return id;
  }

  /** Whether the receiver knows a route to the prefix last taken. */
  get told(): boolean {
    return this.#taken;
  }

  clear(): void {
    this.drain(() => undefined);
  }

  /** Hands over all that is left. */
  drain(visit: (id: PrefixId, told: boolean) => void): void {
    while (this.size > 0) {
      const id = this.take();
      visit(id, this.#taken);
      this.prefixes.release(id);
    }
  }

  #closeUp(): void {
    this.#queue.copyWithin(0, this.#from, this.#to);
    this.#to -= this.#from;
    this.#from = 0;
  }
}
