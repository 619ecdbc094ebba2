import type { Family } from '../../model/address.ts';
import { type Launch, runCommand } from '../command.ts';
import { IptablesError, type TableName } from '../types.ts';
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

const savedRule = /^\[(\d+):(\d+)\] -A (\S+) (.*)$/;
const listedRule = /^-A \S+(.*?) -c (\d+) (\d+)(.*)$/;

/** Output of `iptables-save -c -t TABLE`. Counts beyond 2^53 lose their last digits. */
export function parseCounters(saved: string): Counters {
  const chains = new Map<string, CountedRule[]>();
  for (const line of saved.split('\n')) {
    const [, packets = '', bytes = '', chain = '', text = ''] = savedRule.exec(line) ?? [];
    if (!isOurs(chain)) continue;
    const rules = chains.get(chain);
    const rule = countedRule(text, packets, bytes);
    if (rules) rules.push(rule);
    else chains.set(chain, [rule]);
  }
  return chains;
}

/** Output of `iptables -v -S CHAIN`, which has the counters within each rule. */
export function parseListed(listed: string): CountedRule[] {
  return listed.split('\n').flatMap((line) => {
    const [, before, packets = '', bytes = '', after] = listedRule.exec(line) ?? [];
    return before === undefined ? [] : [countedRule(`${before}${after}`.trim(), packets, bytes)];
  });
}

function countedRule(text: string, packets: string, bytes: string): CountedRule {
  const hash = /--comment "?cali:([\w-]{16})"?(?:\s|$)/.exec(text)?.[1] ?? '';
  return { hash, text, packets: Number(packets), bytes: Number(bytes) };
}

export interface CounterOptions extends Launch {
  readonly family: Family;
  readonly backend: Backend;
  /** Filter unless told. */
  readonly table?: TableName;
}

/** A table's counters. @throws IptablesError, EnvironmentError without the program */
export async function readCounters(options: CounterOptions): Promise<Counters> {
  const program = `${programOf(options)}-save`;
  const { status, stdout, stderr } = await run([program, '-c', '-t', options.table ?? 'filter'], options);
  if (status !== 0) throw new IptablesError(`${program}: ${stderr.trim() || `status ${status}`}`);
  return parseCounters(stdout);
}

/**
 * Those of one chain, for a tenth of the work. Programs that cannot list it, which is also what they say of a chain that is
 * not there, are asked for all. @throws as `readCounters`
 */
export async function readChain(chain: string, options: CounterOptions): Promise<readonly CountedRule[]> {
  const { table = 'filter' } = options;
  const wait = options.backend === 'legacy' ? ['-w', '5'] : [];
  const { status, stdout } = await run([programOf(options), ...wait, '-t', table, '-v', '-S', chain], options);
  return status === 0 ? parseListed(stdout) : ((await readCounters(options)).get(chain) ?? []);
}

function programOf({ family, backend }: CounterOptions): string {
  return `ip${family === 6 ? '6' : ''}tables-${backend}`;
}

function run(command: readonly string[], { launcher }: Launch) {
  return runCommand(command, { package: 'iptables', ...(launcher && { launcher }) });
}
