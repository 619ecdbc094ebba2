import { closeSync } from 'node:fs';
import { createRequire } from 'node:module';
import { Worker } from 'node:worker_threads';
import { type Clock, systemClock } from '../../base/clock.ts';
import { inNamespaceOf } from '../setns.ts';
import type { KernelEvent, Link } from '../types.ts';
import { readAddress } from './address.ts';
import {
  NLM_F_ACK,
  NLM_F_REQUEST,
  NLMSG_NOOP,
  RTM_DELADDR,
  RTM_DELLINK,
  RTM_DELROUTE,
  RTM_NEWADDR,
  RTM_NEWLINK,
  RTM_NEWROUTE,
  RTNLGRP_IPV4_IFADDR,
  RTNLGRP_IPV4_ROUTE,
  RTNLGRP_IPV6_IFADDR,
  RTNLGRP_IPV6_ROUTE,
  RTNLGRP_LINK,
} from './constants.ts';
import { checked, libc } from './libc.ts';
import { readLink } from './link.ts';
import { type Message, MessageWriter, readMessages } from './message.ts';
import { hostOrderU32, openNetlinkSocket } from './open.ts';
import { type NameOf, readRoute } from './route.ts';
import { NETLINK_ROUTE } from './socket.ts';
import { workerSource } from './worker-source.ts';

/** ioctl on a socket: a descriptor of its network namespace (linux/sockios.h). */
const SIOCGSKNS = 0x894c;
const SOL_SOCKET = 1;
const SO_RCVTIMEO = 20;

export interface MonitorLimits {
  /** The kernel's queue. Bursts of 50 000 events fit, measured with half of the usual size. */
  readonly bufferBytes: number;
  /** Datagrams on their way from the worker to a busy main thread; beyond that it drops them and says so. */
  readonly queueLimit: number;
  /** Port of the socket whose changes of routes are not told. */
  readonly quietPort?: number;
}

/** How long datagrams are looked at in one turn of the event loop, in milliseconds, and how many between two looks at the clock. */
const turnMs = 3;
const lookEvery = 8;

export const usualLimits: MonitorLimits = { bufferBytes: 8 << 20, queueLimit: 65_536 };
const groups = [RTNLGRP_LINK, RTNLGRP_IPV4_IFADDR, RTNLGRP_IPV6_IFADDR, RTNLGRP_IPV4_ROUTE, RTNLGRP_IPV6_ROUTE];

/** What the monitor asks of the driver beside its own socket. */
export interface LinkSource {
  links(): Link[];
}

/**
 * Follows the namespace of the socket `fd`. A worker thread blocks in recv, so that neither a busy main thread nor a
 * blocked pool delays the draining of the kernel's buffer; this thread decodes.
 */
export function startMonitor(
  fd: number,
  source: LinkSource,
  onEvent: (event: KernelEvent) => void,
  signal: AbortSignal,
  limits = usualLimits,
): { ready: Promise<void> } {
  if (signal.aborted) return { ready: Promise.resolve() };
  const subscribed = subscribe(fd, limits.bufferBytes);
  const decode = decoder(source);
  const control = new Int32Array(new SharedArrayBuffer(8));
  const worker = new Worker(workerSource, {
    eval: true,
    name: 'rtnetlink-monitor',
    workerData: {
      fd: subscribed,
      control,
      queueLimit: limits.queueLimit,
      quietPort: limits.quietPort ?? 0,
      koffi: createRequire(import.meta.url).resolve('koffi'),
    },
  });
  const stop = () => {
    Atomics.store(control, 0, 1);
    wake(subscribed);
  };
  signal.addEventListener('abort', stop, { once: true });
  const ready = Promise.withResolvers<void>();
  let started = false;
  const take = inTurns((message: Uint8Array | string) => {
    Atomics.sub(control, 1, typeof message === 'string' ? 0 : 1);
    if (signal.aborted) return;
    if (typeof message === 'string') onEvent({ what: 'overrun' });
    else for (const event of decode(message)) onEvent(event);
  });
  worker.on('message', (message: Uint8Array | string) => {
    if (message === 'ready') {
      started = true;
      return ready.resolve();
    }
    take(message);
  });
  let cause: unknown;
  worker.once('error', (thrown) => {
    cause = thrown;
  });
  worker.once('exit', () => {
    signal.removeEventListener('abort', stop);
    closeSync(subscribed);
    if (signal.aborted) return ready.resolve();
    const problem = new Error('the rtnetlink monitor thread ended', { cause });
    ready.reject(problem);
    // Without its monitor the process would go on blind; nobody may be waiting for `ready` any more.
    if (started) throw problem;
  });
  return { ready: ready.promise };
}

/** Takes what comes, in order: few at once, and a burst, which Node hands over in one turn, some in each turn. */
export function inTurns<T>(take: (item: T) => void, clock: Clock = systemClock): (item: T) => void {
  let waiting: T[] = [];
  let inTurn = 0;
  let end = 0;
  let enough = false;
  const takeOne = (item: T) => {
    take(item);
    enough = ++inTurn % lookEvery === 0 && clock.monotonic() >= end;
  };
  const begin = () => {
    inTurn = 0;
    enough = false;
    end = clock.monotonic() + turnMs;
  };
  const more = () => {
    begin();
    let at = 0;
    for (; at < waiting.length && !enough; at++) takeOne(waiting[at] as T);
    waiting = waiting.slice(at);
    if (inTurn > 0) setImmediate(more);
  };
  return (item) => {
    if (waiting.length > 0 || enough) {
      waiting.push(item);
      return;
    }
    if (inTurn === 0) {
      begin();
      setImmediate(more);
    }
    takeOne(item);
  };
}

/** A socket in the namespace of socket `fd`, bound to the groups: events queue from here on. */
function subscribe(fd: number, bufferBytes: number): number {
  const namespace = checked('find the namespace of a netlink socket', libc().ioctl(fd, SIOCGSKNS, null));
  try {
    return inNamespaceOf(namespace, 'of the netlink socket', () => {
      const socket = openNetlinkSocket(NETLINK_ROUTE, bufferBytes);
      // The worker looks at its stop flag at least once a second, should the wake-up be lost.
      const second = new Uint8Array(16);
      second.set(new Uint8Array(new BigInt64Array([1n, 0n]).buffer));
      try {
        checked('set receive time-out', libc().setsockopt(socket, SOL_SOCKET, SO_RCVTIMEO, second, 16));
        checked('bind netlink socket', libc().bind(socket, groupAddress(), 12));
      } catch (cause) {
        closeSync(socket);
        throw cause;
      }
      return socket;
    });
  } finally {
    closeSync(namespace);
  }
}

/** `struct sockaddr_nl`; all our groups have numbers below 32, so the bit mask holds them. */
function groupAddress(): Uint8Array {
  const address = new Uint8Array(12);
  address.set(new Uint8Array(new Uint16Array([16]).buffer), 0);
  address.set(hostOrderU32(groups.reduce((mask, group) => mask | (1 << (group - 1)), 0)), 8);
  return address;
}

/** Has the kernel acknowledge a no-op on the socket, which ends the worker's recv. */
function wake(fd: number): void {
  const w = new MessageWriter(16);
  w.end(w.begin(NLMSG_NOOP, NLM_F_REQUEST | NLM_F_ACK, 0));
  libc().send(fd, w.written, w.length, 0);
}

/** Datagram → events. Keeps the names of devices, as route messages carry indexes and may outlive the device. */
function decoder(source: LinkSource): (datagram: Uint8Array) => KernelEvent[] {
  const names = new Map<number, string>();
  let listed = false;
  const nameOf: NameOf = (index) => {
    if (!names.has(index) && !listed) {
      listed = true;
      for (const link of source.links()) names.set(link.index, link.name);
    }
    return names.get(index);
  };
  const one = (message: Message): KernelEvent | undefined => {
    const event = readEvent(message, nameOf);
    if (event?.what !== 'link') return event;
    if (event.gone) names.delete(event.link.index);
    else names.set(event.link.index, event.link.name);
    return event;
  };
  return (datagram) => Array.from(readMessages(datagram)).flatMap((message) => one(message) ?? []);
}

/** Undefined for what is no event of ours: acknowledgements, cached routes, bridge port messages. */
export function readEvent({ type, payload }: Message, nameOf: NameOf): KernelEvent | undefined {
  switch (type) {
    case RTM_NEWLINK:
    case RTM_DELLINK:
      // Family AF_BRIDGE speaks of a port of a bridge: its deletion is not the device's.
      return payload[0] === 0 ? { what: 'link', link: readLink(payload), gone: type === RTM_DELLINK } : undefined;
    case RTM_NEWADDR:
    case RTM_DELADDR: {
      const address = readAddress(payload);
      return address && { what: 'address', index: address.index, gone: type === RTM_DELADDR };
    }
    case RTM_NEWROUTE:
    case RTM_DELROUTE: {
      const route = readRoute(payload, nameOf);
      return route && { what: 'route', route, gone: type === RTM_DELROUTE };
    }
    default:
      return undefined;
  }
}
