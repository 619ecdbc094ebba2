import { Writer } from '../base/bytes.ts';
import { type Family, octets as octetsOf } from '../model/address.ts';
import type { PrefixId, PrefixTable } from '../model/prefixes.ts';
import type { AttributeId, AttributeInterner } from './intern.ts';
import { type Codec, codes, extendedLength, optional, writeAttributes } from './wire/attributes.ts';
import { afiOf, unicast } from './wire/capabilities.ts';
import { headerLength, maxMessageLength, messageTypes } from './wire/framing.ts';

/** Octets of a chunk: many messages leave in one write. */
const chunkLength = 65_536;
/** Where messages are written before their chunk's length is known: by one packer at a time, between calls of `take`. */
const draft = new Uint8Array(chunkLength);

/** A prefix, and under ADD-PATH which of its paths: what a message lists. */
export interface PackedItems {
  readonly length: number;
  readonly prefixes: ArrayLike<PrefixId>;
  /** Absent: the receivers know one path of a prefix. RFC 7911 §3. */
  readonly paths?: ArrayLike<number>;
}

/** Writes UPDATE messages, each as full as it gets, end to end into chunks. RFC 4271 §4.3, 4760 §3, §4. */
export class UpdatePacker {
  /** Where the next message begins in `draft`. */
  #start = 0;
  #at = 0;
  #chunks: Uint8Array[] = [];

  constructor(
    private readonly family: Family,
    private readonly codec: Codec,
    /** Of the longest message. Those of 4096 octets, which everybody reads, are preferred. */
    private readonly most: number,
    private readonly prefixes: PrefixTable,
    private readonly interner: AttributeInterner,
  ) {}

  /** The chunks since the last call: no other packer may have written anything in between. */
  take(): Uint8Array[] {
    this.#close();
    const chunks = this.#chunks;
    this.#chunks = [];
    return chunks;
  }

  #close(): void {
    if (this.#start === 0) return;
    this.#chunks.push(draft.slice(0, this.#start));
    this.#start = 0;
  }

  /** @returns false when the attributes leave no room for a prefix */
  announce(id: AttributeId, items: PackedItems): boolean {
    const kept = this.interner.octets(id);
    const hopsEnd = kept[1] === codes.mpReach ? 3 + (kept[2] ?? 0) : 0;
    const hops = kept.subarray(Math.min(3, hopsEnd), hopsEnd);
    const octets = this.#encoded(id, kept.subarray(hopsEnd));
    const overhead = headerLength + 4 + octets.length + (hops.length > 0 ? 9 + hops.length : 0);
    const longestPrefix = (items.paths ? 5 : 1) + octetsOf(this.family);
    const most = overhead + longestPrefix <= maxMessageLength ? maxMessageLength : this.most;
    if (overhead + longestPrefix > most) return false;
    for (let from = 0; from < items.length; )
      from = hops.length > 0 ? this.#reach(hops, octets, items, from, most) : this.#nlri(octets, items, from, most);
    return true;
  }

  withdraw(items: PackedItems): void {
    for (let from = 0; from < items.length; )
      from = this.family === 4 ? this.#withdrawn(items, from) : this.#unreach(items, from);
  }

  /** As kept for a peer with four-octet AS numbers; towards another AS nothing that stays inside is in them. */
  #encoded(id: AttributeId, kept: Uint8Array): Uint8Array {
    if (this.codec.fourOctetAs) return kept;
    const w = new Writer(256);
    writeAttributes(w, this.interner.get(id), this.codec);
    return w.finish();
  }

  #nlri(octets: Uint8Array, items: PackedItems, from: number, most: number): number {
    this.#begin(most);
    this.#u16(0);
    this.#u16(octets.length);
    this.#octets(octets);
    const next = this.#items(items, from, this.#start + most);
    this.#end();
    return next;
  }

  #reach(hops: Uint8Array, octets: Uint8Array, items: PackedItems, from: number, most: number): number {
    this.#begin(most);
    this.#u16(0);
    const lengthAt = this.#skip16();
    const valueLengthAt = this.#attribute(codes.mpReach);
    this.#u8(hops.length);
    this.#octets(hops);
    this.#u8(0);
    const next = this.#items(items, from, this.#start + most - octets.length);
    this.#patch16(valueLengthAt);
    this.#octets(octets);
    this.#patch16(lengthAt);
    this.#end();
    return next;
  }

  #withdrawn(items: PackedItems, from: number): number {
    this.#begin(maxMessageLength);
    const lengthAt = this.#skip16();
    const next = this.#items(items, from, this.#start + maxMessageLength - 2);
    this.#patch16(lengthAt);
    this.#u16(0);
    this.#end();
    return next;
  }

  #unreach(items: PackedItems, from: number): number {
    this.#begin(maxMessageLength);
    this.#u16(0);
    const lengthAt = this.#skip16();
    const valueLengthAt = this.#attribute(codes.mpUnreach);
    const next = this.#items(items, from, this.#start + maxMessageLength);
    this.#patch16(valueLengthAt);
    this.#patch16(lengthAt);
    this.#end();
    return next;
  }

  /** Header of an optional attribute whose length comes later, and the family; returns where the length goes. */
  #attribute(code: number): number {
    this.#u8(optional | extendedLength);
    this.#u8(code);
    const lengthAt = this.#skip16();
    this.#u16(afiOf(this.family));
    this.#u8(unicast);
    return lengthAt;
  }

  /** As many as fit before `end`, at least one; returns the first that does not. */
  #items({ prefixes, paths, length }: PackedItems, from: number, end: number): number {
    let next = from;
    let at = this.#at;
    const table = this.prefixes;
    for (; next < length; next++) {
      const id = prefixes[next] ?? 0;
      if (at + table.size(id) + (paths ? 4 : 0) > end) break;
      if (paths) at = put32(draft, at, paths[next] ?? 0);
      at = table.put(id, draft, at);
    }
    this.#at = at;
    return next;
  }

  #begin(most: number): void {
    if (this.#start + most > chunkLength) this.#close();
    const start = this.#start;
    for (let i = 0; i < 16; i++) draft[start + i] = 0xff;
    this.#at = start + 18;
    this.#u8(messageTypes.update);
  }

  #end(): void {
    const length = this.#at - this.#start;
    draft[this.#start + 16] = length >>> 8;
    draft[this.#start + 17] = length;
    this.#start = this.#at;
  }

  #u8(value: number): void {
    draft[this.#at++] = value;
  }

  #u16(value: number): void {
    this.#u8(value >>> 8);
    this.#u8(value);
  }

  #octets(value: Uint8Array): void {
    const at = this.#at;
    // Mostly some dozens of octets, for which a block copy costs more than the loop.
    for (let i = 0; i < value.length; i++) draft[at + i] = value[i] ?? 0;
    this.#at = at + value.length;
  }

  #skip16(): number {
    this.#at += 2;
    return this.#at - 2;
  }

  /** The length of what follows the two octets at `at`. */
  #patch16(at: number): void {
    const length = this.#at - at - 2;
    draft[at] = length >>> 8;
    draft[at + 1] = length;
  }
}

function put32(into: Uint8Array, at: number, value: number): number {
  into[at] = value >>> 24;
  into[at + 1] = value >>> 16;
  into[at + 2] = value >>> 8;
  into[at + 3] = value;
  return at + 4;
}
