import { closeSync, statSync } from 'node:fs';
import { errorCode, explain, InputError, show } from '../base/errors.ts';
import { inNamespace, openNetlinkIn } from '../kernel/namespace.ts';
import { namespacePath, openNamespace } from '../kernel/namespace-file.ts';
import { writeSysctl } from '../kernel/sysctl.ts';
import type { Netlink } from '../kernel/types.ts';
import { CniError, cniCodes } from './error.ts';
import type { PodNamespace } from './ports.ts';

const expected = 'expected the path of the network namespace of a running container';

/**
 * A pod's network namespace in the kernel, which is entered when its netlink is first used: ADD has better to do before.
 * @throws CniError with code 3 when the path leads to none, or to the agent's own
 */
export function openPodNamespace(netns: string): PodNamespace {
  namingPath(netns, () => {
    if (isOwn(netns))
      throw new CniError(cniCodes.unknownContainer, `CNI_NETNS: ${show(netns)}: the node's own namespace: ${expected}`);
    closeSync(openNamespace(netns));
  });
  let netlink: Netlink | undefined;
  return {
    get netlink() {
      netlink ??= namingPath(netns, () => openNetlinkIn(netns));
      return netlink;
    },
    enableIpv6: () => inNamespace(netns, () => void writeSysctl('net/ipv6/conf/all/disable_ipv6', 0)),
    close: () => netlink?.close(),
  };
}

/** @throws CniError for what is wrong with the path */
function namingPath<T>(netns: string, action: () => T): T {
  try {
    return action();
  } catch (thrown) {
    if (!(thrown instanceof InputError) && !isPathError(thrown)) throw thrown;
    throw new CniError(cniCodes.unknownContainer, `CNI_NETNS: ${show(netns)}: ${expected}`, explain(thrown), {
      cause: thrown,
    });
  }
}

/** What `stat` of a path says that leads nowhere or that we may not look at. */
function isPathError(thrown: unknown): boolean {
  return ['ENOENT', 'ENOTDIR', 'EACCES', 'ELOOP', 'ENAMETOOLONG'].includes(errorCode(thrown) ?? '');
}

function isOwn(netns: string): boolean {
  const own = statSync('/proc/thread-self/ns/net');
  const asked = statSync(namespacePath(netns), { throwIfNoEntry: false });
  return asked !== undefined && asked.dev === own.dev && asked.ino === own.ino;
}
