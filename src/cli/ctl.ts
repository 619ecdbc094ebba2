import { Command } from 'commander';
import { runProgram } from './exit.ts';
import { parseArguments } from './parse.ts';

/*
 * `margayctl` as it is started. A question that the node's agent answers is asked without loading what the other commands
 * need: the clients of datastores and the schemas of all objects take most of a second.
 */
if (process.argv[2] === 'explain')
  await runProgram('margayctl', async () => {
    const { explainCommand } = await import('./explain.ts');
    await parseArguments(new Command('margayctl').addCommand(explainCommand()), process.argv);
  });
else await import('./margayctl.ts');
