import { Socket } from 'node:net';
import type { Secret } from '../base/secret.ts';
import {
  bindAddress,
  closeSocket,
  familyOptions,
  interfaceIndex,
  openTcp,
  options,
  setMd5Key,
  setOption,
} from '../kernel/socket.ts';
import { KernelError } from '../kernel/types.ts';
import { type Family, familyOf, hostCidr, type Ip, isLinkLocal, parseIp } from '../model/address.ts';
import { sendHoldSeconds } from './negotiate.ts';
import type { PeerConfig } from './settings.ts';

/** What a connection with a peer is protected and marked by. */
export interface TransportOptions {
  /** Device that the connection must use, and the zone of a link-local address. */
  readonly interface?: string;
  /** TCP MD5 signatures with this key. RFC 2385. */
  readonly password?: Secret;
  /** Hops that the peer may be away; 1: on the same link. Absent: packets are taken from anywhere. RFC 5082. */
  readonly ttlSecurity?: number;
  /** Seconds that octets may stay unacknowledged before the kernel gives the connection up. */
  readonly userTimeoutSeconds: number;
}

export interface Endpoint extends TransportOptions {
  readonly address: Ip;
  readonly port: number;
  /** Ours, which the peer knows us by. */
  readonly localAddress?: Ip;
}

/** The send hold timer speaks first, so that the reason is told. */
const userTimeoutMargin = 30;

/** What a peer's TCP connections are opened with; TCP_USER_TIMEOUT (RFC 5482) comes after the send hold time. */
export function transportOf(config: PeerConfig): TransportOptions {
  const { interface: device, password, ttlSecurity } = config;
  return {
    ...(device ? { interface: device } : {}),
    ...(password ? { password } : {}),
    ...(ttlSecurity === undefined ? {} : { ttlSecurity }),
    userTimeoutSeconds: sendHoldSeconds(config) + userTimeoutMargin,
  };
}

/** Internetwork control, the class of routing protocols, as an octet of the IP header. RFC 4594 §3.2. */
export const classSelector6 = 0xc0;
/** What a packet starts with under GTSM, so that each router on its way shows. RFC 5082 §3. */
export const fullHops = 255;

/** Begins a TCP connection; it reports by events, also what the kernel refuses beforehand. */
export function dial(endpoint: Endpoint): Socket {
  let fd: number;
  try {
    fd = prepare(endpoint);
  } catch (thrown) {
    if (!(thrown instanceof KernelError)) throw thrown;
    const socket = new Socket();
    process.nextTick(() => socket.destroy(thrown));
    return socket;
  }
  // Without manualStart Node would read from a socket that is not connected yet.
  return reading({ fd, manualStart: true }).connect({ host: hostOf(endpoint), port: endpoint.port });
}

/** What every socket is read into. */
const incoming = new Uint8Array(65_536);

/** Octets stand in `buffer` from its beginning on, until the call returns. */
export type Taker = (buffer: Uint8Array, length: number) => void;
const takers = new WeakMap<Socket, (taker: Taker) => void>();

/**
 * A socket that is read into one buffer for all, whose octets go to who asks for them by `takeFrom`. The stream's way, a
 * buffer and several calls for each read, takes as long as all that BGP does with an UPDATE.
 */
function reading(source: object): Socket {
  let take: Taker = () => undefined;
  const callback = (octets: number) => {
    take(incoming, octets);
    return true;
  };
  const socket = new Socket({ ...source, readable: true, writable: true, onread: { buffer: incoming, callback } });
  takers.set(socket, (taker) => {
    take = taker;
    socket.resume();
  });
  return socket;
}

/** From now on what comes is the taker's; of a socket of any kind. */
export function takeFrom(socket: Socket, taker: Taker): void {
  const bind = takers.get(socket);
  if (bind) bind(taker);
  // A plain array, of which slices are copies; those of a Buffer would be views.
  else
    socket.on('data', ({ buffer, byteOffset, length }: Buffer) =>
      taker(new Uint8Array(buffer, byteOffset, length), length),
    );
}

/** Takes over an accepted connection, to be read as dialled ones are. */
export function taken(accepted: Socket): Socket {
  const shell = accepted as unknown as Handled;
  const handle = shell._handle;
  if (!handle) return accepted;
  shell._handle = null;
  // Without its handle it only tells its server that it is gone.
  accepted.destroy();
  return reading({ handle });
}

/** What Node keeps of an open socket, by a name that has been the same since its first release. */
interface Handled {
  _handle?: { readonly fd?: number } | null;
}

/** Undefined once the socket is closed. */
export function descriptorOf(socket: Socket): number | undefined {
  const fd = (socket as unknown as Handled)._handle?.fd ?? -1;
  return fd < 0 ? undefined : fd;
}

/** A descriptor with every option set, bound but not connected. @throws KernelError */
function prepare(endpoint: Endpoint): number {
  const { address, localAddress, password } = endpoint;
  const family = familyOf(address);
  const fd = openTcp(family);
  try {
    if (endpoint.interface) setOption(fd, options.bindToDevice, endpoint.interface);
    setOption(fd, familyOptions[family].trafficClass, classSelector6);
    protect(fd, family, endpoint);
    if (password) setMd5Key(fd, hostCidr(address), password.reveal());
    if (localAddress) {
      const scope = endpoint.interface && isLinkLocal(localAddress) ? interfaceIndex(endpoint.interface) : 0;
      bindAddress(fd, localAddress, 0, scope);
    }
    return fd;
  } catch (thrown) {
    closeSocket(fd);
    throw thrown;
  }
}

/** The options of an open connection that depend on the peer. @throws KernelError */
function protect(fd: number, family: Family, { ttlSecurity, userTimeoutSeconds }: TransportOptions): void {
  if (ttlSecurity !== undefined) {
    setOption(fd, familyOptions[family].hops, fullHops);
    setOption(fd, familyOptions[family].minHops, minHops(ttlSecurity));
  }
  setOption(fd, options.userTimeout, userTimeoutSeconds * 1000);
}

/** The fewest hops left in a packet of a peer that is at most so many hops away. */
export function minHops(ttlSecurity: number): number {
  return fullHops + 1 - ttlSecurity;
}

/**
 * Gives a connection that the peer opened the options that dialled ones have; signatures and the class come from the
 * listening socket.
 * @throws KernelError
 */
export function protectAccepted(socket: Socket, family: Family, transport: TransportOptions): void {
  const fd = descriptorOf(socket);
  if (fd === undefined) throw new KernelError('accepted socket', 'EBADF');
  protect(fd, family, transport);
}

function hostOf(endpoint: Endpoint): string {
  const zoned = endpoint.interface !== undefined && isLinkLocal(endpoint.address);
  return zoned ? `${endpoint.address}%${endpoint.interface}` : endpoint.address;
}

export interface Remote {
  readonly address: Ip;
  /** Device name, of a link-local address. */
  readonly zone?: string;
}

/** The other end; undefined once the socket is gone. */
export function remoteOf(socket: Socket): Remote | undefined {
  const [text, zone] = socket.remoteAddress?.replace(/^::ffff:/, '').split('%') ?? [];
  if (text === undefined) return undefined;
  return { address: parseIp(text), ...(zone ? { zone } : {}) };
}
