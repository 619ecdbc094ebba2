import { readFileSync, writeFileSync } from 'node:fs';
import { isAbsolute, join } from 'node:path';
import { errorCode, InputError } from '../base/errors.ts';
import { KernelError } from './types.ts';

/*
 * Sysctls by path below /proc/sys, slashes between the parts: device names may hold dots. Synchronous, so that they
 * work inside `inNamespace`: those under `net/` are of the namespace that the thread is in.
 */

let root = '/proc/sys';

/**
 * Where sysctls are: a container that is not privileged finds /proc/sys read-only, and the host's where it is mounted.
 * Those below `net/` are of the calling thread's namespace wherever they are mounted. @throws InputError
 */
export function useSysctlRoot(directory: string): void {
  if (!isAbsolute(directory)) throw new InputError('MARGAY_SYSCTL_ROOT', directory, 'an absolute path');
  root = directory;
}

/** The value without its line end. @throws KernelError naming the sysctl */
export function readSysctl(path: string): string {
  return attempt('read', path, (file) => readFileSync(file, 'utf8').trimEnd());
}

/**
 * Writes only where the value differs; true when it wrote.
 * @param unread writes without looking first
 * @throws KernelError naming the sysctl and the value
 */
export function writeSysctl(path: string, value: string | number, unread = false): boolean {
  const wanted = String(value);
  if (!unread && readSysctl(path) === wanted) return false;
  attempt(`write ${wanted} to`, path, (file) => writeFileSync(file, wanted));
  return true;
}

function attempt<T>(verb: string, path: string, action: (file: string) => T): T {
  if (!/^[^/\0]+(\/[^/\0]+)+$/.test(path) || path.split('/').includes('..'))
    throw new InputError('sysctl', path, 'a path such as net/ipv4/conf/eth0/proxy_arp');
  try {
    return action(join(root, path));
  } catch (cause) {
    const code = errorCode(cause);
    if (code === undefined) throw cause;
    throw new KernelError(`${verb} sysctl ${path}`, code);
  }
}
