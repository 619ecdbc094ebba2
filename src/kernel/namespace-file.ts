import { closeSync, constants, openSync, statSync } from 'node:fs';
import { InputError } from '../base/errors.ts';
import { libc } from './rtnetlink/libc.ts';

/** ioctl on a namespace file: the CLONE_NEW… flag of its kind (linux/nsfs.h). */
const NS_GET_NSTYPE = 0xb703;
export const CLONE_NEWNET = 0x40000000;

/**
 * An open descriptor of the network namespace at `path` (`/run/netns/…`, `/proc/<pid>/ns/net`); the caller closes it.
 * @throws InputError when the path is not there or is something else
 */
export function openNamespace(path: string): number {
  const expected = 'the path of a network namespace, such as /run/netns/name or /proc/1/ns/net';
  let fd: number;
  try {
    // Opening a device or a FIFO could have effects or block; namespace files are regular ones.
    if (!statSync(path).isFile()) throw new InputError('netns', path, expected);
    fd = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
  } catch (cause) {
    if (cause instanceof InputError) throw cause;
    throw new InputError('netns', path, expected, { cause });
  }
  if (libc().ioctl(fd, NS_GET_NSTYPE, null) !== CLONE_NEWNET) {
    closeSync(fd);
    throw new InputError('netns', path, expected);
  }
  return fd;
}
