import { endianness } from 'node:os';
import koffi from 'koffi';
import { type Family, type Ip, parseIp } from '../model/address.ts';
import { checked, libc } from './rtnetlink/libc.ts';
import { bindAddress, closeSocket, familyOptions, options as generic, interfaceIndex, setOption } from './socket.ts';

/* UDP sockets with options that Node does not offer; the descriptor is handed to dgram's `bind({ fd })`. */

const AF_INET = 2;
const AF_INET6 = 10;
/** SOCK_DGRAM, SOCK_CLOEXEC, SOCK_NONBLOCK. */
const datagram = 2 | 0o2000000 | 0o4000;
const SOL_SOCKET = 1;
const SO_ATTACH_FILTER = 26;

export interface UdpOptions {
  readonly family: Family;
  /** Absent: every address. */
  readonly address?: Ip;
  readonly port: number;
  /** Device of a link-local `address`. */
  readonly device?: string;
  /** TTL or hop limit, and DSCP with ECN, of what is sent. */
  readonly ttl?: number;
  readonly trafficClass?: number;
  /** Packets that arrive with any other TTL or hop limit are dropped by the kernel. RFC 5082. */
  readonly onlyTtl?: number;
}

/**
 * A bound, non-blocking UDP socket.
 * @returns its descriptor, the caller's to close
 * @throws KernelError `EADDRINUSE`, `EADDRNOTAVAIL`, `EACCES` …
 */
export function openUdp(options: UdpOptions): number {
  const { family, port } = options;
  const fd = checked('open UDP socket', libc().socket(family === 4 ? AF_INET : AF_INET6, datagram, 0));
  try {
    setOptions(fd, options);
    const scope = options.device === undefined ? 0 : interfaceIndex(options.device);
    bindAddress(fd, options.address ?? parseIp(family === 4 ? '0.0.0.0' : '::'), port, scope);
    return fd;
  } catch (cause) {
    closeSocket(fd);
    throw cause;
  }
}

function setOptions(fd: number, { family, ttl, trafficClass, onlyTtl }: UdpOptions): void {
  const named = familyOptions[family];
  if (family === 6) setOption(fd, generic.v6Only, 1);
  if (ttl !== undefined) setOption(fd, named.hops, ttl);
  if (trafficClass !== undefined) setOption(fd, named.trafficClass, trafficClass);
  if (onlyTtl !== undefined) acceptOnly(fd, family, onlyTtl);
}

/** Offset that addresses the network header (linux/filter.h), and of the TTL or hop limit within it. */
const SKF_NET_OFF = -0x100000;
const ttlOffset: Readonly<Record<Family, number>> = { 4: 8, 6: 7 };

/**
 * A classic BPF program on the socket: IP_MINTTL is for TCP alone, and dgram shows no ancillary data. Attached before
 * the socket is bound, so that no packet slips by.
 */
function acceptOnly(fd: number, family: Family, ttl: number): void {
  const program = new Uint8Array(4 * 8);
  const view = new DataView(program.buffer);
  const little = endianness() === 'LE';
  const instruction = (at: number, code: number, ifTrue: number, ifFalse: number, operand: number) => {
    view.setUint16(at * 8, code, little);
    view.setUint8(at * 8 + 2, ifTrue);
    view.setUint8(at * 8 + 3, ifFalse);
    view.setUint32(at * 8 + 4, operand >>> 0, little);
  };
  // A = octet at the offset; if A is the TTL take the packet, else none of it.
  instruction(0, 0x30, 0, 0, SKF_NET_OFF + ttlOffset[family]);
  instruction(1, 0x15, 0, 1, ttl);
  instruction(2, 0x06, 0, 0, 0xffff);
  instruction(3, 0x06, 0, 0, 0);
  checked('attach a filter to a UDP socket', attachFilter()(fd, { len: 4, filter: program }));
}

let attach: ((fd: number, program: { len: number; filter: Uint8Array }) => number) | undefined;

/** setsockopt whose value holds a pointer: `struct sock_fprog`. */
function attachFilter(): NonNullable<typeof attach> {
  if (!attach) {
    const fprog = koffi.struct({ len: 'uint16_t', filter: 'void *' });
    const call = koffi.load(null).func('setsockopt', 'int', ['int', 'int', 'int', koffi.pointer(fprog), 'uint32_t']);
    attach = (fd, program) => call(fd, SOL_SOCKET, SO_ATTACH_FILTER, program, koffi.sizeof(fprog));
  }
  return attach;
}
