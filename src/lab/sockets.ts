import { closeSync } from 'node:fs';
import { Socket, type SocketConstructorOpts } from 'node:net';
import { CLONE_NEWNET, openNamespace } from '../kernel/namespace-file.ts';
import { checked, libc } from '../kernel/rtnetlink/libc.ts';
import { inNamespace } from '../kernel/setns.ts';
import type { Family } from '../model/address.ts';
import { netnsPath } from './plan.ts';

/* Sockets in a lab's network namespaces, made from one process: a socket stays where it was born. */

const domainOf = { 4: 2, 6: 10 } as const;
const SOCK_STREAM = 1;
const SOCK_NONBLOCK = 0o4000;
const SOCK_CLOEXEC = 0o2000000;

/**
 * Moves the calling thread into a network namespace for good; sockets and children are born there from now on.
 * @throws KernelError
 */
export function enterNamespace(netns: string): void {
  const path = netnsPath(netns);
  const fd = openNamespace(path);
  try {
    checked(`enter network namespace ${path}`, libc().setns(fd, CLONE_NEWNET));
  } finally {
    closeSync(fd);
  }
}

/** Runs a synchronous action in a namespace of a lab. */
export function within<T>(netns: string, action: () => T): T {
  return inNamespace(netnsPath(netns), action);
}

/** An unconnected TCP socket born in the namespace; `connect` it to a literal address. @throws KernelError */
export function tcpSocketIn(netns: string, family: Family): Socket {
  const type = SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC;
  const fd = within(netns, () => checked('socket', libc().socket(domainOf[family], type, 0)));
  // `manualStart` is honoured but not in the types: reading starts when the connection stands.
  const options: SocketConstructorOpts & { manualStart: boolean } = {
    fd,
    readable: true,
    writable: true,
    manualStart: true,
  };
  return new Socket(options);
}
