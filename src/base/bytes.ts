/** Thrown by a Reader that is asked for more than is there; the caller's codec turns it into its own error. */
export class TruncatedError extends Error {
  override readonly name = 'TruncatedError';
  constructor(
    readonly field: string,
    readonly wanted: number,
    readonly left: number,
  ) {
    super(`${field}: ${wanted} octets wanted, ${left} left`);
  }
}

/** A checked cursor over network-order bytes: it throws past the end and never clamps. */
export class Reader {
  #at: number;
  readonly #end: number;

  constructor(
    readonly buffer: Uint8Array,
    start = 0,
    end = buffer.length,
  ) {
    if (start < 0 || end > buffer.length || start > end)
      throw new TruncatedError('reader', end - start, buffer.length - start);
    this.#at = start;
    this.#end = end;
  }

  get left(): number {
    return this.#end - this.#at;
  }

  get offset(): number {
    return this.#at;
  }

  u8(field: string): number {
    return this.buffer[this.#take(1, field)] ?? 0;
  }

  u16(field: string): number {
    const at = this.#take(2, field);
    return ((this.buffer[at] ?? 0) << 8) | (this.buffer[at + 1] ?? 0);
  }

  u32(field: string): number {
    const { buffer } = this;
    const at = this.#take(4, field);
    const high = ((buffer[at] ?? 0) << 8) | (buffer[at + 1] ?? 0);
    return high * 0x10000 + (((buffer[at + 2] ?? 0) << 8) | (buffer[at + 3] ?? 0));
  }

  skip(length: number, field: string): void {
    this.#take(length, field);
  }

  /** A view, not a copy. */
  bytes(length: number, field: string): Uint8Array {
    const at = this.#take(length, field);
    return this.buffer.subarray(at, at + length);
  }

  /** A reader over the next `length` octets, which this one skips. */
  sub(length: number, field: string): Reader {
    const at = this.#take(length, field);
    return new Reader(this.buffer, at, at + length);
  }

  #take(length: number, field: string): number {
    if (length < 0 || length > this.left) throw new TruncatedError(field, length, this.left);
    const at = this.#at;
    this.#at += length;
    return at;
  }
}

/** A growing network-order buffer. */
export class Writer {
  #bytes: Uint8Array;
  #length = 0;

  constructor(capacity = 256) {
    this.#bytes = new Uint8Array(capacity);
  }

  get length(): number {
    return this.#length;
  }

  u8(value: number): void {
    const at = this.#grow(1);
    this.#bytes[at] = value;
  }

  u16(value: number): void {
    const at = this.#grow(2);
    this.#bytes[at] = value >>> 8;
    this.#bytes[at + 1] = value;
  }

  u32(value: number): void {
    const at = this.#grow(4);
    this.#bytes[at] = value >>> 24;
    this.#bytes[at + 1] = value >>> 16;
    this.#bytes[at + 2] = value >>> 8;
    this.#bytes[at + 3] = value;
  }

  bytes(value: Uint8Array): void {
    const at = this.#grow(value.length);
    this.#bytes.set(value, at);
  }

  /** Overwrites one octet written before, for lengths known only afterwards. */
  patch8(at: number, value: number): void {
    if (at + 1 > this.#length) throw new RangeError(`patch at ${at} past ${this.#length}`);
    this.#bytes[at] = value;
  }

  /** Overwrites two octets written before, for lengths known only afterwards. */
  patch16(at: number, value: number): void {
    if (at + 2 > this.#length) throw new RangeError(`patch at ${at} past ${this.#length}`);
    this.#bytes[at] = value >>> 8;
    this.#bytes[at + 1] = value;
  }

  /** Forgets what was written, to be used again. */
  clear(): void {
    this.#length = 0;
  }

  /** Appends what another writer holds. */
  append(other: Writer): void {
    const at = this.#grow(other.#length);
    const from = other.#bytes;
    const to = this.#bytes;
    // Mostly a few octets, for which a view and a block copy cost more than the loop.
    for (let i = 0; i < other.#length; i++) to[at + i] = from[i] ?? 0;
  }

  /** What was written as text, one character for each octet. */
  latin1(): string {
    return Buffer.from(this.#bytes.buffer, 0, this.#length).toString('latin1');
  }

  /** What was written, to be read before anything else is written. */
  view(): Uint8Array {
    return this.#bytes.subarray(0, this.#length);
  }

  /** A copy of what was written. */
  finish(): Uint8Array {
    return this.#bytes.slice(0, this.#length);
  }

  #grow(by: number): number {
    const at = this.#length;
    const need = at + by;
    if (need > this.#bytes.length) {
      const larger = new Uint8Array(Math.max(need, this.#bytes.length * 2));
      larger.set(this.#bytes);
      this.#bytes = larger;
    }
    this.#length = need;
    return at;
  }
}
