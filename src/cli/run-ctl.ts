import type { Command } from 'commander';
import { runProgram } from './exit.ts';
import { asUsage } from './explain.ts';
import { parseArguments } from './parse.ts';

/** Runs a command line of `margayctl` to its end: exit 1 is an answer of many commands, so wrong input is 2 in all. */
export function runCtl(program: Command, argv: readonly string[]): Promise<void> {
  return runProgram('margayctl', () => asUsage(() => parseArguments(program, argv)));
}
