import { closeSync, openSync } from 'node:fs';
import { Socket } from 'node:net';
import koffi from 'koffi';
import { KernelError } from '../kernel/types.ts';
import type { Family } from '../model/address.ts';
import { netnsPath } from './plan.ts';

/* Sockets in a lab's network namespaces, made from one process: a socket stays where it was born. */

const libc = koffi.load('libc.so.6');
const setns = libc.func('int setns(int fd, int nstype)') as (fd: number, type: number) => number;
const socketCall = libc.func('int socket(int domain, int type, int protocol)') as (
  domain: number,
  type: number,
  protocol: number,
) => number;

const CLONE_NEWNET = 0x40000000;
const domainOf = { 4: 2, 6: 10 } as const;
const SOCK_STREAM = 1;
const SOCK_NONBLOCK = 0o4000;
const SOCK_CLOEXEC = 0o2000000;

/**
 * Moves the calling thread into a network namespace for good; sockets and children are born there from now on.
 * @throws KernelError
 */
export function enterNamespace(netns: string): void {
  const fd = openSync(netnsPath(netns), 'r');
  try {
    if (setns(fd, CLONE_NEWNET) !== 0) throw new KernelError(`setns ${netns}`, codeOf(koffi.errno()));
  } finally {
    closeSync(fd);
  }
}

/** Runs a synchronous action in a namespace and comes back; being unable to come back ends the process. */
export function within<T>(netns: string, action: () => T): T {
  const home = openSync('/proc/thread-self/ns/net', 'r');
  try {
    enterNamespace(netns);
    try {
      return action();
    } finally {
      if (setns(home, CLONE_NEWNET) !== 0) process.abort();
    }
  } finally {
    closeSync(home);
  }
}

/** An unconnected TCP socket born in the namespace; `connect` it to a literal address. @throws KernelError */
export function tcpSocketIn(netns: string, family: Family): Socket {
  const fd = within(netns, () => socketCall(domainOf[family], SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  if (fd < 0) throw new KernelError('socket', codeOf(koffi.errno()));
  return new Socket({ fd, readable: true, writable: true, manualStart: true } as ConstructorParameters<
    typeof Socket
  >[0]);
}

function codeOf(number: number): string {
  return Object.entries(koffi.os.errno).find(([, value]) => value === number)?.[0] ?? `errno ${number}`;
}
