import { spawn } from 'node:child_process';
import type { Readable } from 'node:stream';
import { errorCode } from '../base/errors.ts';
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

/** Most octets of output that are kept; no program of ours here prints as much. */
const mostOutput = 64 << 20;

/**
 * Runs a program to its end and gives its standard output. It is in a session of its own: Ctrl-C on the terminal would end
 * it as well, and with it the taking down of what was made.
 * @throws CommandError
 */
export function run(command: string, args: readonly string[], options: RunOptions = {}): Promise<string> {
  return new Promise((resolve, reject) => {
    const { input, env, signal } = options;
    const child = spawn(command, [...args], {
      detached: true,
      ...(env ? { env } : {}),
      ...(signal ? { signal } : {}),
    });
    const [out, err] = [collected(child.stdout), collected(child.stderr)];
    const failed = (status: number | string | undefined, why: string) =>
      reject(new CommandError([command, ...args].join(' '), status, why, out()));
    child.once('error', (error) => failed(errorCode(error), error.message));
    child.once('close', (code, killedBy) =>
      code === 0 ? resolve(out()) : failed(code ?? killedBy ?? undefined, err()),
    );
    // A program that ends without reading its input closes the pipe; its status tells the story.
    child.stdin.on('error', () => undefined);
    child.stdin.end(input ?? '');
  });
}

/** What a stream has told so far, up to `mostOutput`. */
function collected(stream: Readable): () => string {
  const chunks: Buffer[] = [];
  let size = 0;
  stream.on('data', (chunk: Buffer) => {
    if (size < mostOutput) chunks.push(chunk);
    size += chunk.length;
  });
  return () => Buffer.concat(chunks).toString('utf8');
}
