import { execFileSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { existsSync, mkdirSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { takeDown } from '../../src/lab/down.ts';
import { netnsPrefix, stateRoot } from '../../src/lab/plan.ts';
import { isAlive, kill } from '../../src/lab/processes.ts';
import { cgroupsOf, removeCgroup } from './cgroups.ts';

/*
 * What tests make outside their process has a name that tells which process made it. Whoever was killed cleans up
 * nothing; the next run finds by these names what nobody will come back to.
 */

/** A name for a network namespace: `mgp-1234-0a1b2c`, of this process alone. */
export function ownName(prefix: string): string {
  return `${prefix}-${process.pid}-${randomBytes(3).toString('hex')}`;
}

/** A lab's name, which may be 16 letters and digits: `k1234z0a1`. */
export function ownLab(letter: string): string {
  return `${letter}${process.pid}z${randomBytes(2).toString('hex').slice(0, 3)}`;
}

/** A folder for everything that tests put into the system's folder for temporary files. */
export function ownTemporary(): string {
  const folder = join(tmpdir(), `margay-test-${process.pid}-${randomBytes(3).toString('hex')}`);
  mkdirSync(folder, { mode: 0o755 });
  return folder;
}

const namespaceName = /^(?:mg|mgp|mgb|lk|mcni|fx-[a-z0-9]+|mbb|bench|bench-pod)-(\d+)-[0-9a-f]+(?:-|$)/;
const labNamePattern = /^[a-z](\d+)z[0-9a-f]{3}$/;
const cgroupName = /^margay-test-(\d+)(?:-n\d+)?$/;
const temporaryName = /^margay-test-(\d+)-[0-9a-f]+$/;

/** The process that made something of this name, if the name is one of ours. */
export function makerOf(name: string, pattern = namespaceName): number | undefined {
  const pid = pattern.exec(name)?.[1];
  return pid === undefined ? undefined : Number(pid);
}

/** Removes namespaces, cgroups, labs and folders whose maker is gone; what there was. Nobody else's, and none of a running test. */
export async function removeLeftovers(): Promise<string[]> {
  const namespaces = list('/run/netns');
  const spaces = namespaces.filter((name) => isOrphan(name, namespaceName));
  for (const name of spaces) removeNamespace(name);
  const groups = cgroupsOf('margay-test-').filter((name) => isOrphan(name, cgroupName));
  for (const name of groups) await removeCgroup(name);
  const labs = new Set([...namespaces.flatMap((name) => labOf(name) ?? []), ...list(stateRoot)]);
  const orphans = [...labs].filter((lab) => isOrphan(lab, labNamePattern));
  for (const lab of orphans) await takeDown(lab);
  const folders = list(tmpdir()).filter((name) => isOrphan(name, temporaryName));
  for (const name of folders) rmSync(join(tmpdir(), name), { recursive: true, force: true });
  return [...spaces, ...groups, ...orphans.map((lab) => `lab ${lab}`), ...folders];
}

function isOrphan(name: string, pattern: RegExp): boolean {
  const maker = makerOf(name, pattern);
  return maker !== undefined && !isAlive(maker);
}

function labOf(namespace: string): string | undefined {
  const lab = namespace.split('-')[1] ?? '';
  return namespace.startsWith(netnsPrefix(lab)) ? lab : undefined;
}

function removeNamespace(name: string): void {
  const pids = execFileSync('ip', ['netns', 'pids', name], { encoding: 'utf8' }).split('\n').filter(Boolean);
  for (const pid of pids) kill(Number(pid));
  execFileSync('ip', ['netns', 'delete', name]);
}

function list(folder: string): string[] {
  return existsSync(folder) ? readdirSync(folder) : [];
}
