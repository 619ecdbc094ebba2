import { type Cidr, cidrParts, type Family, familyOf, ipBytes, octets } from '../../model/address.ts';
import { formOf } from '../route.ts';
import type { RouteForm } from '../types.ts';
import { cidr4, familyFrom, network32, readCidr } from './address-bytes.ts';
import { RTA_DST } from './constants.ts';
import { butSecondOctet, hostU16, hostWords, NetlinkFormatError, padded } from './message.ts';
import { type NameOf, readRoute } from './route.ts';

/** Forms kept apart; of a table with more, some are taken apart again. */
const formLimit = 4096;
/** Where the attributes begin, after `struct rtmsg`. */
const attributes = 12;

/** A payload that was read before: one that equals it but for the destination is of the same form. */
interface Known {
  /** The payload, as 32-bit words in host order, and of them those that hold the destination. */
  readonly words: Int32Array;
  readonly from: number;
  readonly to: number;
  /** Undefined for what a Route cannot say. */
  readonly form: RouteForm | undefined;
}

/**
 * Reads the routes of one family and moment. A hundred thousand differ in their destinations and hardly in anything else, so a
 * payload is compared with those that were read before, and only the first of a form is taken apart.
 */
export class RouteScanner {
  /** Of the last route: where its destination's octets begin, and the prefix's length in bits. */
  bytes: Uint8Array = new Uint8Array(16);
  at = 0;
  length = 0;
  /** The buffer that `#view` looks at. */
  #viewed: Uint8Array = this.bytes;
  #view: Int32Array | undefined = hostWords(this.bytes);
  #last: Known | undefined;
  readonly #byHash = new Map<number, Known>();

  constructor(
    private readonly nameOf: NameOf,
    /** Of all the routes. */
    private readonly family: Family,
  ) {}

  /**
   * The payload of RTM_NEWROUTE or RTM_DELROUTE from `start` to `end`, a view of a whole buffer: the same form again for
   * routes alike. Undefined for what `readRoute` does not read. @throws NetlinkFormatError, TruncatedError
   */
  scan(bytes: Uint8Array, start: number, end: number): RouteForm | undefined {
    const known = this.#known(bytes, start, end);
    if (!known) return this.#apart(bytes, start, end);
    const length = bytes[start + 1] ?? 0;
    if (length > (known.to - known.from) * 32) throw new NetlinkFormatError(`prefix of length ${length}`);
    this.bytes = bytes;
    this.at = start + known.from * 4;
    this.length = length;
    return known.form;
  }

  /** Of the last route, as text. @throws NetlinkFormatError */
  destination(): Cidr {
    if (this.family === 4) return cidr4(network32(this.bytes, this.at), this.length);
    return readCidr(this.bytes.subarray(this.at, this.at + octets(6)), this.length, 6);
  }

  /** Undefined for a payload that nothing can be compared with: the default route's has no destination. */
  #known(bytes: Uint8Array, start: number, end: number): Known | undefined {
    const view = this.#viewOf(bytes);
    if (!view || ((start | end) & 3) !== 0) return undefined;
    const first = start >>> 2;
    const count = (end - start) >>> 2;
    if (this.#last && alike(this.#last, view, first, count)) return this.#last;
    if (familyFrom(bytes[start] ?? 0) !== this.family) return undefined;
    const from = destinationIn(bytes, start, end, octets(this.family));
    if (from === undefined) return undefined;
    const to = from + octets(this.family) / 4;
    const hash = hashOf(view.subarray(first, first + count), from, to);
    const found = this.#byHash.get(hash);
    if (found && alike(found, view, first, count)) {
      this.#last = found;
      return found;
    }
    const route = readRoute(bytes.subarray(start, end), this.nameOf);
    const words = view.slice(first, first + count);
    const known: Known = { words, from, to, form: route && formOf(route) };
    if (this.#byHash.size >= formLimit) this.#byHash.clear();
    this.#byHash.set(hash, known);
    this.#last = known;
    return known;
  }

  #apart(bytes: Uint8Array, start: number, end: number): RouteForm | undefined {
    const route = readRoute(bytes.subarray(start, end), this.nameOf);
    if (!route || familyOf(route.destination) !== this.family) return undefined;
    const { address, length } = cidrParts(route.destination);
    this.bytes = ipBytes(address);
    this.at = 0;
    this.length = length;
    return formOf(route);
  }

  #viewOf(bytes: Uint8Array): Int32Array | undefined {
    if (this.#viewed !== bytes) {
      this.#viewed = bytes;
      this.#view = hostWords(bytes);
    }
    return this.#view;
  }
}

/** Equal but for the destination and its length, the second octet. */
function alike({ words, from, to }: Known, view: Int32Array, first: number, count: number): boolean {
  if (count !== words.length) return false;
  if ((((view[first] ?? 0) ^ (words[0] ?? 0)) & butSecondOctet) !== 0) return false;
  for (let at = 1; at < from; at++) if (view[first + at] !== words[at]) return false;
  for (let at = to; at < count; at++) if (view[first + at] !== words[at]) return false;
  return true;
}

function hashOf(words: Int32Array, from: number, to: number): number {
  let hash = words.length;
  for (let at = 1; at < words.length; at++)
    if (at < from || at >= to) {
      hash = Math.imul(hash ^ (words[at] ?? 0), 0x9e3779b1);
      hash ^= hash >>> 15;
    }
  return hash;
}

/** The word at which RTA_DST's payload of so many octets begins. */
function destinationIn(bytes: Uint8Array, start: number, end: number, count: number): number | undefined {
  for (let at = start + attributes; end - at >= 4; ) {
    const length = hostU16(bytes, at);
    if (length < 4 || length > end - at) return undefined;
    if ((hostU16(bytes, at + 2) & 0x3fff) === RTA_DST) return length === 4 + count ? (at + 4 - start) / 4 : undefined;
    at += padded(length);
  }
  return undefined;
}
