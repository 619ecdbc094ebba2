import { randomBytes } from 'node:crypto';
import { type Clock, pause } from '../base/clock.ts';
import { EnvironmentError } from '../base/errors.ts';
import { type Family, familyOf, type Ip } from '../model/address.ts';
import { checked, lastErrno, libc } from './rtnetlink/libc.ts';
import { hostOrderU32 } from './rtnetlink/open.ts';
import { inNamespace } from './setns.ts';
import { bindAddress, closeSocket, socketAddress } from './socket.ts';
import { KernelError } from './types.ts';

/* A real packet from a network namespace: the first of a connection, and what came of it. */

export interface ProbeRequest {
  readonly source: Ip;
  readonly destination: Ip;
  readonly protocol: 'tcp' | 'udp' | 'sctp' | 'icmp';
  /** Of the destination; none for ICMP. */
  readonly port: number;
  readonly timeoutMs: number;
}

export interface ProbeResult {
  /**
   * `answered`: by the other end; `refused`: it, or a firewall in its name, closed the port; `unreachable`: a router said
   * so; `silent`: nothing came back.
   */
  readonly outcome: 'answered' | 'refused' | 'unreachable' | 'silent';
  /** Of the probe; 0 for ICMP. */
  readonly sourcePort: number;
}

const AF_INET = 2;
const AF_INET6 = 10;
/** SOCK_CLOEXEC, SOCK_NONBLOCK. */
const flags = 0o2000000 | 0o4000;
const [stream, datagram, raw] = [1, 2, 3];
const MSG_DONTWAIT = 0x40;
const pollMs = 10;

/** Socket type and protocol: for IPv4, and for IPv6. */
const kinds = {
  tcp: { type: stream, 4: 6, 6: 6 },
  sctp: { type: stream, 4: 132, 6: 132 },
  udp: { type: datagram, 4: 17, 6: 17 },
  icmp: { type: raw, 4: 1, 6: 58 },
} as const satisfies Record<ProbeRequest['protocol'], object>;

type Outcome = ProbeResult['outcome'];

/**
 * Sends one packet, and its protocol's repetitions, from the namespace at `path`, and waits for what comes back. ICMP is an
 * echo; UDP carries nothing, so that few programs answer.
 * @throws InputError for the path; EnvironmentError without the protocol; KernelError, for instance without the address
 */
export async function sendProbe(
  path: string,
  request: ProbeRequest,
  clock: Clock,
  signal: AbortSignal,
): Promise<ProbeResult> {
  const { source, destination, protocol, port, timeoutMs } = request;
  const family = familyOf(source);
  const { type, [family]: number } = kinds[protocol];
  const domain = family === 4 ? AF_INET : AF_INET6;
  const fd = inNamespace(path, () => openSocket(protocol, domain, type | flags, number));
  try {
    bindAddress(fd, source, 0);
    const address = socketAddress(destination, protocol === 'icmp' ? 0 : port);
    const look = type === stream ? () => connecting(fd, address) : exchange(fd, address, protocol, family);
    const end = clock.monotonic() + timeoutMs;
    let found = look();
    const sourcePort = protocol === 'icmp' ? 0 : localPort(fd);
    while (found === undefined && clock.monotonic() < end && !signal.aborted) {
      await pause(clock, pollMs, signal);
      found = look();
    }
    return { outcome: found ?? 'silent', sourcePort };
  } finally {
    closeSocket(fd);
  }
}

function openSocket(name: string, domain: number, type: number, protocol: number): number {
  try {
    return checked(`open ${name} socket`, libc().socket(domain, type, protocol));
  } catch (cause) {
    if (!(cause instanceof KernelError) || cause.code !== 'EPROTONOSUPPORT') throw cause;
    throw new EnvironmentError(`the kernel has no ${name} sockets`, `run: modprobe ${name}`, { cause });
  }
}

/** Begins to connect, or asks how far that is. */
function connecting(fd: number, address: Uint8Array): Outcome | undefined {
  return libc().connect(fd, address, address.length) === 0 ? 'answered' : outcomeOf('connect', lastErrno());
}

/** Sends a datagram at the first look; the others see whether an answer is there. */
function exchange(fd: number, address: Uint8Array, protocol: 'udp' | 'icmp' | 'tcp' | 'sctp', family: Family) {
  const message = protocol === 'icmp' ? echoRequest(family) : new Uint8Array();
  const answer = new Uint8Array(1500);
  let sent = false;
  return (): Outcome | undefined => {
    if (!sent) {
      sent = true;
      if (libc().connect(fd, address, address.length) < 0) return outcomeOf('connect', lastErrno());
      return libc().send(fd, message, message.length, 0) < 0 ? outcomeOf('send', lastErrno()) : undefined;
    }
    for (;;) {
      const length = libc().recv(fd, answer, answer.length, MSG_DONTWAIT);
      if (length < 0) return outcomeOf('recv', lastErrno());
      if (protocol !== 'icmp' || answers(message, answer.subarray(0, length), family)) return 'answered';
    }
  };
}

/** Undefined: it goes on. @throws KernelError for what says nothing of the other end */
function outcomeOf(operation: string, errno: string): Outcome | undefined {
  switch (errno) {
    case 'EINPROGRESS':
    case 'EALREADY':
    case 'EAGAIN':
    case 'EWOULDBLOCK':
      return undefined;
    case 'EISCONN':
      return 'answered';
    case 'ECONNREFUSED':
    case 'ECONNRESET':
    case 'ECONNABORTED':
      return 'refused';
    case 'EHOSTUNREACH':
    case 'ENETUNREACH':
    case 'EACCES':
      return 'unreachable';
    case 'ETIMEDOUT':
      return 'silent';
    default:
      throw new KernelError(`${operation} of a probe`, errno);
  }
}

const echoTypes = { 4: { request: 8, reply: 0 }, 6: { request: 128, reply: 129 } } as const;

/** An echo with a random identifier. RFC 792, RFC 4443 §4.1; the kernel fills in the checksum of IPv6. */
export function echoRequest(family: Family): Uint8Array {
  const message = new Uint8Array(16);
  message[0] = echoTypes[family].request;
  message.set(randomBytes(2), 4);
  message[7] = 1;
  message.set(randomBytes(8), 8);
  if (family === 4) new DataView(message.buffer).setUint16(2, checksum(message));
  return message;
}

/** The Internet checksum of an even number of octets. RFC 1071. */
function checksum(bytes: Uint8Array): number {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  let sum = 0;
  for (let at = 0; at < bytes.length; at += 2) sum += view.getUint16(at);
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16);
  return ~sum & 0xffff;
}

/** Whether what a raw socket received, which for IPv4 begins with the IP header, answers the echo. */
export function answers(request: Uint8Array, received: Uint8Array, family: Family): boolean {
  const start = family === 4 ? ((received[0] ?? 0) & 0xf) * 4 : 0;
  const reply = received.subarray(start);
  // Identifier, number and what was sent come back as they were.
  return reply[0] === echoTypes[family].reply && request.every((octet, at) => at < 4 || reply[at] === octet);
}

function localPort(fd: number): number {
  const address = new Uint8Array(28);
  checked('name of a probe', libc().getsockname(fd, address, hostOrderU32(address.length)));
  return ((address[2] ?? 0) << 8) | (address[3] ?? 0);
}
