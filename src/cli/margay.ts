import { ExitError, exitCode, runProgram } from './exit.ts';
import { margayProgram } from './margay-program.ts';
import { parseArguments } from './parse.ts';

await runProgram('margay', async () => {
  const program = margayProgram();
  if (process.argv.length <= 2)
    throw new ExitError(exitCode.usage, `what to run? ${program.commands.map((c) => c.name()).join(', ')}`);
  await parseArguments(program, process.argv);
});
