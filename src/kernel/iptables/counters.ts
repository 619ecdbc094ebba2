import type { Family } from '../../model/address.ts';
import { type Launch, runCommand } from '../command.ts';
import { IptablesError } from '../types.ts';
import type { Backend } from './backend.ts';
import { isOurs } from './rules.ts';

/** A rule of a chain of ours, as it stands in the kernel. */
export interface CountedRule {
  /** Our tag; empty for a rule that is not ours. */
  readonly hash: string;
  /** As iptables-save prints it, without `-A chain`; not the text that it was made of. */
  readonly text: string;
  readonly packets: number;
  readonly bytes: number;
}

/** Our chains in one table → their rules in order. */
export type Counters = ReadonlyMap<string, readonly CountedRule[]>;

const ruleLine = /^\[(\d+):(\d+)\] -A (\S+) (.*)$/;

/** Output of `iptables-save -c -t TABLE`. Counts beyond 2^53 lose their last digits. */
export function parseCounters(saved: string): Counters {
  const chains = new Map<string, CountedRule[]>();
  for (const line of saved.split('\n')) {
    const [, packets, bytes, chain = '', text = ''] = ruleLine.exec(line) ?? [];
    if (!isOurs(chain)) continue;
    const hash = /--comment "?cali:([\w-]{16})"?(?:\s|$)/.exec(text)?.[1] ?? '';
    const rule = { hash, text, packets: Number(packets), bytes: Number(bytes) };
    const rules = chains.get(chain);
    if (rules) rules.push(rule);
    else chains.set(chain, [rule]);
  }
  return chains;
}

/** The filter table's counters. @throws IptablesError, EnvironmentError without the program */
export async function readCounters(
  options: Launch & { readonly family: Family; readonly backend: Backend },
): Promise<Counters> {
  const { family, backend, launcher } = options;
  const program = `ip${family === 6 ? '6' : ''}tables-${backend}-save`;
  const command = [program, '-c', '-t', 'filter'];
  const { status, stdout, stderr } = await runCommand(command, { package: 'iptables', ...(launcher && { launcher }) });
  if (status !== 0) throw new IptablesError(`${program}: ${stderr.trim() || `status ${status}`}`);
  return parseCounters(stdout);
}
