import { libc } from './libc.ts';
import { openNetlinkSocket, setOption } from './open.ts';

const SOL_NETLINK = 270;
const NETLINK_CAP_ACK = 10;
const NETLINK_EXT_ACK = 11;
const NETLINK_GET_STRICT_CHK = 12;
const MSG_DONTWAIT = 0x40;
const MSG_TRUNC = 0x20;

/** Room for the acknowledgements of a whole batch: 2048 fit in 1 MiB, measured. */
const receiveBuffer = 1 << 20;

/** What carries a netlink socket's octets. Results are as of send(2) and recv(2): below 0, errno says why. */
export interface Wire {
  /** Below 0 where there is no file. */
  readonly fd: number;
  send(octets: Uint8Array): number;
  /** The next datagram, without waiting; its length, also when it was longer than the room. */
  receive(into: Uint8Array): number;
  close(): void;
}

/** The kernel's end, in the namespace that the thread is in. */
export class KernelWire implements Wire {
  readonly fd: number;
  readonly #libc = libc();

  /** @throws KernelError; EnvironmentError without CAP_NET_ADMIN */
  constructor(protocol: number) {
    this.fd = openNetlinkSocket(protocol, receiveBuffer);
    for (const option of [NETLINK_CAP_ACK, NETLINK_EXT_ACK, NETLINK_GET_STRICT_CHK])
      setOption(this.fd, SOL_NETLINK, option, 1);
  }

  send(octets: Uint8Array): number {
    return this.#libc.send(this.fd, octets, octets.length, 0);
  }

  receive(into: Uint8Array): number {
    return this.#libc.recv(this.fd, into, into.length, MSG_DONTWAIT | MSG_TRUNC);
  }

  close(): void {
    this.#libc.close(this.fd);
  }
}
