import { Command } from 'commander';
import { systemClock } from '../base/clock.ts';
import { createLog } from '../base/log.ts';
import { readStoreConfig } from '../datastore/config.ts';
import { openStore } from '../datastore/open.ts';
import type { Deps } from './apply.ts';
import { agentChecks } from './doctor/agent-checks.ts';
import { clusterChecks } from './doctor/cluster-checks.ts';
import type { Facts, Finding } from './doctor/facts.ts';
import { type CniDirectories, gather } from './doctor/gather.ts';
import { hostChecks } from './doctor/host-checks.ts';
import { ExitError, exitCode } from './exit.ts';
import { type Format, parseFormat, print } from './output.ts';

/** Name of a check → the check, in the order in which they are shown. */
export const checks = { ...clusterChecks, ...agentChecks, ...hostChecks };

interface DoctorOptions extends CniDirectories {
  readonly output?: string;
  readonly all?: boolean;
}

/** `margayctl doctor`: what is wrong with this node, and what to do about it. */
export function doctorCommand(): Command {
  return new Command('doctor')
    .description('what is wrong with this node and its cluster, each with what to do: exit 0 nothing, 1 something is')
    .option('-a, --all', 'also what is in order')
    .option('--conf-dir <directory>', 'where the container runtime looks for network configurations', '/etc/cni/net.d')
    .option('--bin-dir <directory>', 'where it looks for plugins', '/opt/cni/bin')
    .option('-o, --output <format>', 'json or yaml instead of a page')
    .action((options: DoctorOptions) => examine(options, parseFormat(options.output)));
}

/** Runs every check. Pure. */
export function diagnose(facts: Facts): readonly Finding[] {
  return Object.values(checks).flatMap((check) => check(facts));
}

async function examine(options: DoctorOptions, format: Format): Promise<void> {
  const { env } = process;
  const facts = await gather(env, withStore, options);
  const found = diagnose(facts);
  const failures = found.filter(({ level }) => level === 'failure').length;
  print(format, { node: facts.node, findings: found }, () => page(found, options.all === true));
  if (failures > 0) throw new ExitError(exitCode.failure, '');
}

async function withStore<T>(action: (deps: Deps) => Promise<T>): Promise<T> {
  const log = createLog('margayctl', process.env['MARGAY_LOG_LEVEL'] || 'silent');
  const store = openStore(readStoreConfig(process.env), log);
  try {
    return await action({ store, clock: systemClock, log });
  } finally {
    store.close();
  }
}

const marks = { failure: '✗', warning: '!', unknown: '?', ok: '✓' } as const;
const order = ['failure', 'warning', 'unknown', 'ok'] as const;

/** What is worst comes first. Pure. */
export function page(found: readonly Finding[], all: boolean): string {
  const shown = order.flatMap((level) => (level === 'ok' && !all ? [] : found.filter((one) => one.level === level)));
  const lines = shown.map(({ level, check, detail, fix }) => {
    const what = `${marks[level]} ${check}: ${level === 'unknown' ? 'cannot be seen: ' : ''}${detail}\n`;
    return fix === undefined ? what : `${what}    → ${fix}\n`;
  });
  const count = (level: Finding['level']) => found.filter((one) => one.level === level).length;
  const sum = `${count('ok')} in order, ${count('failure')} failures, ${count('warning')} warnings, ${count('unknown')} not seen\n`;
  return `${lines.join('')}${sum}`;
}
