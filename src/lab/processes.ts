import { spawn } from 'node:child_process';
import { closeSync, openSync, readdirSync, readFileSync, statSync } from 'node:fs';
import { EnvironmentError, errorCode } from '../base/errors.ts';
import { namespacesOf } from './network.ts';
import { netnsPath } from './plan.ts';

/** Set to the lab's name in every process of a lab, so that all are found even after a crash. */
export const marker = 'MARGAY_LAB';

export interface Background {
  readonly lab: string;
  /** Network namespace to start it in. */
  readonly netns: string;
  readonly command: string;
  readonly args: readonly string[];
  readonly logFile: string;
  readonly env?: Readonly<Record<string, string>>;
  readonly cwd?: string;
}

/** Starts a program that outlives us, in a network namespace, its output in a log file. Gives its process id. */
export function startBackground({ lab, netns, command, args, logFile, env, cwd }: Background): Promise<number> {
  const log = openSync(logFile, 'a', 0o600);
  return new Promise((resolve, reject) => {
    const child = spawn('nsenter', [`--net=${netnsPath(netns)}`, '--', command, ...args], {
      detached: true,
      stdio: ['ignore', log, log],
      env: { PATH: process.env['PATH'] ?? '', ...env, [marker]: lab },
      cwd: cwd ?? '/',
    });
    closeSync(log);
    child.once('error', (cause) =>
      reject(new EnvironmentError(`cannot start ${command} by nsenter`, 'install util-linux', { cause })),
    );
    child.once('spawn', () => {
      child.unref();
      resolve(child.pid ?? 0);
    });
  });
}

/** Processes of a lab: those that carry its mark, and those that live in one of its namespaces. */
export function processesOf(lab: string): number[] {
  const inodes = new Set(namespacesOf(lab).map((name) => inode(netnsPath(name))));
  inodes.delete(undefined);
  const mark = `${marker}=${lab}`;
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name) && Number(name) !== process.pid)
    .filter((pid) => inodes.has(inode(`/proc/${pid}/ns/net`)) || environment(pid).includes(mark))
    .filter((pid) => !isZombie(pid))
    .map(Number);
}

/** True while a process lives. */
export function isAlive(pid: number): boolean {
  return statusOf(String(pid)) !== undefined && !isZombie(String(pid));
}

/** When a living process began, in clock ticks since the machine's start (proc_pid_stat(5), field 22). */
export function startOf(pid: number): string | undefined {
  const [state, ...others] =
    read(`/proc/${pid}/stat`)
      ?.replace(/^.*\) /s, '')
      .split(' ') ?? [];
  return state === 'Z' ? undefined : others[18];
}

/** SIGKILL to a process that may have ended meanwhile. */
export function kill(pid: number, signal: NodeJS.Signals = 'SIGKILL'): void {
  try {
    process.kill(pid, signal);
  } catch (thrown) {
    if (errorCode(thrown) !== 'ESRCH') throw thrown;
  }
}

/** Children of a process, from /proc. */
export function childrenOf(pid: number): { pid: number; command: readonly string[] }[] {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .filter((name) => /^PPid:\t(\d+)$/m.exec(statusOf(name) ?? '')?.[1] === String(pid))
    .map((name) => ({ pid: Number(name), command: (read(`/proc/${name}/cmdline`) ?? '').split('\0') }));
}

function isZombie(pid: string): boolean {
  return /^State:\tZ/m.test(statusOf(pid) ?? '');
}

function statusOf(pid: string): string | undefined {
  return read(`/proc/${pid}/status`);
}

function environment(pid: string): string[] {
  return (read(`/proc/${pid}/environ`) ?? '').split('\0');
}

/** A file of /proc, undefined when its process has ended. */
function read(path: string): string | undefined {
  try {
    return readFileSync(path, 'utf8');
  } catch (thrown) {
    if (gone(thrown)) return undefined;
    throw thrown;
  }
}

function inode(path: string): string | undefined {
  try {
    const { dev, ino } = statSync(path);
    return `${dev}:${ino}`;
  } catch (thrown) {
    if (gone(thrown)) return undefined;
    throw thrown;
  }
}

function gone(thrown: unknown): boolean {
  return ['ENOENT', 'ESRCH', 'EACCES', 'EPERM'].includes(errorCode(thrown) ?? '');
}
