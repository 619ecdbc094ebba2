import { type ChildProcessWithoutNullStreams, spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { run } from '../../src/lab/run.ts';

/** A network namespace of a benchmark's own. */
export interface Space {
  readonly name: string;
  /** Of the namespace's file. */
  readonly path: string;
  /** Runs a program inside, one after another, and gives its output. @throws Error when it fails */
  exec(program: string, ...args: readonly string[]): Promise<string>;
}

/** Runs an action with a fresh namespace, whose uplink `up0` has 192.0.2.1/24, and deletes it whatever happens. */
export async function withSpace<T>(action: (space: Space) => Promise<T>): Promise<T> {
  const name = `bench-${process.pid}-${randomBytes(3).toString('hex')}`;
  await run('ip', ['netns', 'add', name]);
  const path = `/run/netns/${name}`;
  const shell = new Shell(spawn('nsenter', [`--net=${path}`, 'sh'], { detached: true }));
  try {
    const exec = (program: string, ...args: readonly string[]) => shell.run([program, ...args]);
    await exec('ip', 'link', 'set', 'lo', 'up');
    await exec('ip', 'link', 'add', 'up0', 'type', 'veth', 'peer', 'name', 'up1');
    for (const device of ['up0', 'up1']) await exec('ip', 'link', 'set', device, 'up');
    await exec('ip', 'address', 'add', '192.0.2.1/24', 'dev', 'up0');
    return await action({ name, path, exec });
  } finally {
    await shell.end();
    await run('ip', ['netns', 'delete', name]);
  }
}

/**
 * Starts programs in place of this process. To start one, a process is copied, and for a while after that pays for every
 * page that it writes to: a large one would pay while it is being measured.
 */
class Shell {
  #last: Promise<unknown> = Promise.resolve();
  /** Rejects when the shell could not be started, or ends while it is asked. */
  readonly #lost: Promise<never>;
  readonly #ended: Promise<void>;

  constructor(private readonly child: ChildProcessWithoutNullStreams) {
    const ended = Promise.withResolvers<void>();
    const lost = Promise.withResolvers<never>();
    this.#ended = ended.promise;
    this.#lost = lost.promise;
    const lose = (cause: unknown) => lost.reject(new Error("the benchmark's shell is lost", { cause }));
    lost.promise.catch(() => undefined);
    child.stdin.on('error', lose);
    child.once('error', lose);
    child.once('close', (code, signal) => {
      lose(new Error(`ended with ${signal ?? code}`));
      ended.resolve();
    });
  }

  run(command: readonly string[]): Promise<string> {
    const result = this.#last.then(() => this.#run(command));
    this.#last = result.catch(() => undefined);
    return result;
  }

  async end(): Promise<void> {
    this.child.stdin.end();
    await this.#ended;
  }

  #run(command: readonly string[]): Promise<string> {
    const { stdin, stdout } = this.child;
    const mark = randomBytes(8).toString('hex');
    const answer = new Promise<string>((resolve, reject) => {
      let said = '';
      const heard = (chunk: Buffer) => {
        said += chunk.toString('latin1');
        const at = said.lastIndexOf('\n', said.length - 2) + 1;
        if (!said.endsWith('\n') || !said.startsWith(mark, at)) return;
        stdout.off('data', heard);
        const output = said.slice(0, at - 1);
        const status = said.slice(at + mark.length + 1, -1);
        if (status === '0') resolve(output);
        else reject(new Error(`${command.join(' ')}: status ${status}: ${output}`));
      };
      stdout.on('data', heard);
      stdin.write(`${command.map(quoted).join(' ')} </dev/null 2>&1; printf '\\n%s %s\\n' ${mark} $?\n`);
    });
    return Promise.race([answer, this.#lost]);
  }
}

function quoted(word: string): string {
  return `'${word.replaceAll("'", "'\\''")}'`;
}
