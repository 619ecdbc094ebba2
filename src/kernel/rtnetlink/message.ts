import { endianness } from 'node:os';
import { TruncatedError } from '../../base/bytes.ts';

/*
 * Netlink framing: `struct nlmsghdr` and attributes (`struct nlattr`), in host byte order, padded to four octets
 * (linux/netlink.h). Nothing here knows what the messages mean.
 */

const little = endianness() === 'LE';
/** Octets of `struct nlmsghdr`. */
export const messageHeader = 16;

/** Kernel bytes that do not hold together. */
export class NetlinkFormatError extends Error {
  override readonly name = 'NetlinkFormatError';
}

/** One `struct nlmsghdr` with its payload, a view into the datagram. */
export interface Message {
  readonly type: number;
  readonly flags: number;
  readonly sequence: number;
  readonly payload: Uint8Array;
}

/** Attribute type (without the nested and byte-order flags) → payload; the last of equal types wins. */
export type Attributes = ReadonlyMap<number, Uint8Array>;

/** The messages of one datagram. @throws NetlinkFormatError */
export function* readMessages(datagram: Uint8Array): Generator<Message> {
  for (let at = 0; at < datagram.length; ) {
    if (datagram.length - at < messageHeader)
      throw new NetlinkFormatError(`${datagram.length - at} octets of a header`);
    const length = hostU32(datagram, at);
    if (length < messageHeader || length > datagram.length - at)
      throw new NetlinkFormatError(`message length ${length} of ${datagram.length - at} octets`);
    yield {
      type: hostU16(datagram, at + 4),
      flags: hostU16(datagram, at + 6),
      sequence: hostU32(datagram, at + 8),
      payload: datagram.subarray(at + messageHeader, at + length),
    };
    at += padded(length);
  }
}

/** The attributes from `start` on. @throws NetlinkFormatError */
export function readAttributes(bytes: Uint8Array, start: number): Attributes {
  const found = new Map<number, Uint8Array>();
  for (let at = start; bytes.length - at >= 4; ) {
    const length = hostU16(bytes, at);
    if (length < 4 || length > bytes.length - at)
      throw new NetlinkFormatError(`attribute length ${length} of ${bytes.length - at} octets`);
    found.set(hostU16(bytes, at + 2) & 0x3fff, bytes.subarray(at + 4, at + length));
    at += padded(length);
  }
  return found;
}

export function hostU16(bytes: Uint8Array, at: number): number {
  need(bytes, at, 2);
  const first = bytes[at] ?? 0;
  const second = bytes[at + 1] ?? 0;
  return little ? first | (second << 8) : (first << 8) | second;
}

export function hostI32(bytes: Uint8Array, at: number): number {
  need(bytes, at, 4);
  const low = hostU16(bytes, little ? at : at + 2);
  return low | (hostU16(bytes, little ? at + 2 : at) << 16);
}

export function hostU32(bytes: Uint8Array, at: number): number {
  return hostI32(bytes, at) >>> 0;
}

/** The octets as 32-bit words in host order, a view; undefined where they do not stand or end at a multiple of four. */
export function hostWords(bytes: Uint8Array): Int32Array | undefined {
  if (((bytes.byteOffset | bytes.length) & 3) !== 0) return undefined;
  return new Int32Array(bytes.buffer, bytes.byteOffset, bytes.length >> 2);
}

/** Of the second word of a header: the message's type. */
export function typeIn(word: number): number {
  return little ? word & 0xffff : word >>> 16;
}

/** Of the second word of a header: its flags. */
export function flagsIn(word: number): number {
  return little ? word >>> 16 : word & 0xffff;
}

/** Every bit of a word but those of its second octet. */
export const butSecondOctet = little ? ~0xff00 : ~0xff0000;

export function secondOctet(word: number): number {
  return (word >>> (little ? 8 : 16)) & 0xff;
}

/** A NUL-terminated string attribute. */
export function text(bytes: Uint8Array): string {
  const end = bytes.indexOf(0);
  return Buffer.from(bytes.subarray(0, end < 0 ? bytes.length : end)).toString('utf8');
}

/** A growing buffer of messages; `begin`/`end` bracket a message, `nest`/`close` a nested attribute. */
export class MessageWriter {
  #bytes: Uint8Array;
  #view: DataView;
  #words: Int32Array;
  #length = 0;

  constructor(capacity = 4096) {
    this.#bytes = new Uint8Array(padded(capacity));
    this.#view = new DataView(this.#bytes.buffer);
    this.#words = new Int32Array(this.#bytes.buffer);
  }

  get length(): number {
    return this.#length;
  }

  /** What was written: a view that the next write may invalidate. */
  get written(): Uint8Array {
    return this.#bytes.subarray(0, this.#length);
  }

  clear(): void {
    this.#length = 0;
  }

  /** Takes back what was written from there on. */
  truncate(length: number): void {
    this.#length = Math.min(this.#length, length);
  }

  /** Writes a header; returns where it stands, for `end`. */
  begin(type: number, flags: number, sequence: number): number {
    const at = this.#grow(messageHeader);
    const words = this.#words;
    const first = at >>> 2;
    words[first] = 0;
    words[first + 1] = little ? type | (flags << 16) : (type << 16) | flags;
    words[first + 2] = sequence;
    words[first + 3] = 0;
    return at;
  }

  /** Sets the length of the message that `begin` started and pads. */
  end(at: number): void {
    this.#words[at >>> 2] = this.#length - at;
    this.#pad();
  }

  u8(value: number): void {
    const at = this.#grow(1);
    this.#view.setUint8(at, value);
  }

  u16(value: number): void {
    const at = this.#grow(2);
    this.#view.setUint16(at, value, little);
  }

  u32(value: number): void {
    const at = this.#grow(4);
    this.#view.setUint32(at, value, little);
  }

  u64(value: number): void {
    const at = this.#grow(8);
    this.#view.setBigUint64(at, BigInt(value), little);
  }

  attribute(type: number, payload: Uint8Array): void {
    const at = this.nest(type);
    const start = this.#grow(payload.length);
    this.#bytes.set(payload, start);
    this.close(at);
  }

  attributeU32(type: number, value: number): void {
    const at = this.#grow(8);
    this.#view.setUint16(at, 8, little);
    this.#view.setUint16(at + 2, type, little);
    this.#view.setUint32(at + 4, value, little);
  }

  /** An attribute of four octets in network order. */
  attributeOctets4(type: number, value: number): void {
    const at = this.#grow(8);
    this.#view.setUint16(at, 8, little);
    this.#view.setUint16(at + 2, type, little);
    this.#view.setUint32(at + 4, value);
  }

  /** All that was written and room for more: valid until the next write. */
  get buffer(): Uint8Array {
    return this.#bytes;
  }

  /** Writes words in host order as they are, where a multiple of four octets was written; returns where they begin. */
  append(words: Int32Array): number {
    const at = this.#grow(words.length * 4);
    this.#words.set(words, at >>> 2);
    return at;
  }

  /**
   * Writes a whole message, in host order, so many times, numbered from `sequence` on; returns where the first begins.
   */
  repeat(message: Int32Array, count: number, sequence: number): number {
    const at = this.#grow(message.length * 4 * count);
    const words = this.#words;
    const first = at >>> 2;
    const end = first + message.length * count;
    words.set(message, first);
    // Twice as many each time.
    for (let next = first + message.length; next < end; next += next - first)
      words.copyWithin(next, first, first + Math.min(next - first, end - next));
    for (let i = first + 2, number = sequence; i < end; i += message.length, number++) words[i] = number;
    return at;
  }

  /** Adds flags to those of the message that begins there. */
  addFlags(at: number, flags: number): void {
    const kind = (at >>> 2) + 1;
    this.#words[kind] = (this.#words[kind] ?? 0) | (little ? flags << 16 : flags);
  }

  /** Four octets. */
  octets4(a: number, b: number, c: number, d: number): void {
    const at = this.#grow(4);
    this.#view.setUint32(at, ((a << 24) | (b << 16) | (c << 8) | d) >>> 0);
  }

  attributeText(type: number, value: string): void {
    this.attribute(type, Buffer.from(`${value}\0`, 'utf8'));
  }

  /** Opens an attribute (or anything that begins with its own 16-bit length); returns where, for `close`. */
  nest(type: number): number {
    const at = this.#grow(4);
    this.#view.setUint16(at, 0, little);
    this.#view.setUint16(at + 2, type, little);
    return at;
  }

  /** Sets the 16-bit length at `at` to all that was written since, and pads. */
  close(at: number): void {
    this.#view.setUint16(at, this.#length - at, little);
    this.#pad();
  }

  #pad(): void {
    // The buffer is used again: what is not written over must be cleared.
    while (this.#length & 3) this.u8(0);
  }

  #grow(by: number): number {
    const at = this.#length;
    const need = at + by;
    if (need > this.#bytes.length) {
      const larger = new Uint8Array(padded(Math.max(need, this.#bytes.length * 2)));
      larger.set(this.#bytes.subarray(0, at));
      this.#bytes = larger;
      this.#view = new DataView(larger.buffer);
      this.#words = new Int32Array(larger.buffer);
    }
    this.#length = need;
    return at;
  }
}

/** Messages and attributes begin at multiples of four. */
export function padded(length: number): number {
  return (length + 3) & ~3;
}

function need(bytes: Uint8Array, at: number, length: number): void {
  if (at + length > bytes.length) throw new TruncatedError('netlink', length, bytes.length - at);
}
