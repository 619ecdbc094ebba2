import { randomInt } from 'node:crypto';
import koffi from 'koffi';

/*
 * The first two messages of an SCTP association (RFC 9260 §5.1) over raw sockets, as a kernel without SCTP has no other:
 * INIT is answered with INIT ACK.
 */

const SCTP = 132;
const AF_INET = 2;
const AF_INET6 = 10;
/** SOCK_RAW, SOCK_CLOEXEC. */
const raw = 3 | 0o2000000;
const MSG_DONTWAIT = 0x40;
/** Node cannot wait for a raw socket. */
const pollMs = 10;
const INIT = 1;
const INIT_ACK = 2;

const libc = koffi.load(null);
const socket = libc.func('int socket(int domain, int type, int protocol)');
const sendto = libc.func('int64_t sendto(int fd, void *data, size_t length, int flags, void *to, uint32_t toLength)');
const recvfrom = libc.func(
  'int64_t recvfrom(int fd, void *data, size_t length, int flags, void *from, void *fromLength)',
);

/** Answers INIT on some ports, and sends its own. */
export class SctpSockets {
  readonly #fds = new Map([AF_INET, AF_INET6].map((family) => [family, open(family)]));
  /** Own port → who waits for the answer. */
  readonly #waiting = new Map<number, () => void>();

  readonly #ports: readonly number[];
  readonly #bytes = Buffer.alloc(2048);
  readonly #from = Buffer.alloc(128);
  readonly #fromLength = Buffer.alloc(4);

  constructor(ports: readonly number[]) {
    this.#ports = ports;
    const receive = () => {
      for (const [family, fd] of this.#fds) this.#receive(family, fd);
    };
    setInterval(receive, pollMs).unref();
  }

  /** Whether an INIT gets its INIT ACK. */
  probe(address: string, port: number, timeoutMs: number): Promise<boolean> {
    let own = randomInt(20_000, 60_000);
    while (this.#waiting.has(own)) own = randomInt(20_000, 60_000);
    return new Promise((resolve) => {
      const finish = (reached: boolean) => {
        clearTimeout(timer);
        this.#waiting.delete(own);
        resolve(reached);
      };
      const timer = setTimeout(() => finish(false), timeoutMs);
      this.#waiting.set(own, () => finish(true));
      const to = sockaddr(address);
      this.#send(to, message({ from: own, to: port, tag: 0, type: INIT }));
    });
  }

  #send(to: Buffer, bytes: Buffer): void {
    const family = to.readUInt16LE(0);
    // An error is a lost packet: nobody answers.
    sendto(this.#fds.get(family), bytes, bytes.length, 0, to, to.length);
  }

  /** Everything that has come. */
  #receive(family: number, fd: number): void {
    for (;;) {
      this.#fromLength.writeUInt32LE(this.#from.length);
      const length = Number(recvfrom(fd, this.#bytes, this.#bytes.length, MSG_DONTWAIT, this.#from, this.#fromLength));
      if (length <= 0) return;
      const from = Buffer.from(this.#from.subarray(0, this.#fromLength.readUInt32LE()));
      this.#answer(payload(family, this.#bytes.subarray(0, length)), from);
    }
  }

  #answer(packet: Buffer, from: Buffer): void {
    if (packet.length < 32) return;
    const [peer, own, type] = [packet.readUInt16BE(0), packet.readUInt16BE(2), packet[12]];
    if (type === INIT_ACK) this.#waiting.get(own)?.();
    if (type !== INIT || !this.#ports.includes(own)) return;
    const to = Buffer.from(from);
    to.writeUInt16BE(0, 2);
    this.#send(to, message({ from: own, to: peer, tag: packet.readUInt32BE(16), type: INIT_ACK }));
  }
}

function open(family: number): number {
  const fd = socket(family, raw, SCTP);
  if (fd < 0) throw new Error(`no raw socket of family ${family}: errno ${koffi.errno()}`);
  return fd;
}

/** IPv4 raw sockets give the IP header, too. */
function payload(family: number, bytes: Buffer): Buffer {
  return family === AF_INET ? bytes.subarray(((bytes[0] ?? 0) & 15) * 4) : bytes;
}

/** sockaddr_in or sockaddr_in6 without a port, as raw sockets want it. */
export function sockaddr(address: string): Buffer {
  const six = address.includes(':');
  const bytes = Buffer.alloc(six ? 28 : 16);
  bytes.writeUInt16LE(six ? AF_INET6 : AF_INET);
  octets(address).copy(bytes, six ? 8 : 4);
  return bytes;
}

/** An address in network order. */
export function octets(address: string): Buffer {
  return address.includes(':') ? octets6(address) : Buffer.from(address.split('.').map(Number));
}

function octets6(address: string): Buffer {
  const [head = '', tail] = address.split('::');
  const words = (text: string | undefined) => (text ? text.split(':').map((word) => Number.parseInt(word, 16)) : []);
  const [first, last] = [words(head), words(tail)];
  const bytes = Buffer.alloc(16);
  for (const [at, word] of first.entries()) bytes.writeUInt16BE(word, at * 2);
  for (const [at, word] of last.entries()) bytes.writeUInt16BE(word, 16 - (last.length - at) * 2);
  return bytes;
}

interface Message {
  readonly from: number;
  readonly to: number;
  /** Verification tag: 0 in INIT. */
  readonly tag: number;
  readonly type: number;
  /** Initiate tag, not 0; absent: any. */
  readonly initiate?: number;
}

/** An INIT, which names its sender's tag. RFC 9260 §3.3.2. */
export function sctpInit(from: number, to: number, initiate: number): Buffer {
  return message({ from, to, tag: 0, type: INIT, initiate });
}

/** Common header and one INIT or INIT ACK chunk. RFC 9260 §3.1, §3.3.2. */
function message({ from, to, tag, type, initiate = randomInt(1, 0xffffffff) }: Message): Buffer {
  const bytes = Buffer.alloc(32);
  bytes.writeUInt16BE(from, 0);
  bytes.writeUInt16BE(to, 2);
  bytes.writeUInt32BE(tag, 4);
  bytes.writeUInt8(type, 12);
  bytes.writeUInt16BE(20, 14);
  bytes.writeUInt32BE(initiate, 16);
  bytes.writeUInt32BE(65_536, 20);
  bytes.writeUInt16BE(1, 24);
  bytes.writeUInt16BE(1, 26);
  bytes.writeUInt32BE(1, 28);
  bytes.writeUInt32LE(crc32c(bytes), 8);
  return bytes;
}

/** RFC 9260 appendix A: the Castagnoli polynomial, reflected. */
function crc32c(bytes: Buffer): number {
  let crc = 0xffffffff;
  for (const octet of bytes) {
    crc ^= octet;
    for (let bit = 0; bit < 8; bit++) crc = (crc >>> 1) ^ (crc & 1 ? 0x82f63b78 : 0);
  }
  return ~crc >>> 0;
}
