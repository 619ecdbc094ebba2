import { constants } from 'node:os';
import koffi from 'koffi';
import { KernelError } from '../types.ts';

/* The few C library calls that Node does not offer, through koffi. Loaded at the first use, not at import. */

export interface Libc {
  socket(domain: number, type: number, protocol: number): number;
  bind(fd: number, address: Uint8Array, length: number): number;
  connect(fd: number, address: Uint8Array, length: number): number;
  setsockopt(fd: number, level: number, option: number, value: Uint8Array, length: number): number;
  getsockname(fd: number, address: Uint8Array, length: Uint8Array): number;
  send(fd: number, bytes: Uint8Array, length: number, flags: number): number;
  /** `send` by a thread of libuv's pool; the result is -1 for any error. */
  sendAside(fd: number, bytes: Uint8Array, length: number, flags: number): Promise<number>;
  recv(fd: number, bytes: Uint8Array, length: number, flags: number): number;
  close(fd: number): number;
  setns(fd: number, type: number): number;
  ioctl(fd: number, request: number, argument: null): number;
  if_nametoindex(name: string): number;
  /** @param name room for IF_NAMESIZE octets @returns null where there is no such device */
  if_indextoname(index: number, name: Uint8Array): unknown;
}

let loaded: Libc | undefined;

export function libc(): Libc {
  loaded ??= load();
  return loaded;
}

function load(): Libc {
  // Node itself is linked with the C library, so its own symbols serve whatever the library's file is called.
  const process = koffi.load(null);
  const send = process.func('int64_t send(int fd, void *bytes, size_t length, int flags)');
  return {
    socket: process.func('int socket(int domain, int type, int protocol)'),
    bind: process.func('int bind(int fd, void *address, uint32_t length)'),
    connect: process.func('int connect(int fd, void *address, uint32_t length)'),
    setsockopt: process.func('int setsockopt(int fd, int level, int option, void *value, uint32_t length)'),
    getsockname: process.func('int getsockname(int fd, void *address, void *length)'),
    send,
    sendAside: (fd, bytes, length, flags) =>
      new Promise((resolve, reject) => {
        const done = (error: Error | null, sent: number) => (error ? reject(error) : resolve(sent));
        send.async(fd, bytes, length, flags, done);
      }),
    recv: process.func('int64_t recv(int fd, void *bytes, size_t length, int flags)'),
    close: process.func('int close(int fd)'),
    setns: process.func('int setns(int fd, int type)'),
    ioctl: process.func('int ioctl(int fd, unsigned long request, void *argument)'),
    if_nametoindex: process.func('unsigned int if_nametoindex(const char *name)'),
    if_indextoname: process.func('void *if_indextoname(unsigned int index, void *name)'),
  };
}

const errnoNames = new Map(Object.entries(constants.errno).map(([name, number]) => [number, name]));

/** `EEXIST` for 17; the number itself for codes that Node does not list. */
export function errnoName(number: number): string {
  return errnoNames.get(number) ?? `errno ${number}`;
}

/** The result of a call, or its errno as an error. Must be handed the result at once: errno is the last call's. */
export function checked(operation: string, result: number): number {
  if (result < 0) throw new KernelError(operation, errnoName(koffi.errno()));
  return result;
}

/** errno of the call just made, as a name. */
export function lastErrno(): string {
  return errnoName(koffi.errno());
}
