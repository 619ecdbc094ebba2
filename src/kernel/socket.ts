import { type Cidr, cidrParts, type Family, familyOf, type Ip, ipBytes } from '../model/address.ts';
import { checked, libc } from './rtnetlink/libc.ts';

/* Socket options that Node does not offer. They concern one socket and program nothing in the kernel. */

/** An option of setsockopt(2): `level` and `name`, and what to call it in an error. */
export interface SocketOption {
  readonly level: number;
  readonly name: number;
  readonly title: string;
}

const SOL_IP = 0;
const SOL_SOCKET = 1;
const SOL_TCP = 6;
const SOL_IPV6 = 41;

/** linux/asm-generic/socket.h, in.h, in6.h, tcp.h */
export const options = {
  reuseAddress: { level: SOL_SOCKET, name: 2, title: 'SO_REUSEADDR' },
  bindToDevice: { level: SOL_SOCKET, name: 25, title: 'SO_BINDTODEVICE' },
  v6Only: { level: SOL_IPV6, name: 26, title: 'IPV6_V6ONLY' },
  tcpMd5: { level: SOL_TCP, name: 14, title: 'TCP_MD5SIG' },
  tcpMd5Prefix: { level: SOL_TCP, name: 32, title: 'TCP_MD5SIG_EXT' },
  userTimeout: { level: SOL_TCP, name: 18, title: 'TCP_USER_TIMEOUT' },
} as const satisfies Record<string, SocketOption>;

/** Options that each family has under another number. */
export const familyOptions: Readonly<
  Record<Family, Readonly<Record<'trafficClass' | 'hops' | 'minHops', SocketOption>>>
> = {
  4: {
    trafficClass: { level: SOL_IP, name: 1, title: 'IP_TOS' },
    hops: { level: SOL_IP, name: 2, title: 'IP_TTL' },
    minHops: { level: SOL_IP, name: 21, title: 'IP_MINTTL' },
  },
  6: {
    trafficClass: { level: SOL_IPV6, name: 67, title: 'IPV6_TCLASS' },
    hops: { level: SOL_IPV6, name: 16, title: 'IPV6_UNICAST_HOPS' },
    minHops: { level: SOL_IPV6, name: 73, title: 'IPV6_MINHOPCOUNT' },
  },
};

const AF_INET = 2;
const AF_INET6 = 10;
const SOCK_STREAM = 1;
const SOCK_NONBLOCK = 0o4000;
const SOCK_CLOEXEC = 0o2000000;

/** A TCP socket that is neither bound nor connected, for Node to take over. @throws KernelError */
export function openTcp(family: Family): number {
  const domain = family === 4 ? AF_INET : AF_INET6;
  return checked('socket', libc().socket(domain, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
}

/** Closes a descriptor that nobody has taken over. @throws KernelError */
export function closeSocket(fd: number): void {
  checked('close', libc().close(fd));
}

/** Sets an option to an integer, a text or a structure. @throws KernelError */
export function setOption(fd: number, option: SocketOption, value: number | string | Uint8Array): void {
  const bytes =
    typeof value === 'number'
      ? new Uint8Array(Int32Array.of(value).buffer)
      : typeof value === 'string'
        ? new TextEncoder().encode(`${value}\0`)
        : value;
  checked(option.title, libc().setsockopt(fd, option.level, option.name, bytes, bytes.length));
}

/** @param scope interface index of a link-local address @throws KernelError */
export function bindAddress(fd: number, address: Ip, port: number, scope = 0): void {
  const bytes = socketAddress(address, port, scope);
  checked(`bind ${address} port ${port}`, libc().bind(fd, bytes, bytes.length));
}

/** The index of a network device. @throws KernelError ENODEV */
export function interfaceIndex(name: string): number {
  const index = libc().if_nametoindex(name);
  return checked(`device ${name}`, index === 0 ? -1 : index);
}

/** Octets of a device's name with the zero after it. linux/if.h. */
const IF_NAMESIZE = 16;

/** The name of a network device; undefined when it is gone. */
export function interfaceName(index: number): string | undefined {
  const bytes = new Uint8Array(IF_NAMESIZE);
  if (libc().if_indextoname(index, bytes) === null) return undefined;
  return new TextDecoder().decode(bytes.subarray(0, bytes.indexOf(0)));
}

/** `struct sockaddr_in` or `sockaddr_in6`. */
export function socketAddress(address: Ip, port: number, scope = 0): Uint8Array {
  const family = familyOf(address);
  const bytes = new Uint8Array(family === 4 ? 16 : 28);
  const view = new DataView(bytes.buffer);
  bytes.set(new Uint8Array(Uint16Array.of(family === 4 ? AF_INET : AF_INET6).buffer), 0);
  view.setUint16(2, port);
  bytes.set(ipBytes(address), family === 4 ? 4 : 8);
  if (family === 6) bytes.set(new Uint8Array(Uint32Array.of(scope).buffer), 24);
  return bytes;
}

/** Octets of the longest TCP MD5 key, TCP_MD5SIG_MAXKEYLEN. */
export const maxMd5Key = 80;
const TCP_MD5SIG_FLAG_PREFIX = 1;

/**
 * Signs what goes to the addresses of `peers`, and drops what comes from them unsigned or wrongly signed. RFC 2385.
 * The longest prefix with a key counts.
 * @param key at most `maxMd5Key` octets; none takes the key away
 * @throws KernelError
 */
export function setMd5Key(fd: number, peers: Cidr, key: string): void {
  const { address, length, family } = cidrParts(peers);
  const host = length === (family === 4 ? 32 : 128);
  const bytes = md5Structure(address, host ? undefined : length, new TextEncoder().encode(key));
  setOption(fd, host ? options.tcpMd5 : options.tcpMd5Prefix, bytes);
}

/** `struct tcp_md5sig` of linux/tcp.h: address storage, flags, prefix length, key length, device, key. */
export function md5Structure(address: Ip, prefixLength: number | undefined, key: Uint8Array): Uint8Array {
  const bytes = new Uint8Array(216);
  bytes.set(socketAddress(address, 0), 0);
  if (prefixLength !== undefined) bytes.set([TCP_MD5SIG_FLAG_PREFIX, prefixLength], 128);
  bytes.set(new Uint8Array(Uint16Array.of(key.length).buffer), 130);
  bytes.set(key, 136);
  return bytes;
}
