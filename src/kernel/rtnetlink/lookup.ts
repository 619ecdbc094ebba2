import { bits, familyOf, ipBytes } from '../../model/address.ts';
import { type Hop, hopParts } from '../../model/feed.ts';
import { interfaceIndex, interfaceName } from '../socket.ts';
import { KernelError } from '../types.ts';
import {
  AF_INET,
  AF_INET6,
  NLM_F_REQUEST,
  NLMSG_ERROR,
  RTA_DST,
  RTA_OIF,
  RTA_PRIORITY,
  RTM_GETROUTE,
  RTM_NEWROUTE,
} from './constants.ts';
import { checked, errnoName, libc } from './libc.ts';
import { hostI32, hostU32, type Message, MessageWriter, readAttributes, readMessages } from './message.ts';

const AF_NETLINK = 16;
const SOCK_RAW_CLOEXEC = 3 | 0o2000000;
const NETLINK_ROUTE = 0;
const MSG_DONTWAIT = 0x40;
/** The route of the table that was found, rather than how a packet would go. linux/rtnetlink.h. */
const RTM_F_FIB_MATCH = 0x2000;
/** Offsets in `struct rtmsg` of the prefix length and the type, and where attributes begin. */
const lengthOffset = 1;
const typeOffset = 7;
const rtmsgLength = 12;
const RTN_UNICAST = 1;
const RTN_LOCAL = 2;
/** What a lookup that finds nothing, or a route that leads nowhere, is answered with. ip_fib_trie, fib_props. */
const noRoute: ReadonlySet<string> = new Set(['ENETUNREACH', 'EHOSTUNREACH', 'EINVAL', 'EACCES', 'ENODEV']);

/** The route that packets to an address take. */
export interface FoundRoute {
  /** RTA_PRIORITY, 0 without one. */
  readonly metric: number;
  /** The device that it leads through; empty where there are several. */
  readonly device: string;
  /** Bits of its prefix. */
  readonly length: number;
  /** The address is one of this host. */
  readonly local: boolean;
}

/** Asks the kernel how an address is reached. It reads only, which needs no privilege. */
export class RouteLookup {
  readonly #fd: number;
  readonly #writer = new MessageWriter(128);
  readonly #datagram = new Uint8Array(32 * 1024);
  #sequence = 0;
  #open = true;

  /** @throws KernelError */
  constructor() {
    this.#fd = checked('open netlink socket', libc().socket(AF_NETLINK, SOCK_RAW_CLOEXEC, NETLINK_ROUTE));
  }

  close(): void {
    if (!this.#open) return;
    this.#open = false;
    libc().close(this.#fd);
  }

  /** Undefined when there is no route to the gateway, or one that drops packets. @throws KernelError */
  route(hop: Hop): FoundRoute | undefined {
    const operation = `look up the route to ${hop}`;
    const sequence = this.#ask(hop, operation);
    if (sequence === undefined) return undefined;
    const answer = this.#answer(sequence, operation);
    if (answer.type === NLMSG_ERROR) {
      const code = errnoName(-hostI32(answer.payload, 0));
      if (noRoute.has(code)) return undefined;
      throw new KernelError(operation, code);
    }
    if (answer.type !== RTM_NEWROUTE || answer.payload.length < rtmsgLength) throw new KernelError(operation, 'EPROTO');
    const type = answer.payload[typeOffset];
    if (type !== RTN_UNICAST && type !== RTN_LOCAL) return undefined;
    const attributes = readAttributes(answer.payload, rtmsgLength);
    const [priority, out] = [attributes.get(RTA_PRIORITY), attributes.get(RTA_OIF)];
    return {
      metric: priority ? hostU32(priority, 0) : 0,
      device: (out && interfaceName(hostU32(out, 0))) ?? '',
      length: answer.payload[lengthOffset] ?? 0,
      local: type === RTN_LOCAL,
    };
  }

  /** Undefined: the device of a link-local gateway is not there. */
  #ask(hop: Hop, operation: string): number | undefined {
    const { gateway, device } = hopParts(hop);
    const index = device === undefined ? undefined : indexOf(device);
    if (device !== undefined && index === undefined) return undefined;
    const family = familyOf(gateway);
    const w = this.#writer;
    w.clear();
    this.#sequence = (this.#sequence + 1) >>> 0;
    const at = w.begin(RTM_GETROUTE, NLM_F_REQUEST, this.#sequence);
    for (const octet of [family === 4 ? AF_INET : AF_INET6, bits(family), 0, 0, 0, 0, 0, 0]) w.u8(octet);
    w.u32(RTM_F_FIB_MATCH);
    w.attribute(RTA_DST, ipBytes(gateway));
    if (index !== undefined) w.attributeU32(RTA_OIF, index);
    w.end(at);
    checked(operation, libc().send(this.#fd, w.written, w.written.length, 0));
    return this.#sequence;
  }

  /** The kernel answers within `send`: there is something to read at once. */
  #answer(sequence: number, operation: string): Message {
    for (;;) {
      const length = checked(operation, libc().recv(this.#fd, this.#datagram, this.#datagram.length, MSG_DONTWAIT));
      for (const message of readMessages(this.#datagram.subarray(0, length)))
        if (message.sequence === sequence) return message;
    }
  }
}

function indexOf(device: string): number | undefined {
  try {
    return interfaceIndex(device);
  } catch (thrown) {
    if (thrown instanceof KernelError && thrown.code === 'ENODEV') return undefined;
    throw thrown;
  }
}
