import { closeSync, constants, openSync } from 'node:fs';
import koffi from 'koffi';
import { errorCode } from '../base/errors.ts';
import { checked } from './rtnetlink/libc.ts';
import { checkedName } from './rtnetlink/link.ts';
import { KernelError } from './types.ts';

/* TUN devices: what the kernel routes there is read from a descriptor. Documentation/networking/tuntap.rst */

const TUNSETIFF = 0x400454ca;
const TUNSETPERSIST = 0x400454cb;
const IFF_TUN = 0x0001;
/** No four octets before each packet. */
const IFF_NO_PI = 0x1000;
/** `struct ifreq`: the name, then flags. */
const ifreqLength = 40;
const flagsOffset = 16;

/** Errors of open(2) that mean: this kernel, or this container, has no TUN. */
const lacking = new Set(['ENOENT', 'ENODEV', 'ENXIO']);

interface Ioctl {
  pointer(fd: number, request: number, argument: Uint8Array): number;
  value(fd: number, request: number, argument: number): number;
}

let loaded: Ioctl | undefined;

function ioctl(): Ioctl {
  if (!loaded) {
    const process = koffi.load(null);
    loaded = {
      pointer: process.func('int ioctl(int fd, unsigned long request, void *argument)'),
      value: process.func('int ioctl(int fd, unsigned long request, intptr_t argument)'),
    };
  }
  return loaded;
}

/**
 * Opens the TUN device of this name in the thread's network namespace, and makes it where there is none. It stays when
 * the descriptor is closed, with its routes, and then drops what is sent there.
 * @returns a non-blocking descriptor, the caller's to close; a read or write is one IP packet
 * @throws KernelError EOPNOTSUPP without /dev/net/tun, EBUSY while another descriptor is attached
 */
export function openTun(name: string): number {
  const operation = `open TUN device ${name}`;
  const fd = openDevice(operation);
  try {
    const request = new Uint8Array(ifreqLength);
    request.set(new TextEncoder().encode(checkedName(name)));
    request.set(new Uint8Array(Uint16Array.of(IFF_TUN | IFF_NO_PI).buffer), flagsOffset);
    checked(operation, ioctl().pointer(fd, TUNSETIFF, request));
    checked(`keep TUN device ${name}`, ioctl().value(fd, TUNSETPERSIST, 1));
    return fd;
  } catch (cause) {
    closeSync(fd);
    throw cause;
  }
}

function openDevice(operation: string): number {
  const file = '/dev/net/tun';
  try {
    return openSync(file, constants.O_RDWR | constants.O_NONBLOCK);
  } catch (cause) {
    const code = errorCode(cause);
    if (code === undefined) throw cause;
    if (lacking.has(code)) throw new KernelError(operation, 'EOPNOTSUPP', `${file}: ${code}`);
    throw new KernelError(operation, code, file);
  }
}
