import { endianness } from 'node:os';
import { EnvironmentError } from '../../base/errors.ts';
import { KernelError } from '../types.ts';
import {
  NLM_F_ACK,
  NLM_F_ACK_TLVS,
  NLM_F_CAPPED,
  NLM_F_DUMP,
  NLM_F_DUMP_INTR,
  NLM_F_REQUEST,
  NLMSG_DONE,
  NLMSG_ERROR,
  NLMSGERR_ATTR_MSG,
} from './constants.ts';
import { checked, errnoName, lastErrno, libc } from './libc.ts';
import { hostI32, hostU32, type Message, MessageWriter, readAttributes, readMessages, text } from './message.ts';

const AF_NETLINK = 16;
const SOCK_RAW_CLOEXEC = 3 | 0o2000000;
const SOL_SOCKET = 1;
const SO_RCVBUFFORCE = 33;
const SOL_NETLINK = 270;
const NETLINK_CAP_ACK = 10;
const NETLINK_EXT_ACK = 11;
const NETLINK_GET_STRICT_CHK = 12;
const MSG_DONTWAIT = 0x40;
const MSG_TRUNC = 0x20;

/** Protocols of netlink sockets, linux/netlink.h. */
export const NETLINK_ROUTE = 0;
export const NETLINK_NETFILTER = 12;

/** Room for the acknowledgements of a whole batch: 2048 fit in 1 MiB, measured. */
const receiveBuffer = 1 << 20;
/** Messages in one send. */
const batchSize = 512;
/** The kernel makes dump datagrams of at most 32 KiB; a single message may exceed that. */
const datagramSize = 256 * 1024;
/** A dump that changed under way is read again this often before it is reported. */
const dumpAttempts = 8;

/** A message to send: its type, its flags beyond REQUEST and ACK, and its body. */
export interface Request {
  /** For errors: `add route 10.0.0.0/26`. */
  readonly operation: string;
  readonly type: number;
  readonly flags?: number;
  readonly body: (w: MessageWriter) => void;
}

/** A netlink socket, unbound to any group, of the namespace that the thread was in when it was opened. */
export class NetlinkSocket {
  readonly fd: number;
  #sequence = 0;
  #open = true;
  readonly #writer = new MessageWriter(64 * 1024);
  readonly #datagram = new Uint8Array(datagramSize);

  constructor(protocol = NETLINK_ROUTE) {
    this.fd = openNetlinkSocket(protocol, receiveBuffer);
    for (const option of [NETLINK_CAP_ACK, NETLINK_EXT_ACK, NETLINK_GET_STRICT_CHK])
      setOption(this.fd, SOL_NETLINK, option, 1);
  }

  close(): void {
    if (!this.#open) return;
    this.#open = false;
    libc().close(this.fd);
  }

  /** Sends one request and waits for its acknowledgement. @throws KernelError */
  request(request: Request): void {
    const [failure] = this.batch([request]);
    if (failure) throw failure;
  }

  /** One object (RTM_GET… without DUMP): its payload. @throws KernelError */
  get(request: Request): Uint8Array {
    const sequence = this.#begin();
    this.#write(request, NLM_F_REQUEST, sequence);
    this.#send(request.operation);
    for (const message of this.#receive(request.operation)) {
      if (message.sequence !== sequence) continue;
      const failure = message.type === NLMSG_ERROR ? readError(message, request.operation) : undefined;
      if (failure) throw failure;
      return message.payload;
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

  /**
   * Sends the requests in slices and collects every acknowledgement; sparse result: index of a request → its failure.
   * A body that throws becomes the failure of its request alone, unless it is no KernelError.
   */
  batch(requests: readonly Request[]): (KernelError | undefined)[] {
    const failures: (KernelError | undefined)[] = new Array(requests.length).fill(undefined);
    for (let start = 0; start < requests.length; start += batchSize)
      this.#slice(requests.slice(start, start + batchSize), start, failures);
    return failures;
  }

  #slice(requests: readonly Request[], start: number, failures: (KernelError | undefined)[]): void {
    const first = this.#begin();
    for (const [at, request] of requests.entries())
      this.#write(request, NLM_F_REQUEST | NLM_F_ACK, at === 0 ? first : this.#next());
    this.#send(requests[0]?.operation ?? 'batch');
    let waiting = requests.length;
    const answered = new Uint8Array(requests.length);
    while (waiting > 0) {
      const datagram = this.#read();
      if (typeof datagram === 'string') {
        if (datagram === 'ENOBUFS') continue;
        break;
      }
      for (const message of readMessages(datagram)) {
        const at = message.sequence - first;
        const request = requests[at];
        if (message.type !== NLMSG_ERROR || !request || answered[at]) continue;
        answered[at] = 1;
        waiting--;
        failures[start + at] = readError(message, request.operation);
      }
    }
    for (const [at, request] of requests.entries())
      if (!answered[at]) failures[start + at] = new KernelError(request.operation, 'ENOBUFS', 'acknowledgement lost');
  }

  #dumpOnce(request: Request): Uint8Array[] | undefined {
    const sequence = this.#begin();
    this.#write(request, NLM_F_REQUEST | NLM_F_DUMP, sequence);
    this.#send(request.operation);
    const found: Uint8Array[] = [];
    let interrupted = false;
    for (const message of this.#receive(request.operation)) {
      if (message.sequence !== sequence) continue;
      if (message.flags & NLM_F_DUMP_INTR) interrupted = true;
      if (message.type === NLMSG_DONE || message.type === NLMSG_ERROR) {
        const failure = readError(message, request.operation);
        if (failure) throw failure;
        return interrupted ? undefined : found;
      }
      found.push(message.payload.slice());
    }
    throw new KernelError(request.operation, 'EPROTO', 'dump without an end');
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
    if (!this.#open) throw new KernelError(operation, 'EBADF', 'the netlink socket is closed');
    const bytes = this.#writer.written;
    checked(operation, libc().send(this.fd, bytes, bytes.length, 0));
  }

  /**
   * Messages as they come. The kernel answers within `send`, and continues a dump within `recv`, so that there is
   * always something to read until the end: EAGAIN is an error, not a reason to wait.
   */
  *#receive(operation: string): Generator<Message> {
    for (;;) {
      const datagram = this.#read();
      if (typeof datagram === 'string') throw new KernelError(operation, datagram, 'reading the answer');
      yield* readMessages(datagram);
    }
  }

  /** The next datagram, a view that the next read overwrites; or the name of an errno. */
  #read(): Uint8Array | string {
    if (!this.#open) return 'EBADF';
    const length = libc().recv(this.fd, this.#datagram, this.#datagram.length, MSG_DONTWAIT | MSG_TRUNC);
    if (length < 0) return lastErrno();
    return length > this.#datagram.length ? 'EMSGSIZE' : this.#datagram.subarray(0, length);
  }
}

/** A netlink socket of the current namespace. @throws KernelError; EnvironmentError without CAP_NET_ADMIN */
export function openNetlinkSocket(protocol: number, bufferBytes: number): number {
  const fd = checked('open netlink socket', libc().socket(AF_NETLINK, SOCK_RAW_CLOEXEC, protocol));
  try {
    setOption(fd, SOL_SOCKET, SO_RCVBUFFORCE, bufferBytes);
  } catch (cause) {
    if (!(cause instanceof KernelError) || cause.code !== 'EPERM') throw cause;
    throw new EnvironmentError('no permission to change the network', 'run as root or with CAP_NET_ADMIN', { cause });
  }
  return fd;
}

/** Sets an integer option; on failure the socket is closed. @throws KernelError */
export function setOption(fd: number, level: number, option: number, value: number): void {
  try {
    const bytes = hostOrderU32(value);
    checked(`set netlink socket option ${level}/${option}`, libc().setsockopt(fd, level, option, bytes, 4));
  } catch (cause) {
    libc().close(fd);
    throw cause;
  }
}

export function hostOrderU32(value: number): Uint8Array {
  const bytes = new Uint8Array(4);
  new DataView(bytes.buffer).setUint32(0, value, endianness() === 'LE');
  return bytes;
}

/** NLMSG_ERROR (an acknowledgement when its code is 0) or NLMSG_DONE → what went wrong, if anything. */
function readError(message: Message, operation: string): KernelError | undefined {
  const code = message.payload.length >= 4 ? hostI32(message.payload, 0) : 0;
  if (code === 0) return undefined;
  return new KernelError(operation, errnoName(-code), extendedText(message));
}

/** The text of the extended acknowledgement (Documentation/userspace-api/netlink/intro.rst). */
function extendedText(message: Message): string | undefined {
  if (!(message.flags & NLM_F_ACK_TLVS)) return undefined;
  let start = 4;
  if (message.type === NLMSG_ERROR) start += message.flags & NLM_F_CAPPED ? 16 : (hostU32(message.payload, 4) + 3) & ~3;
  const found = readAttributes(message.payload, start).get(NLMSGERR_ATTR_MSG);
  return found ? text(found) : undefined;
}
