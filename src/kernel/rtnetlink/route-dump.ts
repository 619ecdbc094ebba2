import type { Family } from '../../model/address.ts';
import { withDestination } from '../route.ts';
import { KernelError, type PrefixRun, type Route, type RouteForm, type RouteReading } from '../types.ts';
import { readError } from './answer.ts';
import { NLM_F_DUMP_INTR, NLMSG_DONE, NLMSG_ERROR, RTM_GETROUTE, RTM_NEWROUTE } from './constants.ts';
import { flagsIn, hostWords, type MessageWriter, messageHeader, padded, readMessages, typeIn } from './message.ts';
import { type NameOf, writeRouteQuery } from './route.ts';
import { cidrsOf, RouteScanner } from './route-scan.ts';
import type { NetlinkSocket } from './socket.ts';

/** A dump that changed under way is read again this often before it is reported. */
const attempts = 8;
/** Routes alike that are shown at a time: a fraction of a millisecond. */
const longestRun = 2048;
const headerWords = messageHeader / 4;
/** The sequence numbers of dumps begin here, out of the way of those that the socket counts. */
const firstSequence = 0x80000000;

/**
 * The routes of one family and table, read whole time and again. An unchanged table gives the same octets in the same
 * order, so the answer is compared with the last one, and only one that differs is taken apart: a look at 100,000
 * routes costs what the kernel takes to tell them.
 */
export class RouteDump {
  /** The last answer: its datagrams one after the other. */
  #bytes = new Uint8Array(0);
  /** Where each datagram ends. */
  #ends: number[] = [];
  #sequence = firstSequence;
  #interrupted = false;
  readonly #operation: string;

  constructor(
    private readonly socket: NetlinkSocket,
    private readonly family: Family,
    private readonly table: number,
  ) {
    this.#operation = `list IPv${family} routes of table ${table}`;
  }

  /** @throws KernelError */
  read(nameOf: NameOf): RouteReading {
    for (let attempt = 1; attempt <= attempts; attempt++) {
      const same = this.#compare();
      if (!this.#interrupted)
        return {
          unchanged: same,
          routes: () => this.#routes(nameOf),
          runs: () => this.#runs(nameOf),
        };
      this.#forget();
    }
    throw new KernelError(this.#operation, 'EINTR', `changed during each of ${attempts} dumps`);
  }

  /** @returns whether the answer was the last one again; from where it differs it takes the last one's place */
  #compare(): boolean {
    const known = this.#ends.length;
    let same = known > 0;
    let at = 0;
    let place = 0;
    this.#interrupted = false;
    const take = (datagram: Uint8Array): 'more' | 'end' => {
      const end = this.#ends[place];
      if (same && end === at + datagram.length && equal(this.#bytes.subarray(at, end), datagram)) {
        at = end;
        return ++place === known ? 'end' : 'more';
      }
      if (same) this.#ends.length = place;
      same = false;
      this.#keep(datagram, at);
      at += datagram.length;
      this.#ends.push(at);
      return this.#isLast(datagram) ? 'end' : 'more';
    };
    try {
      const body = (w: MessageWriter) => writeRouteQuery(w, this.family, this.table);
      this.socket.dumpRaw({ operation: this.#operation, type: RTM_GETROUTE, body }, this.#sequence, take);
    } catch (cause) {
      this.#forget();
      // A table that was never used does not exist for the kernel: no routes.
      if (!(cause instanceof KernelError && cause.code === 'ENOENT')) throw cause;
    }
    return same;
  }

  #keep(datagram: Uint8Array, at: number): void {
    if (at + datagram.length > this.#bytes.length) {
      const larger = new Uint8Array(padded(Math.max(at + datagram.length, this.#bytes.length * 2)));
      larger.set(this.#bytes.subarray(0, at));
      this.#bytes = larger;
    }
    this.#bytes.set(datagram, at);
  }

  /** The next answer has nothing to be compared with, nor is it mistaken for what is left of this one. */
  #forget(): void {
    this.#ends = [];
    this.#bytes = new Uint8Array(0);
    this.#sequence++;
  }

  /** @throws KernelError */
  #isLast(datagram: Uint8Array): boolean {
    if (!this.#plain(datagram)) return this.#endsHere(datagram);
    return false;
  }

  /** Whether it holds nothing but routes of this dump. */
  #plain(datagram: Uint8Array): boolean {
    const words = hostWords(datagram);
    if (!words) return false;
    const sequence = this.#sequence | 0;
    let at = 0;
    while (at + headerWords <= words.length) {
      const kind = words[at + 1] ?? 0;
      if (typeIn(kind) !== RTM_NEWROUTE || words[at + 2] !== sequence || flagsIn(kind) & NLM_F_DUMP_INTR) return false;
      const length = (words[at] ?? 0) >>> 0;
      if (length < messageHeader) return false;
      at += padded(length) >>> 2;
    }
    return at === words.length;
  }

  /** @throws KernelError */
  #endsHere(datagram: Uint8Array): boolean {
    for (const message of readMessages(datagram)) {
      if (message.sequence !== this.#sequence) continue;
      if (message.flags & NLM_F_DUMP_INTR) this.#interrupted = true;
      if (message.type !== NLMSG_DONE && message.type !== NLMSG_ERROR) continue;
      const failure = readError(message, this.#operation);
      if (failure) throw failure;
      return true;
    }
    return false;
  }

  #routes(nameOf: NameOf): Route[] {
    const found: Route[] = [];
    for (const { prefixes, form } of this.#runs(nameOf))
      for (const destination of cidrsOf(prefixes, this.family)) found.push(withDestination(form, destination));
    return found;
  }

  *#runs(nameOf: NameOf): Generator<{ prefixes: PrefixRun; form: RouteForm }> {
    const scanner = new RouteScanner(nameOf, this.family);
    const bytes = this.#bytes;
    const words = new Int32Array(bytes.buffer);
    const sequence = this.#sequence | 0;
    const end = this.#ends.at(-1) ?? 0;
    for (let at = 0; at < end; ) {
      const step = padded(words[at >>> 2] ?? 0);
      if (typeIn(words[(at >>> 2) + 1] ?? 0) === NLMSG_DONE || words[(at >>> 2) + 2] !== sequence) {
        at += step;
        continue;
      }
      const { form, prefixes } = scanner.scan(bytes, at, Math.min(end, at + step * longestRun));
      if (form) yield { prefixes, form };
      at += step * prefixes.count;
    }
  }
}

function equal(a: Uint8Array, b: Uint8Array): boolean {
  return Buffer.compare(a, b) === 0;
}
