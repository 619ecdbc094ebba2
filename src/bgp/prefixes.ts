import type { Writer } from '../base/bytes.ts';
import { type Cidr, cidrOf, cidrParts, type Family, ipBytes } from '../model/address.ts';
import { octetsFor } from './wire/nlri.ts';
import type { PrefixWriter } from './wire/update.ts';

/** A prefix of one table as a small integer: valid while somebody retains it. */
export type PrefixId = number;

/**
 * All prefixes of a family that anything refers to, keyed by small integers, stored as packed octets. Identifiers are
 * reused once nobody retains them.
 */
export class PrefixTable implements PrefixWriter<PrefixId> {
  readonly #ids = new Map<number | string, PrefixId>();
  readonly #width: 4 | 16;
  #octets: Uint8Array;
  #lengths: Uint8Array;
  #references: Uint32Array;
  readonly #free: PrefixId[] = [];
  #allocated = 0;

  constructor(readonly family: Family) {
    this.#width = family === 4 ? 4 : 16;
    this.#octets = new Uint8Array(this.#width * 256);
    this.#lengths = new Uint8Array(256);
    this.#references = new Uint32Array(256);
  }

  /** Prefixes in use. */
  get count(): number {
    return this.#ids.size;
  }

  /** The identifier of a prefix on the wire (host bits do not count), if it is in use. */
  find(source: Uint8Array, at: number, length: number): PrefixId | undefined {
    return this.#ids.get(this.#key(source, at, length));
  }

  /** The identifier of a prefix on the wire; a new one is retained by nobody until `retain`. */
  intern(source: Uint8Array, at: number, length: number): PrefixId {
    const key = this.#key(source, at, length);
    const known = this.#ids.get(key);
    if (known !== undefined) return known;
    const id = this.#free.pop() ?? this.#grow();
    const start = id * this.#width;
    this.#octets.fill(0, start, start + this.#width);
    for (let i = octetsFor(length) - 1; i >= 0; i--) this.#octets[start + i] = source[at + i] ?? 0;
    const spare = length & 7;
    const last = start + (length >> 3);
    if (spare > 0) this.#octets[last] = (this.#octets[last] ?? 0) & (0xff << (8 - spare)) & 0xff;
    this.#lengths[id] = length;
    this.#references[id] = 0;
    this.#ids.set(key, id);
    return id;
  }

  internCidr(cidr: Cidr): PrefixId {
    const { address, length } = cidrParts(cidr);
    return this.intern(ipBytes(address), 0, length);
  }

  findCidr(cidr: Cidr): PrefixId | undefined {
    const { address, length } = cidrParts(cidr);
    return this.find(ipBytes(address), 0, length);
  }

  retain(id: PrefixId): void {
    this.#references[id] = (this.#references[id] ?? 0) + 1;
  }

  release(id: PrefixId): void {
    const left = (this.#references[id] ?? 0) - 1;
    if (left < 0) throw new Error(`prefix ${this.cidr(id)} released more often than retained`);
    this.#references[id] = left;
    if (left > 0) return;
    this.#ids.delete(this.#key(this.#octets, id * this.#width, this.#lengths[id] ?? 0));
    this.#free.push(id);
  }

  cidr(id: PrefixId): Cidr {
    const start = id * this.#width;
    return cidrOf(this.#octets.subarray(start, start + this.#width), this.#lengths[id] ?? 0);
  }

  /** Octets on the wire. */
  size(id: PrefixId): number {
    return 1 + octetsFor(this.#lengths[id] ?? 0);
  }

  write(w: Writer, id: PrefixId): void {
    const length = this.#lengths[id] ?? 0;
    const start = id * this.#width;
    const end = start + octetsFor(length);
    w.u8(length);
    for (let at = start; at < end; at++) w.u8(this.#octets[at] ?? 0);
  }

  #grow(): PrefixId {
    const id = this.#allocated++;
    if (id >= this.#lengths.length) {
      this.#octets = enlarged(this.#octets, new Uint8Array(this.#octets.length * 2));
      this.#lengths = enlarged(this.#lengths, new Uint8Array(this.#lengths.length * 2));
      this.#references = enlarged(this.#references, new Uint32Array(this.#references.length * 2));
    }
    return id;
  }

  /** IPv4: address × 64 + length, exact in a double. IPv6: the significant octets, masked, and the length, as text. */
  #key(source: Uint8Array, at: number, length: number): number | string {
    const whole = length >> 3;
    const spare = length & 7;
    const mask = (0xff << (8 - spare)) & 0xff;
    if (this.family === 4) {
      let value = 0;
      for (let i = 0; i < 4; i++) {
        const octet = i < whole ? (source[at + i] ?? 0) : i === whole && spare > 0 ? (source[at + i] ?? 0) & mask : 0;
        value = value * 256 + octet;
      }
      return value * 64 + length;
    }
    let text = String.fromCharCode(length);
    for (let i = 0; i < whole; i++) text += String.fromCharCode(source[at + i] ?? 0);
    return spare > 0 ? text + String.fromCharCode((source[at + whole] ?? 0) & mask) : text;
  }
}

function enlarged<T extends Uint8Array | Uint32Array>(from: T, into: T): T {
  into.set(from);
  return into;
}
