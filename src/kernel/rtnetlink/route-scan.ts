import { bits, type Cidr, cidrParts, type Family, familyOf, ipBytes, octets } from '../../model/address.ts';
import { formOf } from '../route.ts';
import type { PrefixRun, RouteForm } from '../types.ts';
import { cidr4, familyFrom, network32, readCidr } from './address-bytes.ts';
import { RTA_DST } from './constants.ts';
import {
  butSecondOctet,
  hostU16,
  hostU32,
  hostWords,
  messageHeader,
  NetlinkFormatError,
  padded,
  secondOctet,
} from './message.ts';
import { type NameOf, readRoute } from './route.ts';

/** Forms kept apart; of a table with more, some are taken apart again. */
const formLimit = 4096;
/** Where the attributes begin, after `struct rtmsg`. */
const attributes = 12;

const headerWords = messageHeader / 4;

/** Routes alike, in a row. */
export interface ScannedRun {
  /** Undefined for what a Route cannot say. */
  readonly form: RouteForm | undefined;
  readonly prefixes: PrefixRun;
}

const noPrefix: PrefixRun = { bytes: new Uint8Array(0), lengthAt: 0, addressAt: 0, stride: 0, count: 1 };

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
 * message is compared with those that were read before, and only the first of a form is taken apart.
 */
export class RouteScanner {
  /** The buffer that `#view` looks at. */
  #viewed: Uint8Array = new Uint8Array(0);
  #view: Int32Array | undefined;
  #last: Known | undefined;
  readonly #byHash = new Map<number, Known>();

  constructor(
    private readonly nameOf: NameOf,
    /** Of all the routes. */
    private readonly family: Family,
  ) {}

  /**
   * The RTM_NEWROUTE or RTM_DELROUTE at `start`, and those after it, up to `end`, that differ from it only in their
   * destinations: their form, the same again for routes alike, and where their prefixes stand. Undefined for one that
   * `readRoute` does not read. @throws NetlinkFormatError, TruncatedError
   */
  scan(bytes: Uint8Array, start: number, end: number): ScannedRun {
    const length = hostU32(bytes, start);
    const [from, to] = [start + messageHeader, start + length];
    const known = this.#known(bytes, from, to);
    if (!known) return this.#apart(bytes, from, to);
    if ((bytes[from + 1] ?? 0) > bits(this.family)) throw new NetlinkFormatError(`prefix of length ${bytes[from + 1]}`);
    const stride = padded(length);
    const view = this.#viewOf(bytes);
    const count = view ? repeats(known, view, start >>> 2, end >>> 2, bits(this.family)) : 1;
    return {
      form: known.form,
      prefixes: { bytes, lengthAt: from + 1, addressAt: from + known.from * 4, stride, count },
    };
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

  #apart(bytes: Uint8Array, start: number, end: number): ScannedRun {
    const route = readRoute(bytes.subarray(start, end), this.nameOf);
    if (!route || familyOf(route.destination) !== this.family) return { form: undefined, prefixes: noPrefix };
    const { address, length } = cidrParts(route.destination);
    const own = Uint8Array.of(length, ...ipBytes(address));
    return { form: formOf(route), prefixes: { bytes: own, lengthAt: 0, addressAt: 1, stride: own.length, count: 1 } };
  }

  #viewOf(bytes: Uint8Array): Int32Array | undefined {
    if (this.#viewed !== bytes) {
      this.#viewed = bytes;
      this.#view = hostWords(bytes);
    }
    return this.#view;
  }
}

/** The prefixes of a run as text. @throws NetlinkFormatError */
export function* cidrsOf({ bytes, lengthAt, addressAt, stride, count }: PrefixRun, family: Family): Generator<Cidr> {
  for (let at = 0; at < count; at++) {
    const [address, length] = [addressAt + at * stride, bytes[lengthAt + at * stride] ?? 0];
    yield family === 4
      ? cidr4(network32(bytes, address), length)
      : readCidr(bytes.subarray(address, address + octets(6)), length, 6);
  }
}

/** How many messages from that at word `at` on, which is one of them, are alike but for their destinations. */
function repeats(known: Known, view: Int32Array, at: number, end: number, longest: number): number {
  const step = known.words.length + headerWords;
  const [length, kind, sequence] = [view[at], view[at + 1], view[at + 2]];
  let count = 1;
  for (let next = at + step; next + step <= end; next += step) {
    if (view[next] !== length || view[next + 1] !== kind || view[next + 2] !== sequence) break;
    if (!alike(known, view, next + headerWords, known.words.length)) break;
    if (secondOctet(view[next + headerWords] ?? 0) > longest) break;
    count++;
  }
  return count;
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
