import { spawn } from 'node:child_process';
import { EnvironmentError, errorCode } from '../base/errors.ts';

/** How a driver's programs are started. */
export interface Launch {
  /** Told how long the program took to start, fork and exec, in microseconds. */
  readonly started?: (microseconds: number) => void;
  /** Put in front of every command: `['nsenter', '--net=/run/netns/node-1']` has them work on another namespace. */
  readonly launcher?: readonly string[];
}

export interface CommandOptions extends Launch {
  /** Written to standard input, which is then closed. */
  readonly input?: string;
  /** Debian package that holds the program, for the message when it is missing. */
  readonly package: string;
  /** Killed after this long. */
  readonly timeoutSeconds?: number;
}

export interface CommandResult {
  /** Exit status; -1 when a signal ended it, which `stderr` then says. */
  readonly status: number;
  readonly stdout: string;
  readonly stderr: string;
}

/**
 * Runs a program without a shell. A non-zero status is a result, not an error.
 * @throws EnvironmentError when the program is not there
 */
export function runCommand(command: readonly string[], options: CommandOptions): Promise<CommandResult> {
  const [program = '', ...args] = [...(options.launcher ?? []), ...command];
  const missing = () =>
    new EnvironmentError(`the program ${command[0]} is not installed`, `install the package ${options.package}`);
  return new Promise((resolve, reject) => {
    const began = performance.now();
    const child = spawn(program, args, {
      stdio: ['pipe', 'pipe', 'pipe'],
      env: { ...process.env, LC_ALL: 'C' },
      timeout: (options.timeoutSeconds ?? 60) * 1000,
      killSignal: 'SIGKILL',
    });
    options.started?.((performance.now() - began) * 1000);
    const stdout: Buffer[] = [];
    const stderr: Buffer[] = [];
    child.stdout.on('data', (chunk: Buffer) => stdout.push(chunk));
    child.stderr.on('data', (chunk: Buffer) => stderr.push(chunk));
    child.once('error', (cause) => reject(errorCode(cause) === 'ENOENT' ? missing() : cause));
    child.once('close', (status, signal) => {
      const said = Buffer.concat(stderr).toString('utf8');
      // A launcher reports a missing program as shells do: status 127.
      if (status === 127 && options.launcher?.length) return reject(missing());
      resolve({
        status: status ?? -1,
        stdout: Buffer.concat(stdout).toString('utf8'),
        stderr: signal === null ? said : `${said}ended by ${signal}`,
      });
    });
    child.stdin.on('error', (cause) => {
      // A program that refuses an early line exits before it has read the rest; its status and words say why.
      if (errorCode(cause) !== 'EPIPE') reject(cause);
    });
    child.stdin.end(options.input ?? '');
  });
}
