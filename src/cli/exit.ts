import { EnvironmentError, explain, InputError } from '../base/errors.ts';
import { StoreUnavailableError } from '../datastore/store.ts';

/** What our programs exit with. */
export const exitCode = { ok: 0, failure: 1, usage: 2, unreachable: 3 } as const;

/** A failure that has been told to the person already, or one with an exit code of its own. */
export class ExitError extends Error {
  override readonly name = 'ExitError';
  constructor(
    readonly code: number,
    message: string,
    options?: ErrorOptions,
  ) {
    super(message, options);
  }
}

/** The exit code that fits anything thrown. */
export function codeOf(thrown: unknown): number {
  if (thrown instanceof ExitError) return thrown.code;
  if (thrown instanceof StoreUnavailableError) return exitCode.unreachable;
  return exitCode.failure;
}

/** One line for what a person or their input can mend, the stack for what only a developer can. */
export function messageOf(thrown: unknown): string {
  if (thrown instanceof ExitError) return thrown.message;
  const expected =
    thrown instanceof InputError || thrown instanceof EnvironmentError || thrown instanceof StoreUnavailableError;
  if (expected) return explain(thrown);
  return thrown instanceof Error ? (thrown.stack ?? thrown.message) : String(thrown);
}

/** Runs a program to its end; what it throws becomes `<name>: <message>` on standard error and an exit code. */
export async function runProgram(name: string, program: () => Promise<void>): Promise<void> {
  try {
    await program();
  } catch (thrown) {
    const message = messageOf(thrown);
    if (message !== '') process.stderr.write(`${name}: ${message}\n`);
    process.exitCode = codeOf(thrown);
  }
}
