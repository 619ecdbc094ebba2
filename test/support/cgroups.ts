import { existsSync, readdirSync, readFileSync, rmdirSync } from 'node:fs';
import { join } from 'node:path';
import { kill } from '../../src/lab/processes.ts';
import { until } from './wait.ts';

/* Cgroups that tests have containers made in: a folder under each of version 1's controllers, or under version 2's one. */

const root = '/sys/fs/cgroup';

/** Places under which a cgroup may have a folder. */
export function hierarchies(): string[] {
  return [root, ...list(root).map((controller) => join(root, controller))].filter((folder) =>
    existsSync(join(folder, 'cgroup.procs')),
  );
}

/** Names of cgroups at the top that begin so. */
export function cgroupsOf(prefix: string): string[] {
  const names = hierarchies().flatMap((folder) => list(folder).filter((name) => name.startsWith(prefix)));
  return [...new Set(names)];
}

/** Ends the processes of a cgroup and of those below it, and removes them all. */
export async function removeCgroup(name: string): Promise<void> {
  const folders = hierarchies()
    .map((folder) => join(folder, name))
    .filter((folder) => existsSync(folder));
  const pids = () => folders.flatMap(processesOf);
  const ended = () => {
    for (const pid of pids()) kill(pid);
    return pids().length === 0;
  };
  await until(ended, { within: 10_000, what: `the processes of the cgroup ${name} end` });
  for (const folder of folders) removeFolders(folder);
}

function processesOf(folder: string): number[] {
  const own = readFileSync(join(folder, 'cgroup.procs'), 'utf8').split('\n').filter(Boolean).map(Number);
  return [...own, ...list(folder).flatMap((name) => processesOf(join(folder, name)))];
}

/** A cgroup's files go with it; `rm -r` would try each. */
function removeFolders(folder: string): void {
  for (const name of list(folder)) removeFolders(join(folder, name));
  rmdirSync(folder);
}

/** Folders in a folder. */
function list(folder: string): string[] {
  if (!existsSync(folder)) return [];
  return readdirSync(folder, { withFileTypes: true })
    .filter((entry) => entry.isDirectory())
    .map(({ name }) => name);
}
