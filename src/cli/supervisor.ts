import { type ChildProcess, spawn } from 'node:child_process';
import { Backoff } from '../base/backoff.ts';
import { type Clock, pause } from '../base/clock.ts';
import type { Log } from '../base/log.ts';

export interface Program {
  readonly name: string;
  readonly command: string;
  readonly args: readonly string[];
  readonly env: NodeJS.ProcessEnv;
}

/** A child that lived this long was healthy: the next restart is quick again. */
const healthyMs = 60_000;
/** What a child gets to end itself after SIGTERM. */
const graceMs = 10_000;

/** Set for children: standard input is a pipe whose end means that the parent is gone. */
export const parentPipe = 'MARGAY_PARENT_PIPE';

/**
 * Keeps programs running until the signal aborts, each on its own: one that ends is started again after a backoff.
 * Then SIGTERM to all, and SIGKILL to what is left after ten seconds. A child also ends when this process dies.
 */
export async function supervise(
  programs: readonly Program[],
  deps: { clock: Clock; log: Log; signal: AbortSignal },
): Promise<void> {
  await Promise.all(programs.map((program) => keepRunning(program, deps)));
}

async function keepRunning(program: Program, deps: { clock: Clock; log: Log; signal: AbortSignal }): Promise<void> {
  const { clock, log, signal } = deps;
  const backoff = new Backoff(200, 30_000);
  while (!signal.aborted) {
    const began = clock.monotonic();
    const ended = await runOnce(program, deps);
    if (signal.aborted) return;
    if (clock.monotonic() - began > healthyMs) backoff.reset();
    const delay = backoff.next();
    log.warn(
      { program: program.name, ...ended, restartInMs: delay },
      'a process of this node ended; starting it again',
    );
    await pause(clock, delay, signal);
  }
}

type Ended = { readonly code: number | null; readonly killedBy: string | null } | { readonly error: string };

function runOnce(
  program: Program,
  { clock, log, signal }: { clock: Clock; log: Log; signal: AbortSignal },
): Promise<Ended> {
  return new Promise((resolve) => {
    const child = spawn(program.command, program.args, {
      stdio: ['pipe', 'inherit', 'inherit'],
      env: { ...program.env, [parentPipe]: '1' },
    });
    let cancel: (() => void) | undefined;
    const stop = () => {
      child.kill('SIGTERM');
      cancel = clock.after(graceMs, () => {
        log.error({ program: program.name }, 'did not end within 10 s of SIGTERM; killing it');
        child.kill('SIGKILL');
      });
    };
    const finish = (ended: Ended) => {
      signal.removeEventListener('abort', stop);
      cancel?.();
      resolve(ended);
    };
    child.once('spawn', () => log.info({ program: program.name, pid: child.pid }, 'started'));
    child.once('error', (error) => finish({ error: error.message }));
    child.once('exit', (code, killedBy) => finish({ code, killedBy }));
    ignoreBrokenPipe(child);
    if (signal.aborted) stop();
    else signal.addEventListener('abort', stop, { once: true });
  });
}

/** Nothing is ever written to the pipe; that the child closed it is no event of interest. */
function ignoreBrokenPipe(child: ChildProcess): void {
  child.stdin?.on('error', () => undefined);
}

/**
 * A signal that aborts on SIGTERM, SIGINT, or, for a child of `supervise`, when its parent is gone.
 * A second SIGINT ends the process at once.
 */
export function stopSignal(env: NodeJS.ProcessEnv = process.env): AbortSignal {
  const controller = new AbortController();
  const stop = () => controller.abort();
  process.once('SIGTERM', stop);
  process.once('SIGINT', stop);
  if (env[parentPipe] === '1') {
    process.stdin.once('end', stop);
    process.stdin.once('error', stop);
    process.stdin.resume();
    controller.signal.addEventListener('abort', () => process.stdin.destroy(), { once: true });
  }
  return controller.signal;
}
