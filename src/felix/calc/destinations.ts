import type { PrefixRun } from '../../kernel/types.ts';
import { type Cidr, type Family, familyOf } from '../../model/address.ts';
import { PrefixTable } from '../../model/prefixes.ts';

/** A prefix of either family as a small integer: valid while somebody retains it. */
export type DestinationId = number;

/**
 * The prefixes that anything here says something about, keyed by small integers, so that what is said of a hundred
 * thousand stands in plain arrays: what the feed says, what is wanted, what the kernel holds.
 */
export class Destinations {
  readonly #four = new PrefixTable(4);
  readonly #six = new PrefixTable(6);

  /** Every identifier of the family that is in use is below; the first is `firstId`, and each next one 2 more. */
  bound(family: Family): number {
    return family === 4 ? this.#four.bound * 2 : this.#six.bound * 2 + 1;
  }

  firstId(family: Family): DestinationId {
    return family === 4 ? 0 : 1;
  }

  /** A new one is retained by nobody until `retain`. */
  intern(cidr: Cidr): DestinationId {
    return familyOf(cidr) === 4 ? this.#four.internCidr(cidr) * 2 : this.#six.internCidr(cidr) * 2 + 1;
  }

  /** As `intern`, for each of a run, into the first places of `ids`; host bits do not count. */
  internRun(family: Family, { bytes, lengthAt, addressAt, stride, count }: PrefixRun, ids: Int32Array): void {
    const table = family === 4 ? this.#four : this.#six;
    const odd = family === 4 ? 0 : 1;
    for (let at = 0, place = 0; at < count; at++, place += stride)
      ids[at] = table.intern(bytes, addressAt + place, bytes[lengthAt + place] ?? 0) * 2 + odd;
  }

  find(cidr: Cidr): DestinationId | undefined {
    const four = familyOf(cidr) === 4;
    const id = (four ? this.#four : this.#six).findCidr(cidr);
    return id === undefined ? undefined : id * 2 + (four ? 0 : 1);
  }

  retain(id: DestinationId): void {
    this.#tableOf(id).retain(id >> 1);
  }

  release(id: DestinationId): void {
    this.#tableOf(id).release(id >> 1);
  }

  cidr(id: DestinationId): Cidr {
    return this.#tableOf(id).cidr(id >> 1);
  }

  family(id: DestinationId): Family {
    return id & 1 ? 6 : 4;
  }

  /** Bits. */
  length(id: DestinationId): number {
    return this.#tableOf(id).length(id >> 1);
  }

  /** Puts the prefixes of the identifiers from `from` on, all of one family, where the run says. */
  place(ids: Int32Array, from: number, { bytes, lengthAt, addressAt, stride, count }: PrefixRun): void {
    const six = (ids[from] ?? 0) & 1;
    const table = six ? this.#six : this.#four;
    for (let at = 0, place = 0; at < count; at++, place += stride) {
      const id = (ids[from + at] ?? 0) >> 1;
      bytes[lengthAt + place] = table.length(id);
      table.copy(id, bytes, addressAt + place, six ? 16 : 4);
    }
  }

  #tableOf(id: DestinationId): PrefixTable {
    return id & 1 ? this.#six : this.#four;
  }
}
