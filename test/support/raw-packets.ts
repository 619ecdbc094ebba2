import { readFile } from 'node:fs/promises';
import koffi from 'koffi';
import { inNamespace } from '../../src/kernel/setns.ts';
import type { PodNetwork } from './pods.ts';
import { octets, sctpInit, sockaddr } from './sctp.ts';
import { until } from './wait.ts';

/*
 * First packets of connections over raw sockets in the namespaces of a network, and whom they come to: thousands of verdicts
 * of the kernel in the time that one connection attempt takes to give up.
 */

/** Of a packet that nobody's kernel has seen before: TCP is a SYN, SCTP an INIT. */
export interface RawPacket {
  readonly source: string;
  readonly destination: string;
  /** IP protocol number: 1, 6, 17, 47, 58, 132. */
  readonly protocol: number;
  readonly sourcePort?: number;
  readonly destinationPort?: number;
  readonly icmp?: { readonly type: number; readonly code: number };
}

const [ICMP, TCP, UDP, GRE, ICMPV6, SCTP] = [1, 6, 17, 47, 58, 132];
const protocols = { 4: [ICMP, TCP, UDP, GRE, SCTP], 6: [TCP, UDP, GRE, ICMPV6, SCTP] } as const;
const domains = { 4: 2, 6: 10 } as const;
/** SOCK_RAW, SOCK_CLOEXEC. */
const raw = 3 | 0o2000000;
const MSG_DONTWAIT = 0x40;
const [SOL_SOCKET, SO_RCVBUFFORCE] = [1, 33];
const receiveBytes = 8 * 1024 * 1024;
/** What a packet that the own OUTPUT drops fails with. */
const EPERM = 1;
/** Times out a kernel that is busy with other namespaces' packets for good. */
const settleMs = 10_000;

const libc = koffi.load(null);
const socket = libc.func('int socket(int domain, int type, int protocol)');
const bind = libc.func('int bind(int fd, void *address, uint32_t length)');
const setsockopt = libc.func('int setsockopt(int fd, int level, int option, void *value, uint32_t length)');
const sendto = libc.func('int64_t sendto(int fd, void *data, size_t length, int flags, void *to, uint32_t toLength)');
const recv = libc.func('int64_t recv(int fd, void *data, size_t length, int flags)');
const close = libc.func('int close(int fd)');

interface Receiver {
  readonly fd: number;
  readonly family: 4 | 6;
  readonly protocol: number;
  /** The member whose namespace it is in. */
  readonly member: string;
}

/** Sends from any address of a network's members and of its node, and tells what arrived where it was sent to. */
export class RawPackets {
  readonly #receivers: Receiver[] = [];
  /** `address protocol` → socket. */
  readonly #senders = new Map<string, number>();
  /** Address → member. */
  readonly #owners: ReadonlyMap<string, string>;
  readonly #bytes = Buffer.alloc(2048);
  #next = 1;

  /** @param own addresses of the node itself */
  constructor(
    private readonly network: PodNetwork,
    own: readonly string[] = [],
  ) {
    this.#owners = new Map([
      ...network.members.flatMap(({ name, addresses }) => addresses.map((address) => [address, name] as const)),
      ...own.map((address) => [address, 'node'] as const),
    ]);
    for (const member of ['node', ...network.members.map(({ name }) => name)])
      for (const family of [4, 6] as const)
        for (const protocol of protocols[family])
          this.#receivers.push({ member, family, protocol, fd: this.#open(member, family, protocol) });
  }

  /** Whether each packet came to its destination. */
  async deliver(packets: readonly RawPacket[]): Promise<boolean[]> {
    const arrived = new Set<string>();
    const ids = packets.map((packet) => this.#send(packet));
    await until(isIdle, { within: settleMs, what: 'the kernel has no packets in its queues', every: 2 });
    for (const receiver of this.#receivers) this.#drain(receiver, arrived);
    return packets.map(({ destination }, at) => arrived.has(`${this.#ownerOf(destination)} ${ids[at]}`));
  }

  /** Waits until everybody has heard everybody, as who has never spoken to a neighbour asks for it first; before all policy. */
  async acquaint(): Promise<void> {
    const six = (address: string) => address.includes(':');
    const addresses = [...this.#owners];
    const greetings = addresses.flatMap(([source, sender]) =>
      addresses
        .filter(([destination, receiver]) => receiver !== sender && six(source) === six(destination))
        .map(([destination]) => ({ source, destination, protocol: UDP, sourcePort: 9, destinationPort: 9 })),
    );
    const heard = async () => (await this.deliver(greetings)).every((each) => each);
    await until(heard, { within: settleMs, what: 'everybody hears everybody' });
  }

  close(): void {
    for (const { fd } of this.#receivers) close(fd);
    for (const fd of this.#senders.values()) close(fd);
  }

  #open(member: string, family: 4 | 6, protocol: number): number {
    const fd = inNamespace(this.network.pathOf(member), () => Number(socket(domains[family], raw, protocol)));
    if (fd < 0) throw new Error(`no raw socket of protocol ${protocol} in ${member}: errno ${koffi.errno()}`);
    const size = Buffer.alloc(4);
    size.writeInt32LE(receiveBytes);
    if (setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, size, size.length) < 0)
      throw new Error(`SO_RCVBUFFORCE: errno ${koffi.errno()}`);
    return fd;
  }

  #ownerOf(address: string): string {
    const owner = this.#owners.get(address);
    if (owner === undefined) throw new Error(`nobody has the address ${address}`);
    return owner;
  }

  #sender(source: string, protocol: number): number {
    const name = `${source} ${protocol}`;
    const existing = this.#senders.get(name);
    if (existing !== undefined) return existing;
    const fd = this.#open(this.#ownerOf(source), source.includes(':') ? 6 : 4, protocol);
    this.#senders.set(name, fd);
    const address = sockaddr(source);
    if (bind(fd, address, address.length) < 0) throw new Error(`bind to ${source}: errno ${koffi.errno()}`);
    return fd;
  }

  /** @returns what tells the packet from others */
  #send(packet: RawPacket): number {
    const id = this.#next++;
    const bytes = messageOf(packet, id);
    const to = sockaddr(packet.destination);
    const sent = sendto(this.#sender(packet.source, packet.protocol), bytes, bytes.length, 0, to, to.length);
    if (sent < 0 && koffi.errno() !== EPERM)
      throw new Error(`${packet.source} to ${packet.destination}: errno ${koffi.errno()}`);
    return id;
  }

  #drain({ fd, family, protocol, member }: Receiver, arrived: Set<string>): void {
    for (;;) {
      const length = Number(recv(fd, this.#bytes, this.#bytes.length, MSG_DONTWAIT));
      if (length <= 0) return;
      // IPv4 raw sockets give the IP header, too.
      const from = family === 4 ? ((this.#bytes[0] ?? 0) & 15) * 4 : 0;
      const id = idOf(protocol, this.#bytes.subarray(from, length));
      if (id !== undefined) arrived.add(`${member} ${id}`);
    }
  }
}

/**
 * Whether no CPU has received packets in its queue, which veths put them into; what is sent has gone its whole way then. The
 * last columns of softnet_stat are the lengths of both parts (`softnet_seq_show`, net/core/net-procfs.c).
 */
async function isIdle(): Promise<boolean> {
  const lines = (await readFile('/proc/net/softnet_stat', 'utf8')).trim().split('\n');
  return lines.every((line) => {
    const columns = line.split(' ').map((column) => Number.parseInt(column, 16));
    if (columns.length < 15) throw new Error(`/proc/net/softnet_stat: ${columns.length} columns`);
    return columns[13] === 0 && columns[14] === 0;
  });
}

function messageOf(packet: RawPacket, id: number): Buffer {
  const { protocol, sourcePort = 0, destinationPort = 0, icmp = { type: 0, code: 0 } } = packet;
  switch (protocol) {
    case SCTP:
      return sctpInit(sourcePort, destinationPort, id);
    case TCP:
    case UDP: {
      const bytes = Buffer.alloc(protocol === TCP ? 20 : 12);
      bytes.writeUInt16BE(sourcePort, 0);
      bytes.writeUInt16BE(destinationPort, 2);
      if (protocol === TCP) {
        bytes.writeUInt32BE(id, 4);
        // Five words of header; SYN; a window.
        bytes.writeUInt32BE(0x5002_ffff, 12);
      } else {
        bytes.writeUInt16BE(bytes.length, 4);
        bytes.writeUInt32BE(id, 8);
      }
      bytes.writeUInt16BE(
        checksum(Buffer.concat([pseudoHeader(packet, bytes.length), bytes])),
        protocol === TCP ? 16 : 6,
      );
      return bytes;
    }
    case ICMP:
    case ICMPV6: {
      const bytes = Buffer.alloc(8);
      bytes.writeUInt8(icmp.type, 0);
      bytes.writeUInt8(icmp.code, 1);
      bytes.writeUInt32BE(id, 4);
      // The kernel itself fills in that of ICMPv6. RFC 3542 §3.1.
      if (protocol === ICMP) bytes.writeUInt16BE(checksum(bytes), 2);
      return bytes;
    }
    default: {
      const bytes = Buffer.alloc(8);
      bytes.writeUInt32BE(id, 4);
      return bytes;
    }
  }
}

/** What `messageOf` wrote. */
function idOf(protocol: number, bytes: Buffer): number | undefined {
  const at = protocol === UDP ? 8 : protocol === SCTP ? 16 : 4;
  return bytes.length < at + 4 ? undefined : bytes.readUInt32BE(at);
}

/** RFC 9293 §3.1, RFC 8200 §8.1: for lengths under 64 KiB both are the same sum. */
function pseudoHeader({ source, destination, protocol }: RawPacket, length: number): Buffer {
  const end = Buffer.alloc(4);
  end.writeUInt16BE(length, 0);
  end.writeUInt16BE(protocol, 2);
  return Buffer.concat([octets(source), octets(destination), end]);
}

/** RFC 1071, of an even number of octets. */
function checksum(bytes: Buffer): number {
  let sum = 0;
  for (let at = 0; at < bytes.length; at += 2) sum += bytes.readUInt16BE(at);
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16);
  return ~sum & 0xffff;
}
