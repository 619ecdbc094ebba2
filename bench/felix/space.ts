import { randomBytes } from 'node:crypto';
import { run } from '../../src/lab/run.ts';

/** A network namespace of a benchmark's own. */
export interface Space {
  readonly name: string;
  /** Of the namespace's file. */
  readonly path: string;
  /** Runs a program inside and gives its output. */
  exec(program: string, ...args: readonly string[]): Promise<string>;
}

/** Runs an action with a fresh namespace, whose uplink `up0` has 192.0.2.1/24, and deletes it whatever happens. */
export async function withSpace<T>(action: (space: Space) => Promise<T>): Promise<T> {
  const name = `bench-${process.pid}-${randomBytes(3).toString('hex')}`;
  await run('ip', ['netns', 'add', name]);
  try {
    const path = `/run/netns/${name}`;
    const exec = (program: string, ...args: readonly string[]) => run('nsenter', [`--net=${path}`, program, ...args]);
    await exec('ip', 'link', 'set', 'lo', 'up');
    await exec('ip', 'link', 'add', 'up0', 'type', 'veth', 'peer', 'name', 'up1');
    for (const device of ['up0', 'up1']) await exec('ip', 'link', 'set', device, 'up');
    await exec('ip', 'address', 'add', '192.0.2.1/24', 'dev', 'up0');
    return await action({ name, path, exec });
  } finally {
    await run('ip', ['netns', 'delete', name]);
  }
}
