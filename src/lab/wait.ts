import { pause, systemClock } from '../base/clock.ts';
import { explain } from '../base/errors.ts';
import { ExitError, exitCode } from '../cli/exit.ts';

/** Something the lab waited for did not come about in time. */
export class ExpectationError extends ExitError {
  constructor(message: string, options?: ErrorOptions) {
    super(exitCode.failure, message, options);
  }
}

/** Milliseconds to wait for what a lab of three nodes does in `ms` at the worst: more nodes share the same processors. */
export function patience(ms: number, { nodes }: { readonly nodes: readonly unknown[] }): number {
  return Math.ceil(ms * Math.max(1, nodes.length / 3));
}

/**
 * Polls until a condition holds and gives what it found.
 * @param check gives the value, or text that says what is still missing
 * @throws ExpectationError with the last thing that was missing
 */
export async function until<T extends object>(
  what: string,
  withinMs: number,
  signal: AbortSignal,
  check: () => Promise<T | string>,
): Promise<T> {
  const end = performance.now() + withinMs;
  let missing = 'not checked yet';
  for (let delay = 10; ; delay = Math.min(delay * 1.5, 250)) {
    signal.throwIfAborted();
    try {
      const found = await check();
      if (typeof found !== 'string') return found;
      missing = found;
    } catch (thrown) {
      missing = explain(thrown);
    }
    if (performance.now() > end) throw new ExpectationError(`${what}: not within ${withinMs / 1000} s: ${missing}`);
    await pause(systemClock, delay, signal);
  }
}
