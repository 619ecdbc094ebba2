import { closeSync, writeSync } from 'node:fs';
import { createRequire } from 'node:module';
import { Worker } from 'node:worker_threads';
import koffi from 'koffi';
import { type Cidr, cidrParts, familyOf, type Ip, ipNumber } from '../model/address.ts';
import { checked } from './rtnetlink/libc.ts';
import { setOption, socketAddress } from './socket.ts';
import { openTun } from './tun.ts';
import { openUdp } from './udp.ts';
import { udpTunnelWorkerSource } from './udp-tunnel-worker.ts';

/*
 * A tunnel without a kernel module: a TUN device for routes to point to, and a thread that carries its IPv4 packets in
 * UDP datagrams and back. The datagram holds the packet as it is, from the first octet of its IP header on, and nothing
 * else (as Linux's `fou` with protocol 4).
 */

export interface UdpTunnelRequest {
  /** The TUN device. */
  readonly name: string;
  /** IPv4 address of the node; datagrams come and go from this address and port only. */
  readonly local: Ip;
  readonly port: number;
}

/** Where packets go, and who may send any. */
export interface UdpTunnelTable {
  /** IPv4 prefix → address of the node behind which it is; the longest prefix counts. */
  readonly destinations: ReadonlyMap<Cidr, Ip>;
  /** Addresses of nodes; datagrams of others are dropped. */
  readonly sources: readonly Ip[];
}

/** Packets since the tunnel was opened. */
export interface UdpTunnelCounts {
  readonly sent: number;
  readonly received: number;
  /** Routed into the tunnel, though no node of its table has the address. */
  readonly unknownDestination: number;
  readonly unknownSource: number;
  /** Datagrams that hold no IPv4 packet. */
  readonly malformed: number;
  /** Refused by the kernel: a full queue, a rule, no route. */
  readonly refused: number;
}

export interface UdpTunnel {
  setTable(table: UdpTunnelTable): void;
  counts(): UdpTunnelCounts;
  /** Ends the thread; the device stays. Resolves when the device and port can be opened again. */
  close(): Promise<void>;
}

/** @param onEnd told once, when the thread has ended: with the cause, or without one after `close` */
export type OpenUdpTunnel = (request: UdpTunnelRequest, onEnd: (cause?: Error) => void) => UdpTunnel;

/** IP_MTU_DISCOVER, IP_PMTUDISC_DONT: datagrams may be fragmented on their way, as VXLAN's may. */
const mayFragment = { level: 0, name: 10, title: 'IP_MTU_DISCOVER' } as const;
/** SO_RCVBUFFORCE (linux/asm-generic/socket.h) */
const receiveBuffer = { level: 1, name: 33, title: 'SO_RCVBUFFORCE' } as const;
const bufferBytes = 4 << 20;
/** EFD_CLOEXEC, EFD_NONBLOCK */
const eventFlags = 0o2000000 | 0o4000;

/**
 * Opens a tunnel whose device and socket are in the thread's network namespace, or in that which `enter` enters.
 * @throws KernelError EOPNOTSUPP without TUN, EBUSY while another program has the device, EADDRINUSE, EADDRNOTAVAIL
 */
export function openUdpTunnel(
  request: UdpTunnelRequest,
  onEnd: (cause?: Error) => void,
  enter: <T>(action: () => T) => T = (action) => action(),
): UdpTunnel {
  return new Thread(
    enter(() => openDescriptors(request)),
    request.port,
    onEnd,
  );
}

interface Descriptors {
  readonly tun: number;
  readonly udp: number;
  readonly wake: number;
}

function openDescriptors({ name, local, port }: UdpTunnelRequest): Descriptors {
  const open: number[] = [];
  const kept = (fd: number): number => {
    open.push(fd);
    return fd;
  };
  try {
    // The port first: without it there is to be no device.
    const udp = kept(openUdp({ family: 4, address: local, port }));
    setOption(udp, mayFragment, 0);
    setOption(udp, receiveBuffer, bufferBytes);
    return { udp, tun: kept(openTun(name)), wake: kept(openEvent()) };
  } catch (cause) {
    for (const fd of open) closeSync(fd);
    throw cause;
  }
}

let eventfd: ((initial: number, flags: number) => number) | undefined;

function openEvent(): number {
  eventfd ??= koffi.load(null).func('int eventfd(unsigned int initial, int flags)') as NonNullable<typeof eventfd>;
  return checked('eventfd', eventfd(0, eventFlags));
}

class Thread implements UdpTunnel {
  readonly #counts = new Float64Array(new SharedArrayBuffer(6 * 8));
  readonly #worker: Worker;
  readonly #ended = Promise.withResolvers<void>();
  #state: 'running' | 'closing' | 'ended' = 'running';

  constructor(
    private readonly fds: Descriptors,
    private readonly port: number,
    onEnd: (cause?: Error) => void,
  ) {
    this.#worker = new Worker(udpTunnelWorkerSource, {
      eval: true,
      name: 'udp-tunnel',
      workerData: { ...fds, counts: this.#counts, koffi: createRequire(import.meta.url).resolve('koffi') },
    });
    let cause: Error | undefined;
    this.#worker.once('error', (thrown) => {
      cause = thrown instanceof Error ? thrown : new Error('the thread of the UDP tunnel failed', { cause: thrown });
    });
    this.#worker.once('exit', () => {
      const expected = this.#state === 'closing';
      this.#state = 'ended';
      for (const fd of Object.values(fds)) closeSync(fd);
      this.#ended.resolve();
      onEnd(expected ? undefined : (cause ?? new Error('the thread of the UDP tunnel ended')));
    });
  }

  setTable({ destinations, sources }: UdpTunnelTable): void {
    const byLength = new Map<number, Map<number, Uint8Array>>();
    for (const [prefix, node] of destinations) {
      const { address, length } = cidrParts(prefix);
      const networks = byLength.get(length) ?? new Map<number, Uint8Array>();
      byLength.set(length, networks.set(Number(ipNumber(address)), socketAddress(node, this.port)));
    }
    const lengths = [...byLength.keys()].sort((a, b) => b - a);
    const numbers = sources.filter((source) => familyOf(source) === 4).map((source) => Number(ipNumber(source)));
    this.#send({ lengths, networks: lengths.map((length) => byLength.get(length)), sources: new Set(numbers) });
  }

  counts(): UdpTunnelCounts {
    const [sent = 0, received = 0, unknownDestination = 0, unknownSource = 0, malformed = 0, refused = 0] =
      this.#counts;
    return { sent, received, unknownDestination, unknownSource, malformed, refused };
  }

  close(): Promise<void> {
    if (this.#state === 'running') {
      this.#state = 'closing';
      this.#send({ stop: true });
    }
    return this.#ended.promise;
  }

  #send(message: object): void {
    if (this.#state === 'ended') return;
    this.#worker.postMessage(message);
    writeSync(this.fds.wake, new Uint8Array(BigUint64Array.of(1n).buffer));
  }
}
