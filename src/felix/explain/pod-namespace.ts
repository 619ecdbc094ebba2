import { readdirSync, statSync } from 'node:fs';
import { errorCode, InputError } from '../../base/errors.ts';
import { NamespaceIds } from '../../kernel/rtnetlink/namespace-id.ts';
import type { Netlink } from '../../kernel/types.ts';

/** Where runtimes put the files of pods' namespaces; processes hold those that have none. */
const folders = ['/run/netns', '/run/docker/netns'];

/**
 * The path of the namespace that the other end of a pod's device is in.
 * @throws InputError when no file leads there, for instance as felix runs in a container that does not see it
 */
export function podNamespace(device: string, netlink: Netlink): string {
  const wanted = netlink.link(device)?.peerNamespaceId;
  if (wanted === undefined) throw new InputError('FROM', device, 'a pod whose device is on this node');
  const ids = new NamespaceIds();
  try {
    for (const path of candidates()) if (idOf(ids, path) === wanted) return path;
  } finally {
    ids.close();
  }
  throw new InputError(
    'FROM',
    device,
    `a pod whose network namespace is in ${folders.join(', ')} or of a process here`,
  );
}

/** Files of namespaces, each namespace once. */
function* candidates(): Generator<string> {
  const seen = new Set<number>();
  for (const path of [...folders.flatMap(filesIn), ...filesIn('/proc').map((process) => `${process}/ns/net`)]) {
    const inode = inodeOf(path);
    if (inode === undefined || seen.has(inode)) continue;
    seen.add(inode);
    yield path;
  }
}

function filesIn(folder: string): string[] {
  try {
    const names = readdirSync(folder);
    return names.filter((name) => folder !== '/proc' || /^\d+$/.test(name)).map((name) => `${folder}/${name}`);
  } catch (thrown) {
    if (errorCode(thrown) === 'ENOENT') return [];
    throw thrown;
  }
}

/** Undefined for what has gone meanwhile, or a process that may not be looked into. */
function inodeOf(path: string): number | undefined {
  try {
    return statSync(path).ino;
  } catch (thrown) {
    if (['ENOENT', 'ESRCH', 'EACCES', 'EPERM'].includes(errorCode(thrown) ?? '')) return undefined;
    throw thrown;
  }
}

/** Undefined for what has gone meanwhile, and for a file of another kind. */
function idOf(ids: NamespaceIds, path: string): number | undefined {
  try {
    return ids.of(path);
  } catch (thrown) {
    if (thrown instanceof InputError) return undefined;
    throw thrown;
  }
}
