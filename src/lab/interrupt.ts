import { constants } from 'node:os';
import { explain } from '../base/errors.ts';
import { ExitError, exitCode } from '../cli/exit.ts';

const signals = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;

/**
 * Aborts at the first Ctrl-C, at the end of the terminal, and when nobody reads our output any more (`npm run lab | head`);
 * its reason is the ExitError to end with. From then on signals are heeded no more, so that what follows can take the lab
 * down: npm passes each on to us, beside the terminal, and people press Ctrl-C twice.
 */
export function interruption(): AbortSignal {
  const stop = new AbortController();
  const because = (code: number, why: string) => {
    if (stop.signal.aborted) return;
    process.stderr.write(`lab: ${why}; removing everything\n`);
    stop.abort(new ExitError(code, `${why}; everything is removed again`));
  };
  for (const name of signals) process.on(name, () => because(128 + constants.signals[name], 'interrupted'));
  // Of the error output it is told as well as can be: there may be nothing left to tell it by.
  for (const stream of [process.stdout, process.stderr])
    stream.on('error', (cause) => because(exitCode.failure, `the output cannot be written (${explain(cause)})`));
  return stop.signal;
}
