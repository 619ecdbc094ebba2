import { execFile } from 'node:child_process';
import { ExitError, exitCode } from '../cli/exit.ts';

export interface RunOptions {
  readonly input?: string;
  readonly env?: NodeJS.ProcessEnv;
  readonly signal?: AbortSignal;
}

/** A program that ended with another status than zero. */
export class CommandError extends ExitError {
  constructor(
    readonly command: string,
    readonly status: number | string | undefined,
    readonly stderr: string,
    readonly stdout: string,
  ) {
    super(exitCode.failure, `${command}: ${stderr.trim() || stdout.trim() || `ended with ${status}`}`);
  }
}

/** Runs a program to its end and gives its standard output. @throws CommandError */
export function run(command: string, args: readonly string[], options: RunOptions = {}): Promise<string> {
  return new Promise((resolve, reject) => {
    const { input, env, signal } = options;
    const child = execFile(
      command,
      [...args],
      { maxBuffer: 64 << 20, ...(env ? { env } : {}), ...(signal ? { signal } : {}) },
      (error, stdout, stderr) => {
        if (error)
          reject(
            new CommandError(
              [command, ...args].join(' '),
              error.code ?? undefined,
              stderr || notStarted(error),
              stdout,
            ),
          );
        else resolve(stdout);
      },
    );
    // A program that ends without reading its input closes the pipe; its status tells the story.
    child.stdin?.on('error', () => undefined);
    child.stdin?.end(input ?? '');
  });
}

/** Why a program never ran; one that did tells by its output. */
function notStarted({ code, message }: { code?: number | string | null; message: string }): string {
  return typeof code === 'string' ? message : '';
}
