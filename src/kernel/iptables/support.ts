import { type Launch, runCommand } from '../command.ts';
import type { RuleText } from '../types.ts';
import type { Backend } from './backend.ts';

/** Exit status of the legacy programs without the lock or memory (xtables.h). */
const RESOURCE_PROBLEM = 4;

/** Nothing ever jumps to it. */
const chain = 'cali-try';

/**
 * Whether the kernel has what a rule of the filter table asks for: the rule is put into a chain of its own, which goes
 * again. A table that holds one rule too much for its kernel could not be written at all.
 * @throws EnvironmentError without the program
 */
export async function takesRule(rule: RuleText, options: Launch & { readonly backend: Backend }): Promise<boolean> {
  const { backend, launcher } = options;
  const declared = ['*filter', `:${chain} - [0:0]`];
  const input = [...declared, `-A ${chain} ${rule}`, 'COMMIT', ...declared, `-X ${chain}`, 'COMMIT', ''].join('\n');
  // nft has no lock, and its program does not know the option everywhere.
  const command = [`iptables-${backend}-restore`, '--noflush', ...(backend === 'legacy' ? ['-w', '10'] : [])];
  // Without the xtables lock nothing is known, and every kernel in use has these.
  const { status } = await runCommand(command, { input, package: 'iptables', ...(launcher && { launcher }) });
  return status === 0 || (backend === 'legacy' && status === RESOURCE_PROBLEM);
}
