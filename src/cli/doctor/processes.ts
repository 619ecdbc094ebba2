import { readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { errorCode } from '../../base/errors.ts';
import type { ProcessFacts } from './facts.ts';

/* Processes as /proc shows them. */

/** Programs of other pod networks, and of BGP speakers that Calico brings. */
const networks = new Set([
  'flanneld',
  'kube-router',
  'cilium-agent',
  'calico-node',
  'weaver',
  'antrea-agent',
  'ovnkube',
]);

/** BGP's port, as /proc/net/tcp writes it. */
const bgpPort = '00B3';
/** TCP_LISTEN, net/tcp_states.h. */
const listening = '0A';

/** Of this network namespace; what ends while it is looked at is left out. */
export function readProcesses(): ProcessFacts {
  const sockets = new Set(['tcp', 'tcp6'].flatMap((table) => listeners(readOr(`/proc/net/${table}`, ''))));
  const others = new Set<string>();
  const bgpListeners = new Set<string>();
  for (const pid of readdirSync('/proc').filter((name) => /^\d+$/.test(name))) {
    const name = readOr(`/proc/${pid}/comm`, '').trim();
    if (networks.has(name)) others.add(name);
    if (sockets.size > 0 && holds(pid, sockets)) bgpListeners.add(name);
  }
  return { bgpListeners: [...bgpListeners].toSorted(), others: [...others].toSorted() };
}

/** Inodes of the sockets that listen on BGP's port. Pure. */
export function listeners(table: string): string[] {
  return table.split('\n').flatMap((line) => {
    const [, local, , state, , , , , , inode] = line.trim().split(/\s+/);
    return local?.endsWith(`:${bgpPort}`) && state === listening && inode ? [inode] : [];
  });
}

function holds(pid: string, sockets: ReadonlySet<string>): boolean {
  const descriptors = whileThere(() => readdirSync(`/proc/${pid}/fd`)) ?? [];
  return descriptors.some((fd) => {
    const target = whileThere(() => readlinkSync(`/proc/${pid}/fd/${fd}`)) ?? '';
    return sockets.has(/^socket:\[(\d+)\]$/.exec(target)?.[1] ?? '');
  });
}

function readOr(path: string, otherwise: string): string {
  return whileThere(() => readFileSync(path, 'utf8')) ?? otherwise;
}

function whileThere<T>(action: () => T): T | undefined {
  try {
    return action();
  } catch (thrown) {
    if (['ENOENT', 'ESRCH', 'EACCES'].includes(errorCode(thrown) ?? '')) return undefined;
    throw thrown;
  }
}
