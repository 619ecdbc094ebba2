import { closeSync, openSync, stat } from 'node:fs';
import { explain } from '../base/errors.ts';
import { CLONE_NEWNET, openNamespace } from './namespace-file.ts';
import { checked, libc } from './rtnetlink/libc.ts';

let warm = false;

/**
 * Starts libuv's thread pool. A thread is born into the namespace that its creator is in, so a pool that starts inside
 * `inNamespace` would stay in the pod's namespace for good. libuv starts all its threads within the first submission,
 * before it returns. `inNamespace` calls this itself; a program may do so earlier to have it behind it.
 */
export function warmThreads(): void {
  if (warm) return;
  warm = true;
  stat('/', () => undefined);
}

/**
 * Runs a synchronous action with this thread inside the network namespace at `path`, and returns. Sockets that it
 * opens stay there; sysctls under /proc/sys/net are that namespace's. If the thread cannot return, the process aborts:
 * everything that it would do next would hit the wrong namespace.
 * @throws InputError when `path` is no network namespace; KernelError when entering is refused; whatever `action` throws
 */
export function inNamespace<T>(path: string, action: () => T): T {
  const target = openNamespace(path);
  try {
    return inNamespaceOf(target, path, action);
  } finally {
    closeSync(target);
  }
}

/** The same for an open descriptor, named `path` in errors. */
export function inNamespaceOf<T>(target: number, path: string, action: () => T): T {
  warmThreads();
  const home = openSync('/proc/thread-self/ns/net', 'r');
  try {
    checked(`enter network namespace ${path}`, libc().setns(target, CLONE_NEWNET));
    try {
      const result = action();
      if (result instanceof Promise) throw new TypeError('an asynchronous action would end in another namespace');
      return result;
    } finally {
      goHome(home);
    }
  } finally {
    closeSync(home);
  }
}

function goHome(home: number): void {
  try {
    checked('return to the own network namespace', libc().setns(home, CLONE_NEWNET));
  } catch (cause) {
    process.stderr.write(`${explain(cause)}; aborting, as all further calls would act in the wrong namespace\n`);
    process.abort();
  }
}
