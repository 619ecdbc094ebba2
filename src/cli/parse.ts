import { type Command, CommanderError } from 'commander';
import { ExitError, exitCode } from './exit.ts';

/**
 * Runs a command line. Commander prints its own complaints and help; they end with the usage code, help with zero.
 * @throws ExitError without a message, and whatever the command throws
 */
export async function parseArguments(program: Command, argv: readonly string[]): Promise<void> {
  for (const command of everyCommand(program))
    command.exitOverride().showHelpAfterError('(--help shows what there is)');
  try {
    await program.parseAsync([...argv]);
  } catch (thrown) {
    if (!(thrown instanceof CommanderError)) throw thrown;
    if (thrown.exitCode !== 0) throw new ExitError(exitCode.usage, '', { cause: thrown });
  }
}

function everyCommand(command: Command): Command[] {
  return [command, ...command.commands.flatMap(everyCommand)];
}
