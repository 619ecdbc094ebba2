import { Writer } from '../base/bytes.ts';
import { fitting, IdIndex, mixed } from '../base/id-index.ts';
import { familyOf, type Ip } from '../model/address.ts';
import { octetsOf } from './wire/addresses.ts';
import { type Attributes, codes, optional, writeAttribute, writeAttributes } from './wire/attributes.ts';
import { type KnownAttributes, readStoredAttributes } from './wire/update.ts';

/** Interned attributes as a small integer, never 0: valid while somebody retains it. */
export type AttributeId = number;

/** Sets of attributes whose parsed form is remembered: few, since those that live long burden the collector. */
const remembered = 1024;
/** Received octets that a session of this kind reads into just these attributes, without a fault. */
const asReceived = { internal: 1, external: 2 } as const;

/**
 * Distinct sets of attributes, keyed by small integers and kept as octets: in the form in which a peer of our own AS
 * with four-octet AS numbers is told them, an IPv6 next hop before them as a shortened MP_REACH_NLRI. What a peer sent
 * in that form is found again without being parsed. What nobody retains any longer goes with the next `sweep`.
 */
export class AttributeInterner implements KnownAttributes {
  readonly #index = new IdIndex();
  #octets = new Uint8Array(4096);
  #used = 0;
  /** Octets of sets that are gone. */
  #wasted = 0;
  #starts = new Uint32Array(64);
  #lengths = new Uint32Array(64);
  #hashes = new Int32Array(64);
  #references = new Uint32Array(64);
  #received = new Uint8Array(64);
  #allocated = 1;
  readonly #free: AttributeId[] = [];
  /** Those that nobody retained at some moment since the last sweep. */
  #idle: AttributeId[] = [];
  readonly #parsed: (Attributes | undefined)[] = [];
  readonly #parsedIds = new Int32Array(remembered);

  /** Distinct sets of attributes (before a sweep also those that nobody retains). */
  get count(): number {
    return this.#index.count;
  }

  /** The identifier of these attributes; a new one is retained by nobody until `retain`, and lasts until a sweep. */
  intern(attributes: Attributes): AttributeId {
    scratch.clear();
    writeStored(scratch, attributes);
    return this.internOctets(scratch.view());
  }

  /** @param octets in the form in which attributes are kept */
  internOctets(octets: Uint8Array): AttributeId {
    const hash = hashOf(octets, 0, octets.length);
    const known = this.#lookup(octets, hash, 0, octets.length);
    if (known > 0) return known;
    const id = this.#free.pop() ?? this.#allocated++;
    this.#reserve(id, octets.length);
    this.#octets.set(octets, this.#used);
    this.#starts[id] = this.#used;
    this.#lengths[id] = octets.length;
    this.#used += octets.length;
    this.#hashes[id] = hash;
    this.#references[id] = 0;
    this.#received[id] = 0;
    this.#index.insert(id, this.#hashes);
    this.#idle.push(id);
    return id;
  }

  /** @returns 0 when no session of the kind has received just these octets */
  find(octets: Uint8Array, external: boolean, from: number, to: number): AttributeId {
    const id = this.#lookup(octets, hashOf(octets, from, to), from, to);
    return ((this.#received[id] ?? 0) & (external ? asReceived.external : asReceived.internal)) === 0 ? 0 : id;
  }

  add(octets: Uint8Array, external: boolean, attributes: Attributes): AttributeId {
    const id = this.internOctets(octets);
    this.#received[id] = (this.#received[id] ?? 0) | (external ? asReceived.external : asReceived.internal);
    this.#remember(id, attributes);
    return id;
  }

  get(id: AttributeId): Attributes {
    const at = id & (remembered - 1);
    const known = this.#parsedIds[at] === id ? this.#parsed[at] : undefined;
    return known ?? this.#remember(id, readStoredAttributes(this.octets(id)));
  }

  /** As kept; a view that holds until the next set is interned. */
  octets(id: AttributeId): Uint8Array {
    const start = this.#starts[id] ?? 0;
    return this.#octets.subarray(start, start + (this.#lengths[id] ?? 0));
  }

  retain(id: AttributeId): void {
    this.#references[id] = (this.#references[id] ?? 0) + 1;
  }

  release(id: AttributeId): void {
    const left = (this.#references[id] ?? 0) - 1;
    if (left < 0) throw new Error(`attributes ${id} released more often than retained`);
    this.#references[id] = left;
    if (left === 0) this.#idle.push(id);
  }

  /** Lets go of what nobody retains. Only where no identifier is held that has not been retained. */
  sweep(): void {
    const idle = this.#idle;
    if (idle.length === 0) return;
    this.#idle = [];
    for (const id of idle) {
      if ((this.#references[id] ?? 0) > 0 || this.#lengths[id] === gone) continue;
      this.#index.remove(id, this.#hashes);
      this.#wasted += this.#lengths[id] ?? 0;
      this.#lengths[id] = gone;
      const at = id & (remembered - 1);
      if (this.#parsedIds[at] === id) this.#parsedIds[at] = 0;
      this.#free.push(id);
    }
    if (this.#wasted > 65_536 && this.#wasted * 2 > this.#used) this.#compact();
  }

  #remember(id: AttributeId, attributes: Attributes): Attributes {
    const at = id & (remembered - 1);
    this.#parsedIds[at] = id;
    this.#parsed[at] = attributes;
    return attributes;
  }

  #reserve(id: AttributeId, length: number): void {
    this.#octets = fitting(this.#octets, this.#used + length);
    this.#starts = fitting(this.#starts, id);
    this.#lengths = fitting(this.#lengths, id);
    this.#hashes = fitting(this.#hashes, id);
    this.#references = fitting(this.#references, id);
    this.#received = fitting(this.#received, id);
  }

  /** Moves what is kept together. */
  #compact(): void {
    const into = new Uint8Array(Math.max(4096, (this.#used - this.#wasted) * 2));
    let used = 0;
    for (let id = 1; id < this.#allocated; id++) {
      const length = this.#lengths[id] ?? gone;
      if (length === gone) continue;
      const start = this.#starts[id] ?? 0;
      into.set(this.#octets.subarray(start, start + length), used);
      this.#starts[id] = used;
      used += length;
    }
    this.#octets = into;
    this.#used = used;
    this.#wasted = 0;
  }

  /** 0: not known. */
  #lookup(octets: Uint8Array, hash: number, from: number, to: number): AttributeId {
    const { table, mask } = this.#index;
    for (let at = hash & mask; ; at = (at + 1) & mask) {
      const id = (table[at] ?? 0) - 1;
      if (id < 0) return 0;
      if (this.#hashes[id] === hash && this.#holds(id, octets, from, to)) return id;
    }
  }

  #holds(id: AttributeId, octets: Uint8Array, from: number, to: number): boolean {
    if (this.#lengths[id] !== to - from) return false;
    const kept = this.#octets;
    const offset = (this.#starts[id] ?? 0) - from;
    for (let i = from; i < to; i++) if (kept[offset + i] !== octets[i]) return false;
    return true;
  }
}

/** Length of a set that is no longer kept. */
const gone = 0xffffffff;

function hashOf(octets: Uint8Array, from: number, to: number): number {
  let hash = to - from;
  for (let i = from; i < to; i++) hash = Math.imul(hash ^ (octets[i] ?? 0), 0x01000193);
  return mixed(hash);
}

const scratch = new Writer(512);

function writeStored(w: Writer, attributes: Attributes): void {
  const { nextHop, linkLocal } = attributes;
  if (nextHop !== undefined && familyOf(nextHop) === 6)
    writeAttribute(w, optional, codes.mpReach, hopOctets(nextHop, linkLocal));
  writeAttributes(w, attributes, { fourOctetAs: true, external: false });
}

function hopOctets(nextHop: Ip, linkLocal: Ip | undefined): Uint8Array {
  return linkLocal === undefined ? octetsOf(nextHop) : Buffer.concat([octetsOf(nextHop), octetsOf(linkLocal)]);
}
