import pino from 'pino';
import { startCniServer } from '../../../src/cni/server.ts';

/*
 * A program: the CNI server alone, on the socket of its argument. It prints each verb that it is asked for, and answers
 * when there is something on standard input.
 */

const [socketPath = ''] = process.argv.slice(2);
await startCniServer({
  socketPath,
  handler: {
    handle: async ({ env }) => {
      process.stdout.write(`${env['CNI_COMMAND']}\n`);
      await new Promise((resolve) => process.stdin.once('data', resolve));
      return { exitCode: 0, stdout: 'done' };
    },
  },
  log: pino({ level: 'silent' }),
  signal: new AbortController().signal,
});
process.stdout.write('ready\n');
