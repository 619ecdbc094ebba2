import { endianness } from 'node:os';
import { EnvironmentError } from '../../base/errors.ts';
import { KernelError } from '../types.ts';
import { checked, libc } from './libc.ts';

const AF_NETLINK = 16;
const SOCK_RAW_CLOEXEC = 3 | 0o2000000;
const SOL_SOCKET = 1;
const SO_RCVBUFFORCE = 33;

/** A netlink socket of the current namespace. @throws KernelError; EnvironmentError without CAP_NET_ADMIN */
export function openNetlinkSocket(protocol: number, bufferBytes: number): number {
  const fd = checked('open netlink socket', libc().socket(AF_NETLINK, SOCK_RAW_CLOEXEC, protocol));
  try {
    setOption(fd, SOL_SOCKET, SO_RCVBUFFORCE, bufferBytes);
  } catch (cause) {
    if (!(cause instanceof KernelError) || cause.code !== 'EPERM') throw cause;
    throw new EnvironmentError('no permission to change the network', 'run as root or with CAP_NET_ADMIN', { cause });
  }
  return fd;
}

/** Sets an integer option; on failure the socket is closed. @throws KernelError */
export function setOption(fd: number, level: number, option: number, value: number): void {
  try {
    const bytes = hostOrderU32(value);
    checked(`set netlink socket option ${level}/${option}`, libc().setsockopt(fd, level, option, bytes, 4));
  } catch (cause) {
    libc().close(fd);
    throw cause;
  }
}

export function hostOrderU32(value: number): Uint8Array {
  const bytes = new Uint8Array(4);
  new DataView(bytes.buffer).setUint32(0, value, endianness() === 'LE');
  return bytes;
}
