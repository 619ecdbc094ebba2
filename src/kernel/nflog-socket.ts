import { EnvironmentError } from '../base/errors.ts';
import { type LogGroup, NFULNL_MSG_CONFIG, NFULNL_MSG_PACKET, readLogged, writeBind } from './nflog.ts';
import { readMessages } from './rtnetlink/message.ts';
import { NETLINK_NETFILTER, NetlinkSocket } from './rtnetlink/socket.ts';
import { KernelError } from './types.ts';

/** A packet that a rule logged, for as long as the call of `take`. */
export interface Logged {
  readonly prefix: string;
  /** From the IP header on. */
  readonly packet: Uint8Array;
}

/** What rules log to one group, of one network namespace. */
export interface Nflog {
  /**
   * Hands over what waits, at most about `most` packets; returns at once. What the kernel could not queue is counted.
   * @throws KernelError, NetlinkFormatError
   */
  read(most: number, take: (logged: Logged) => void): { readonly taken: number; readonly lost: number };
  close(): void;
}

/** The head of a packet, with the options of its headers. */
const copy = 128;
/** 50 packets and more; the kernel takes so much memory for the first of them. */
const datagram = 16 * 1024;

/**
 * Binds to a group in the namespace that the thread is in. A socket's queue holds some thousand packets.
 * @throws EnvironmentError when the kernel has no nfnetlink_log; KernelError (`EPERM`: another program has the group)
 */
export function openNflog(group: number): Nflog {
  const socket = new NetlinkSocket(NETLINK_NETFILTER);
  const settings: LogGroup = { group, copy, datagram, gather: 64, gatherFor: 10 };
  try {
    const body = (w: Parameters<typeof writeBind>[0]) => writeBind(w, settings);
    socket.request({ operation: `bind NFLOG group ${group}`, type: NFULNL_MSG_CONFIG, body });
  } catch (cause) {
    socket.close();
    // nfnetlink's answer for a subsystem that is not there and cannot be loaded.
    if (!(cause instanceof KernelError) || cause.code !== 'EINVAL') throw cause;
    throw new EnvironmentError('the kernel has no NFLOG', 'run: modprobe nfnetlink_log', { cause });
  }
  return new BoundNflog(socket);
}

class BoundNflog implements Nflog {
  #next: number | undefined;

  constructor(private readonly socket: NetlinkSocket) {}

  read(most: number, take: (logged: Logged) => void): { readonly taken: number; readonly lost: number } {
    let taken = 0;
    let lost = 0;
    while (taken < most) {
      const waiting = this.socket.poll();
      if (waiting === 'EAGAIN' || waiting === 'EWOULDBLOCK') break;
      // The kernel says once that its queue ran over; the gap in the numbers says by how much.
      if (waiting === 'ENOBUFS') continue;
      if (typeof waiting === 'string') throw new KernelError('read NFLOG', waiting);
      for (const { type, payload } of readMessages(waiting)) {
        if (type !== NFULNL_MSG_PACKET) continue;
        const { prefix, sequence, packet } = readLogged(payload);
        lost += (sequence - (this.#next ?? sequence)) >>> 0;
        this.#next = (sequence + 1) >>> 0;
        taken++;
        take({ prefix, packet });
      }
    }
    return { taken, lost };
  }

  close(): void {
    this.socket.close();
  }
}
