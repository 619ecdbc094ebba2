import { closeSync, constants, openSync, statSync } from 'node:fs';
import { InputError } from '../base/errors.ts';
import { libc } from './rtnetlink/libc.ts';

/** ioctl on a namespace file: the CLONE_NEW… flag of its kind (linux/nsfs.h). */
const NS_GET_NSTYPE = 0xb703;
export const CLONE_NEWNET = 0x40000000;

/** Descriptors of namespaces by the paths that they have elsewhere. */
const held = new Map<string, number>();

/** From now on `path` is the namespace of an open descriptor, whatever is at the path here. The caller closes it later. */
export function holdNamespace(path: string, fd: number): void {
  held.set(path, fd);
}

export function releaseNamespace(path: string): void {
  held.delete(path);
}

/** Where in our file system the namespace is that has this path, or had it where a descriptor came from. */
export function namespacePath(path: string): string {
  const fd = held.get(path);
  return fd === undefined ? path : `/proc/self/fd/${fd}`;
}

export function isNetworkNamespace(fd: number): boolean {
  return libc().ioctl(fd, NS_GET_NSTYPE, null) === CLONE_NEWNET;
}

/**
 * An open descriptor of the network namespace at `path` (`/run/netns/…`, `/proc/<pid>/ns/net`); the caller closes it.
 * @throws InputError when the path is not there or is something else
 */
export function openNamespace(path: string): number {
  const expected = 'the path of a network namespace, such as /run/netns/name or /proc/1/ns/net';
  let fd: number;
  try {
    // Opening a device or a FIFO could have effects or block; namespace files are regular ones.
    const at = namespacePath(path);
    if (!statSync(at).isFile()) throw new InputError('netns', path, expected);
    fd = openSync(at, constants.O_RDONLY | constants.O_NONBLOCK);
  } catch (cause) {
    if (cause instanceof InputError) throw cause;
    throw new InputError('netns', path, expected, { cause });
  }
  if (!isNetworkNamespace(fd)) {
    closeSync(fd);
    throw new InputError('netns', path, expected);
  }
  return fd;
}
