import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, existsSync, openSync, readFileSync } from 'node:fs';
import { until } from '../support/wait.ts';

export interface ProgramSetup {
  readonly command: string;
  readonly args: readonly string[];
  /** Its whole output goes there, over all its starts. */
  readonly logFile: string;
  /** Path of the network namespace that it runs in; without it, the test's own. */
  readonly netns?: string;
  /** Beside PATH. */
  readonly env?: Readonly<Record<string, string>>;
}

/** A program that is part of a test's cluster: started, ended and killed any number of times; it ends with the test. */
export class Program {
  #child: ChildProcess | undefined;
  readonly #killOnExit = () => this.#child?.kill('SIGKILL');

  constructor(readonly setup: ProgramSetup) {}

  get pid(): number | undefined {
    return this.#child?.pid;
  }

  get running(): boolean {
    return this.#child !== undefined && this.#child.exitCode === null && this.#child.signalCode === null;
  }

  start(): void {
    if (this.running) throw new Error(`${this.setup.command} runs already`);
    const { command, args, logFile, netns, env } = this.setup;
    const words = netns === undefined ? [command, ...args] : ['nsenter', `--net=${netns}`, '--', command, ...args];
    const log = openSync(logFile, 'a', 0o600);
    const child = spawn(words[0] ?? '', words.slice(1), {
      stdio: ['ignore', log, log],
      env: { PATH: process.env['PATH'] ?? '', ...env },
    });
    closeSync(log);
    child.once('error', () => {
      if (this.#child === child) this.#child = undefined;
    });
    this.#child = child;
    process.off('exit', this.#killOnExit);
    process.on('exit', this.#killOnExit);
  }

  /** Starts it and waits for it to work. @throws Error with the end of its output when it ends before */
  async ready(condition: () => boolean | Promise<boolean>, within: number): Promise<void> {
    this.start();
    const what = `${this.setup.command} works`;
    await until(async () => !this.running || (await condition()), { within, what, every: 100 }).catch(
      (cause: unknown) => Promise.reject(new Error(this.#ending(what), { cause })),
    );
    if (!this.running) throw new Error(this.#ending(`${this.setup.command} ended`));
  }

  /** Everything it has written. */
  output(): string {
    return existsSync(this.setup.logFile) ? readFileSync(this.setup.logFile, 'utf8') : '';
  }

  /** Asks it to end, and does not wait longer than 10 s. */
  async stop(): Promise<void> {
    await this.#end('SIGTERM');
  }

  /** Ends it as a power cut would. */
  async kill(): Promise<void> {
    await this.#end('SIGKILL');
  }

  async #end(signal: NodeJS.Signals): Promise<void> {
    const child = this.#child;
    this.#child = undefined;
    process.off('exit', this.#killOnExit);
    if (child === undefined || child.exitCode !== null || child.signalCode !== null) return;
    const gone = once(child, 'exit');
    child.kill(signal);
    const late = setTimeout(() => child.kill('SIGKILL'), 10_000);
    await gone;
    clearTimeout(late);
  }

  #ending(what: string): string {
    return `${what}: ${this.output().slice(-3000)}`;
  }
}
