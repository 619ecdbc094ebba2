import { existsSync, rmdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { errorCode } from '../base/errors.ts';
import { namespacesOf } from './network.ts';
import { stateRoot } from './plan.ts';
import { isAlive, kill, processesOf } from './processes.ts';
import { CommandError, run } from './run.ts';
import { until } from './wait.ts';

export interface Removed {
  readonly processes: number;
  readonly namespaces: number;
  readonly directory: boolean;
}

/**
 * Removes every trace of a lab, whatever state it is in: its processes, then its namespaces (and with them links,
 * routes, rules and sets), then its files. Another lab's are never touched. Doing it twice is no error.
 */
export async function takeDown(lab: string): Promise<Removed> {
  const killed = await killAll(lab);
  const namespaces = namespacesOf(lab);
  await Promise.all(namespaces.map((netns) => unhindered(() => run('ip', ['netns', 'delete', netns]))));
  const directory = join(stateRoot, lab);
  const existed = existsSync(directory);
  rmSync(directory, { recursive: true, force: true });
  removeIfEmpty(stateRoot);
  return { processes: killed, namespaces: namespaces.length, directory: existed };
}

/** Most signals that hinder one command. */
const mostHindrances = 10;

/**
 * Does again what a signal ended: one to the terminal's group, Ctrl-C above all, can meet a command in the moment before it
 * has a session of its own.
 * @param command may be done twice
 * @throws CommandError that came of anything else
 */
export async function unhindered<T>(command: () => Promise<T>): Promise<T> {
  for (let left = mostHindrances; ; left--) {
    try {
      return await command();
    } catch (thrown) {
      if (!(thrown instanceof CommandError) || !/^SIG/.test(String(thrown.status)) || left === 0) throw thrown;
    }
  }
}

/** SIGKILL: a lab has nothing that would have to be saved. A dying parent may still have started a child: look again. */
async function killAll(lab: string): Promise<number> {
  const killed = new Set<number>();
  await until(`the processes of lab ${lab} end`, 15_000, new AbortController().signal, async () => {
    const alive = processesOf(lab);
    for (const pid of alive) {
      killed.add(pid);
      kill(pid);
    }
    return alive.some(isAlive) ? `${alive.length} still there` : {};
  });
  return killed.size;
}

function removeIfEmpty(directory: string): void {
  try {
    rmdirSync(directory);
  } catch (thrown) {
    if (!['ENOENT', 'ENOTEMPTY', 'EEXIST'].includes(errorCode(thrown) ?? '')) throw thrown;
  }
}
