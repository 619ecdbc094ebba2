import { KernelError } from '../types.ts';
import { readError } from './answer.ts';
import {
  NLM_F_ACK,
  NLM_F_DUMP,
  NLM_F_DUMP_INTR,
  NLM_F_REQUEST,
  NLMSG_DONE,
  NLMSG_ERROR,
  NLMSG_NOOP,
} from './constants.ts';
import { checked, lastErrno, libc } from './libc.ts';
import { hostI32, hostU32, hostWords, type Message, messageHeader, readMessages, typeIn } from './message.ts';
import { hostOrderU32 } from './open.ts';
import type { AsideRequest, Batch, PackedBatch, Request } from './requests.ts';
import { giveBack, takeRoom } from './room.ts';
import { KernelWire, type Wire } from './wire.ts';

/** Protocols of netlink sockets, linux/netlink.h. */
export const NETLINK_ROUTE = 0;
export const NETLINK_NETFILTER = 12;

/** Messages in one send. */
const batchSize = 512;
/** The same of messages that are written many at a time. */
const packedSize = 1024;
/** The kernel refuses more than a socket's send buffer holds, 208 KiB unless somebody changed it (netlink_sendmsg). */
const packedOctets = 128 * 1024;
/** A dump that changed under way is read again this often before it is reported. */
const dumpAttempts = 8;

/** A netlink socket, unbound to any group, of the namespace that the thread was in when it was opened. */
export class NetlinkSocket {
  readonly fd: number;
  #sequence = 0;
  #open = true;
  readonly #room = takeRoom();
  readonly #writer = this.#room.writer;
  readonly #datagram = this.#room.datagram;

  /** @throws KernelError; EnvironmentError without CAP_NET_ADMIN */
  constructor(
    protocol = NETLINK_ROUTE,
    private readonly wire: Wire = new KernelWire(protocol),
  ) {
    this.fd = wire.fd;
  }

  /** What the kernel calls this socket in the messages that answer or follow from its requests (nl_pid). */
  get port(): number {
    const address = new Uint8Array(12);
    checked('name of a netlink socket', libc().getsockname(this.fd, address, hostOrderU32(address.length)));
    if (hostU32(address, 4) !== 0) return hostU32(address, 4);
    // The kernel names a socket at its first message.
    this.request({ operation: 'name a netlink socket', type: NLMSG_NOOP, body: () => undefined });
    checked('name of a netlink socket', libc().getsockname(this.fd, address, hostOrderU32(address.length)));
    return hostU32(address, 4);
  }

  close(): void {
    if (!this.#open) return;
    this.#open = false;
    giveBack(this.#room);
    this.wire.close();
  }

  /** Sends one request and waits for its acknowledgement. @throws KernelError */
  request(request: Request): void {
    const [failure] = this.batch([request]);
    if (failure) throw failure;
  }

  /**
   * As `request` and then `get` for each, in one message, while the kernel works in a thread of libuv's pool. Nothing else
   * of this socket meanwhile.
   * @returns for each the payload that its query is answered with, or its failure; undefined where nothing was asked
   * @throws KernelError
   */
  async requestsAside(list: readonly AsideRequest[]): Promise<(Uint8Array | KernelError | undefined)[]> {
    this.#writer.clear();
    const operation = list[0]?.request.operation ?? '';
    /** By sequence number; a query has the number after its request's. */
    const placeOf = new Map<number, number>();
    list.forEach(({ request, query }, at) => {
      placeOf.set(this.#next(), at);
      this.#write(request, NLM_F_REQUEST | NLM_F_ACK, this.#sequence);
      if (!query) return;
      placeOf.set(this.#next(), at);
      this.#write(query, NLM_F_REQUEST, this.#sequence);
    });
    await this.#sendAside(operation);
    const outcomes: (Uint8Array | KernelError | undefined)[] = list.map(() => undefined);
    let left = placeOf.size;
    if (left === 0) return outcomes;
    // A query is answered also when its request was refused, and is read, so that nothing of it is left.
    for (const message of this.#receive(operation)) {
      const at = placeOf.get(message.sequence);
      if (at === undefined) continue;
      placeOf.delete(message.sequence);
      const asked = list[at];
      outcomes[at] ??=
        message.type === NLMSG_ERROR
          ? readError(message, asked?.request.operation ?? operation)
          : message.payload.slice();
      if (--left === 0) return outcomes;
    }
    throw new KernelError(operation, 'EPROTO', 'no answer');
  }

  /** One object (RTM_GET… without DUMP): its payload. @throws KernelError */
  get(request: Request): Uint8Array {
    const found = this.find(request, 0);
    if (!found) throw new KernelError(request.operation, 'EPROTO', 'no object');
    return found;
  }

  /**
   * One object (RTM_GET… without DUMP): its payload, or undefined when the kernel answers with `absent`, an errno.
   * @throws KernelError
   */
  find(request: Request, absent: number): Uint8Array | undefined {
    const sequence = this.#begin();
    this.#write(request, NLM_F_REQUEST, sequence);
    this.#send(request.operation);
    for (const message of this.#receive(request.operation)) {
      if (message.sequence !== sequence) continue;
      if (message.type !== NLMSG_ERROR) return message.payload;
      // An error for what is commonly absent would cost more than the question.
      if (message.payload.length >= 4 && hostI32(message.payload, 0) === -absent) return undefined;
      throw readError(message, request.operation) ?? new KernelError(request.operation, 'EPROTO', 'no object');
    }
    throw new KernelError(request.operation, 'EPROTO', 'no answer');
  }

  /** All payloads of a dump; views that stay valid. @throws KernelError */
  dump(request: Request): Uint8Array[] {
    for (let attempt = 1; ; attempt++) {
      const found = this.#dumpOnce(request);
      if (found) return found;
      if (attempt === dumpAttempts)
        throw new KernelError(request.operation, 'EINTR', `changed during each of ${dumpAttempts} dumps`);
    }
  }

  /**
   * The payloads of a dump one by one, each a view that lasts until the next. The kernel makes the dump as it is read,
   * so the caller may pause in between, but must not use the socket for anything else before the end; nor is a change
   * during the dump noticed. @throws KernelError
   */
  *stream(request: Request): Generator<Uint8Array> {
    const sequence = this.#begin();
    this.#write(request, NLM_F_REQUEST | NLM_F_DUMP, sequence);
    this.#send(request.operation);
    for (const message of this.#receive(request.operation)) {
      if (message.sequence !== sequence) continue;
      if (message.type === NLMSG_DONE || message.type === NLMSG_ERROR) {
        const failure = readError(message, request.operation);
        if (failure) throw failure;
        return;
      }
      yield message.payload;
    }
  }

  /** Sends the requests in slices. @returns for each its failure, if any */
  batch(requests: readonly Request[]): (KernelError | undefined)[] {
    const failures: (KernelError | undefined)[] = new Array(requests.length).fill(undefined);
    for (let start = 0; start < requests.length; start += batchSize) {
      const slice = requests.slice(start, start + batchSize);
      const write = (at: number, flags: number, sequence: number) => {
        const request = slice[at];
        if (request) this.#write(request, flags, sequence);
      };
      this.#slice(slice.length, write, (at, failure) => {
        failures[start + at] = failure(slice[at]?.operation ?? 'batch');
      });
    }
    return failures;
  }

  /** As `batch`, for many messages of one kind; the result has holes where all went well. */
  batchOf({ count, type, flags = 0, body, operation }: Batch): (KernelError | undefined)[] {
    const failures: (KernelError | undefined)[] = [];
    const w = this.#writer;
    for (let start = 0; start < count; start += batchSize) {
      const write = (at: number, more: number, sequence: number) => {
        const header = w.begin(type, flags | more, sequence);
        body(w, start + at);
        w.end(header);
      };
      this.#slice(Math.min(batchSize, count - start), write, (at, failure) => {
        failures[start + at] = failure(operation(start + at));
      });
    }
    return failures;
  }

  /** As `batchOf`, for messages that are written many at a time. */
  batchPacked({ count, write, operation }: PackedBatch): (KernelError | undefined)[] {
    const failures: (KernelError | undefined)[] = [];
    for (let start = 0; start < count; ) {
      const most = { messages: Math.min(packedSize, count - start), octets: packedOctets };
      const first = this.#begin();
      const from = start;
      const written = write(this.#writer, from, most, first);
      this.#sequence = (first + written.count - 1) >>> 0;
      this.#writer.addFlags(written.last, NLM_F_ACK);
      this.#exchange(written.count, first, (at, failure) => {
        failures[from + at] = failure(operation(from + at));
      });
      start += written.count;
    }
    return failures;
  }

  #slice(
    count: number,
    write: (at: number, flags: number, sequence: number) => void,
    failed: (at: number, failure: (operation: string) => KernelError) => void,
  ): void {
    const first = this.#begin();
    for (let at = 0; at < count; at++) {
      const flags = at === count - 1 ? NLM_F_REQUEST | NLM_F_ACK : NLM_F_REQUEST;
      write(at, flags, at === 0 ? first : this.#next());
    }
    this.#exchange(count, first, failed);
  }

  /**
   * Sends what was written, numbered from `first` on, and reads what comes of it. Only the last message asks for an
   * acknowledgement: the kernel works through them in order and reports a failure unasked (netlink_rcv_skb), so that it
   * comes when all the others are done.
   */
  #exchange(
    count: number,
    first: number,
    failed: (at: number, failure: (operation: string) => KernelError) => void,
  ): void {
    this.#send('batch');
    let datagram = this.#read();
    // Nothing else comes where all went well.
    if (typeof datagram !== 'string' && acknowledges(datagram, first + count - 1)) return;
    const known = new Set<number>();
    for (; ; datagram = this.#read()) {
      if (datagram === 'ENOBUFS') continue;
      if (typeof datagram === 'string') break;
      for (const message of readMessages(datagram)) {
        const at = (message.sequence - first) >>> 0;
        if (message.type !== NLMSG_ERROR || at >= count || known.has(at)) continue;
        known.add(at);
        if (readError(message, '')) {
          const copy = { ...message, payload: message.payload.slice() };
          failed(at, (operation) => readError(copy, operation) ?? new KernelError(operation, 'EPROTO'));
        }
        if (at === count - 1) return;
      }
    }
    // The queue was full: what was not heard of may have failed.
    for (let at = 0; at < count; at++)
      if (!known.has(at)) failed(at, (operation) => new KernelError(operation, 'ENOBUFS', 'acknowledgement lost'));
  }

  #dumpOnce(request: Request): Uint8Array[] | undefined {
    const sequence = this.#begin();
    this.#write(request, NLM_F_REQUEST | NLM_F_DUMP, sequence);
    this.#send(request.operation);
    const found: Uint8Array[] = [];
    let interrupted = false;
    for (;;) {
      // Payloads are views into a copy of their datagram: one copy for hundreds of them.
      const datagram = this.#answer(request.operation).slice();
      for (const message of readMessages(datagram)) {
        if (message.sequence !== sequence) continue;
        if (message.flags & NLM_F_DUMP_INTR) interrupted = true;
        if (message.type === NLMSG_DONE || message.type === NLMSG_ERROR) {
          const failure = readError(message, request.operation);
          if (failure) throw failure;
          return interrupted ? undefined : found;
        }
        found.push(message.payload);
      }
    }
  }

  /**
   * A dump whose datagrams are handed to `take` as they came, views that last until the next, until it says `end`. They
   * carry the sequence number given, so that the same answer to the same question is the same octets.
   * @throws KernelError
   */
  dumpRaw(request: Request, sequence: number, take: (datagram: Uint8Array) => 'more' | 'end'): void {
    this.#writer.clear();
    this.#write(request, NLM_F_REQUEST | NLM_F_DUMP, sequence);
    this.#send(request.operation);
    while (take(this.#answer(request.operation)) === 'more');
  }

  #begin(): number {
    this.#writer.clear();
    return this.#next();
  }

  #next(): number {
    this.#sequence = (this.#sequence + 1) >>> 0;
    return this.#sequence;
  }

  #write(request: Request, flags: number, sequence: number): void {
    const at = this.#writer.begin(request.type, flags | (request.flags ?? 0), sequence);
    request.body(this.#writer);
    this.#writer.end(at);
  }

  #send(operation: string): void {
    if (!this.#open) throw closedError(operation);
    const bytes = this.#writer.written;
    checked(operation, this.wire.send(bytes));
  }

  /** @throws KernelError */
  async #sendAside(operation: string): Promise<void> {
    if (!this.#open) throw closedError(operation);
    const bytes = this.#writer.written.slice();
    if ((await libc().sendAside(this.fd, bytes, bytes.length, 0)) < 0)
      throw new KernelError(operation, 'EIO', 'the request could not be sent');
  }

  /**
   * Messages as they come. The kernel answers within `send`, and continues a dump within `recv`, so that there is
   * always something to read until the end: EAGAIN is an error, not a reason to wait.
   */
  *#receive(operation: string): Generator<Message> {
    for (;;)
      for (const message of readMessages(this.#answer(operation))) {
        // Once it is closed, another socket may have the room that the message is in.
        if (!this.#open) throw closedError(operation);
        yield message;
      }
  }

  #answer(operation: string): Uint8Array {
    const datagram = this.#read();
    if (typeof datagram === 'string') throw new KernelError(operation, datagram, 'reading the answer');
    return datagram;
  }

  /** A datagram that came unasked, as `#read` gives it: `EWOULDBLOCK` (`EAGAIN`) when none waits, `ENOBUFS` once when some were lost. */
  poll(): Uint8Array | string {
    return this.#read();
  }

  /** The next datagram, a view that the next read overwrites; or the name of an errno. */
  #read(): Uint8Array | string {
    if (!this.#open) return 'EBADF';
    const length = this.wire.receive(this.#datagram);
    if (length < 0) return lastErrno();
    return length > this.#datagram.length ? 'EMSGSIZE' : this.#datagram.subarray(0, length);
  }
}

/** Whether it begins with the acknowledgement of that message. */
function acknowledges(datagram: Uint8Array, sequence: number): boolean {
  const words = hostWords(datagram);
  if (!words || words.length * 4 < messageHeader + 4) return false;
  return typeIn(words[1] ?? 0) === NLMSG_ERROR && words[2] === (sequence | 0) && words[4] === 0;
}

function closedError(operation: string): KernelError {
  return new KernelError(operation, 'EBADF', 'the netlink socket is closed');
}
