import { type ChildProcess, execFile, execFileSync, type StdioOptions, spawn } from 'node:child_process';
import { mkdtempSync, openSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { ownName } from '../leftovers.ts';
import { until } from '../wait.ts';

const run = promisify(execFile);

/** Two hosts on one link, each a network namespace: `us` has .1, `them` .2. */
export type Host = 'us' | 'them';

export const addresses = {
  us: { four: '10.99.0.1', six: 'fd99::1' },
  them: { four: '10.99.0.2', six: 'fd99::2' },
} as const;

/** A pair of namespaces with a veth between them, a directory for files, and the processes started in them. */
export class Link {
  readonly directory: string;
  readonly #prefix: string;
  readonly #children = new Set<ChildProcess>();

  constructor() {
    this.#prefix = ownName('mgb');
    this.directory = mkdtempSync(join(tmpdir(), 'margay-bgp-'));
    try {
      this.#build();
    } catch (cause) {
      this.#remove();
      throw cause;
    }
  }

  namespace(host: Host): string {
    return `${this.#prefix}-${host}`;
  }

  /** Starts a long-lived program in a host; its output goes to a file named after it. */
  spawn(host: Host, name: string, command: string, args: readonly string[]): ChildProcess {
    const output = openSync(join(this.directory, `${name}.log`), 'a');
    const stdio: StdioOptions = ['ignore', output, output];
    const child = spawn('ip', ['netns', 'exec', this.namespace(host), command, ...args], { stdio });
    this.#children.add(child);
    child.once('exit', () => this.#children.delete(child));
    return child;
  }

  /** What a program spawned under this name has said. */
  output(name: string): string {
    return readFileSync(join(this.directory, `${name}.log`), 'utf8');
  }

  /** Runs a short program in a host and returns its standard output. */
  async exec(host: Host, command: string, args: readonly string[]): Promise<string> {
    const { stdout } = await run('ip', ['netns', 'exec', this.namespace(host), command, ...args], { timeout: 20_000 });
    return stdout;
  }

  /** The address that the host's end of the link has by itself, once it may be used. */
  linkLocal(host: Host): Promise<string> {
    const show = ['-6', 'addr', 'show', 'dev', 'eth0', 'scope', 'link', '-tentative'];
    return until(async () => /inet6 (fe80:[^/]+)/.exec(await this.exec(host, 'ip', show))?.[1], {
      within: 10_000,
      what: `link-local address of ${host}`,
    });
  }

  /** Sends a signal and waits until the process is gone. */
  async kill(child: ChildProcess, signal: NodeJS.Signals = 'SIGKILL'): Promise<void> {
    if (child.exitCode !== null || child.signalCode !== null) return;
    const gone = new Promise((resolve) => child.once('exit', resolve));
    child.kill(signal);
    await gone;
  }

  async close(): Promise<void> {
    await Promise.all([...this.#children].map((child) => this.kill(child)));
    this.#remove();
  }

  #build(): void {
    const [us, them] = [this.namespace('us'), this.namespace('them')];
    ip('netns', 'add', us);
    ip('netns', 'add', them);
    ip('link', 'add', 'eth0', 'netns', us, 'type', 'veth', 'peer', 'name', 'eth0', 'netns', them);
    for (const host of ['us', 'them'] as const) {
      const inside = (...args: string[]) => ip('-n', this.namespace(host), ...args);
      inside('link', 'set', 'lo', 'up');
      inside('addr', 'add', `${addresses[host].four}/24`, 'dev', 'eth0');
      inside('addr', 'add', `${addresses[host].six}/64`, 'dev', 'eth0', 'nodad');
      inside('link', 'set', 'eth0', 'up');
    }
  }

  #remove(): void {
    const known = execFileSync('ip', ['netns', 'list'], { encoding: 'utf8' });
    for (const host of ['us', 'them'] as const) {
      if (known.includes(this.namespace(host))) ip('netns', 'del', this.namespace(host));
    }
    rmSync(this.directory, { recursive: true, force: true });
  }
}

function ip(...args: string[]): void {
  execFileSync('ip', args, { stdio: ['ignore', 'ignore', 'pipe'] });
}
