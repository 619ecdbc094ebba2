import type { Writer } from '../base/bytes.ts';
import { fitting, IdIndex, mixed } from '../base/id-index.ts';
import { type Cidr, cidrOf, cidrParts, type Family, ipBytes } from './address.ts';

/** Identifiers tried after the one found last: what is told in order is asked for in order, perhaps with gaps. */
const ahead = 4;

/** A prefix of one table as a small integer: valid while somebody retains it. */
export type PrefixId = number;

/**
 * All prefixes of a family that anything refers to, keyed by small integers, in packed arrays without an object or a
 * text for any of them. Identifiers are reused once nobody retains them.
 */
export class PrefixTable {
  readonly #index = new IdIndex();
  /** Words of 32 bits that an address takes. */
  readonly #width: 1 | 4;
  /** The prefix that is looked for, masked. */
  readonly #key: Int32Array;
  /** Octets of the prefix that was given as text last. */
  #parsed: Uint8Array = new Uint8Array(4);
  #words: Int32Array;
  #lengths = new Uint8Array(256);
  #hashes = new Int32Array(256);
  #references = new Uint32Array(256);
  /** The free identifiers, chained through `#hashes`: + 1, 0 ends. */
  #free = 0;
  #allocated = 0;
  /** The identifier after the one found last. */
  #next = 0;

  constructor(readonly family: Family) {
    this.#width = family === 4 ? 1 : 4;
    this.#key = new Int32Array(this.#width);
    this.#words = new Int32Array(this.#width * 256);
  }

  /** Prefixes in use. */
  get count(): number {
    return this.#index.count;
  }

  /** Every identifier in use is below. */
  get bound(): number {
    return this.#allocated;
  }

  /** The identifier of a prefix on the wire (host bits do not count), if it is in use. */
  find(source: Uint8Array, at: number, length: number): PrefixId | undefined {
    this.#load(source, at, length);
    const next = this.#following(length);
    const id = next >= 0 ? next : this.#lookup(this.#hash(length), length);
    this.#next = id + 1;
    return id < 0 ? undefined : id;
  }

  /** The identifier of a prefix on the wire; a new one is retained by nobody until `retain`. */
  intern(source: Uint8Array, at: number, length: number): PrefixId {
    this.#load(source, at, length);
    const next = this.#following(length);
    if (next >= 0) {
      this.#next = next + 1;
      return next;
    }
    const hash = this.#hash(length);
    const known = this.#lookup(hash, length);
    this.#next = known + 1;
    if (known >= 0) return known;
    const id = this.#allocate();
    const width = this.#width;
    for (let i = 0; i < width; i++) this.#words[id * width + i] = this.#key[i] ?? 0;
    this.#lengths[id] = length;
    this.#hashes[id] = hash;
    this.#references[id] = 0;
    this.#index.insert(id, this.#hashes);
    return id;
  }

  internCidr(cidr: Cidr): PrefixId {
    const length = this.#parse(cidr);
    return this.intern(this.#parsed, 0, length);
  }

  findCidr(cidr: Cidr): PrefixId | undefined {
    const length = this.#parse(cidr);
    return this.find(this.#parsed, 0, length);
  }

  retain(id: PrefixId): void {
    this.#references[id] = (this.#references[id] ?? 0) + 1;
  }

  release(id: PrefixId): void {
    const left = (this.#references[id] ?? 0) - 1;
    if (left < 0) throw new Error(`prefix ${this.cidr(id)} released more often than retained`);
    this.#references[id] = left;
    if (left > 0) return;
    this.#index.remove(id, this.#hashes);
    this.#hashes[id] = this.#free;
    this.#free = id + 1;
  }

  cidr(id: PrefixId): Cidr {
    const octets = new Uint8Array(this.#width * 4);
    this.copy(id, octets, 0, octets.length);
    return cidrOf(octets, this.length(id));
  }

  /** Bits. */
  length(id: PrefixId): number {
    return this.#lengths[id] ?? 0;
  }

  /** Writes the first `count` octets of the prefix's address. */
  copy(id: PrefixId, into: Uint8Array, at: number, count: number): void {
    const words = this.#words;
    if (this.#width === 1 && count === 4) {
      const word = words[id] ?? 0;
      into[at] = word >>> 24;
      into[at + 1] = word >>> 16;
      into[at + 2] = word >>> 8;
      into[at + 3] = word;
      return;
    }
    const start = id * this.#width;
    for (let i = 0; i < count; i++) into[at + i] = (words[start + (i >> 2)] ?? 0) >>> (24 - 8 * (i & 3));
  }

  /** Octets on the wire. */
  size(id: PrefixId): number {
    return 1 + octetsFor(this.#lengths[id] ?? 0);
  }

  write(w: Writer, id: PrefixId): void {
    const octets = new Uint8Array(this.size(id));
    this.put(id, octets, 0);
    w.bytes(octets);
  }

  /** Writes the prefix as it stands on the wire; returns where the next one goes. */
  put(id: PrefixId, into: Uint8Array, at: number): number {
    const length = this.#lengths[id] ?? 0;
    const count = octetsFor(length);
    into[at] = length;
    this.copy(id, into, at + 1, count);
    return at + 1 + count;
  }

  #allocate(): PrefixId {
    if (this.#free > 0) {
      const id = this.#free - 1;
      this.#free = this.#hashes[id] ?? 0;
      return id;
    }
    const id = this.#allocated++;
    this.#words = fitting(this.#words, id * this.#width + this.#width - 1);
    this.#lengths = fitting(this.#lengths, id);
    this.#hashes = fitting(this.#hashes, id);
    this.#references = fitting(this.#references, id);
    return id;
  }

  /** Leaves the octets of canonical text in `#parsed`; returns the length in bits. */
  #parse(cidr: Cidr): number {
    if (this.family === 4) return parseCidr4(cidr, this.#parsed);
    const { address, length } = cidrParts(cidr);
    this.#parsed = ipBytes(address);
    return length;
  }

  /** Makes the masked prefix the key. */
  #load(source: Uint8Array, at: number, length: number): void {
    if (this.#width === 1) {
      this.#key[0] = masked32(source, at, length);
      return;
    }
    const end = at + octetsFor(length);
    for (let word = 0; word < this.#width; word++) {
      const from = at + word * 4;
      const bits = length - word * 32;
      let value = 0;
      if (bits > 0) {
        for (let i = from; i < from + 4; i++) value = (value << 8) | (i < end ? (source[i] ?? 0) : 0);
        if (bits < 32) value &= -1 << (32 - bits);
      }
      this.#key[word] = value;
    }
  }

  #hash(length: number): number {
    let hash = length;
    for (let word = 0; word < this.#width; word++) hash = mixed(Math.imul(hash, 31) ^ (this.#key[word] ?? 0));
    return hash;
  }

  /** The key's identifier where it is among the next few; -1 otherwise. */
  #following(length: number): PrefixId {
    const end = Math.min(this.#next + ahead, this.#allocated);
    for (let id = this.#next; id < end; id++)
      if (this.#isKey(id) && this.#lengths[id] === length && (this.#references[id] ?? 0) > 0) return id;
    return -1;
  }

  /** -1: not in use. */
  #lookup(hash: number, length: number): PrefixId {
    const { table, mask } = this.#index;
    for (let at = hash & mask; ; at = (at + 1) & mask) {
      const id = (table[at] ?? 0) - 1;
      if (id < 0) return -1;
      if (this.#isKey(id) && this.#lengths[id] === length) return id;
    }
  }

  #isKey(id: PrefixId): boolean {
    const width = this.#width;
    for (let i = 0; i < width; i++) if (this.#words[id * width + i] !== this.#key[i]) return false;
    return true;
  }
}

/** Canonical IPv4 text → octets, put into `into`, and length: a hundred thousand pass here at once. */
function parseCidr4(cidr: Cidr, into: Uint8Array): number {
  let value = 0;
  let octet = 0;
  for (let i = 0; i < cidr.length; i++) {
    const code = cidr.charCodeAt(i);
    if (code >= 48) value = value * 10 + code - 48;
    else {
      into[octet++] = value;
      value = 0;
    }
  }
  return value;
}

/** The first bits of an address whose octets may end with them. */
function masked32(source: Uint8Array, at: number, length: number): number {
  if (length === 0) return 0;
  let value = (source[at] ?? 0) << 24;
  if (length > 8) value |= (source[at + 1] ?? 0) << 16;
  if (length > 16) value |= (source[at + 2] ?? 0) << 8;
  if (length > 24) value |= source[at + 3] ?? 0;
  return value & (-1 << (32 - length));
}

/** Octets that hold so many bits. */
function octetsFor(length: number): number {
  return (length + 7) >> 3;
}
