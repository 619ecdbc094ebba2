import { Command } from 'commander';
import { InputError } from '../base/errors.ts';
import { createLog } from '../base/log.ts';
import type { StagedCount } from '../felix/staged.ts';
import { type Change, merged, preview } from '../policy/preview.ts';
import { enforcing } from '../policy/staged.ts';
import { readInput } from './apply.ts';
import { clusterOfFiles, clusterOfStore } from './cluster-objects.ts';
import { ask } from './control.ts';
import { runDir } from './environment.ts';
import { ExitError, exitCode } from './exit.ts';
import { asUsage, several } from './explain.ts';
import { anyPage } from './explain-service-page.ts';
import { formatTable, parseFormat, print } from './output.ts';
import { type CaseResult, podEvents, readCases, runCases } from './policy-cases.ts';

interface Options {
  readonly filename?: readonly string[];
  readonly namespace: string;
  readonly output?: string;
}

/** `margayctl policy`: what policies do, without a packet. */
export function policyCommand(): Command {
  const policy = new Command('policy').description('try policies without enforcing them');
  policy
    .command('test')
    .description('whether connections are allowed and denied as a file says: exit 0 all are, 1 some are not')
    .argument('<cases>', 'YAML with cases (from, to, expect: allow or deny), and pods where no datastore gives them')
    .option(
      '-f, --filename <file>',
      'policies and other objects from a file instead of the datastore; repeatable',
      several,
    )
    .option('-n, --namespace <namespace>', 'of pods and objects that name none', 'default')
    .option('-o, --output <format>', 'json or yaml instead of lines')
    .action((cases: string, options: Options) => asUsage(() => testPolicy(cases, options)));
  policy
    .command('diff')
    .description(
      'which pods reach which others differently once a file is applied, or staged policies are: exit 0 none, 1 some',
    )
    .option('-f, --filename <file>', 'what would be applied; may be given several times', several)
    .option('--staged', 'once all staged policies are enforced, too')
    .option(
      '--cluster <file>',
      'what there is, from a file instead of the datastore; may be given several times',
      several,
    )
    .option('-n, --namespace <namespace>', 'of objects that name none', 'default')
    .option('-o, --output <format>', 'json or yaml instead of a table')
    .action((options: DiffOptions) => asUsage(() => diffPolicy(options)));
  policy
    .command('staged')
    .description('what staged policies would have decided on this node, by the counters of their rules in the kernel')
    .option('-o, --output <format>', 'json or yaml instead of a table')
    .action(({ output }: Options) => asUsage(() => showStaged(output)));
  return policy;
}

async function showStaged(output: string | undefined): Promise<void> {
  const format = parseFormat(output);
  const counts = (await ask(runDir(process.env), 'felix', '/v1/staged')) as StagedCount[];
  print(format, counts, () => stagedTable(counts));
}

/** Rules count from 1. Pure. */
export function stagedTable(counts: readonly StagedCount[]): string {
  const rows = counts.map(({ policy, direction, rule, action, packets, bytes }) => [
    policy,
    direction,
    rule < 0 ? 'none matches' : `${rule + 1} ${action}`,
    String(packets),
    String(bytes),
  ]);
  const columns = ['policy', 'direction', 'rule', 'packets', 'bytes'];
  return formatTable({ columns, rows }, 'no staged policy selects a pod of this node');
}

interface DiffOptions extends Options {
  readonly cluster?: readonly string[];
  readonly staged?: boolean;
}

async function diffPolicy({ filename, cluster, staged, namespace, output }: DiffOptions): Promise<void> {
  const format = parseFormat(output);
  if (!filename && !staged) throw new InputError('--filename', filename, 'a file to apply, or --staged');
  const change = await clusterOfFiles(filename ?? [], namespace);
  const before = cluster ? await clusterOfFiles(cluster, namespace) : await clusterOfStore();
  const applied = merged(before, change);
  const after = staged ? merged(applied, enforcing(applied)) : applied;
  const changes = preview(before, after, createLog('margayctl', 'silent'));
  print(format, changes, () => changeTable(changes));
  if (changes.length > 0) throw new ExitError(exitCode.failure, '');
}

function changeTable(changes: readonly Change[]): string {
  const rows = changes.map(({ from, to, family, protocol, port, before, after }) => [
    from,
    to,
    `${protocol} ${port}`,
    `IPv${family}`,
    `${before} -> ${after}`,
  ]);
  return formatTable(
    { columns: ['from', 'to', 'port', 'family', 'verdict'], rows },
    'no connection between pods, or nodes with host endpoints, changes',
  );
}

async function testPolicy(file: string, { filename, namespace, output }: Options): Promise<void> {
  const format = parseFormat(output);
  const cases = readCases(await readInput(file), file);
  const cluster = filename ? await clusterOfFiles(filename, namespace) : await clusterOfStore();
  const results = runCases(cases, [...cluster, ...podEvents(cases, namespace)], namespace);
  print(format, results, () => resultPage(results));
  if (results.some(({ passed }) => !passed)) throw new ExitError(exitCode.failure, '');
}

/** A line a case, and the way to the verdict of those that fail. Pure. */
export function resultPage(results: readonly CaseResult[]): string {
  const lines = results.map(({ name, expected, passed, answer }) => {
    const line = `${passed ? 'ok  ' : 'FAIL'} ${name}: ${passed ? '' : `expected ${expected}, found `}${answer.verdict}\n`;
    return passed ? line : `${line}${anyPage(answer).replace(/^(?=.)/gm, '     ')}`;
  });
  const failed = results.filter(({ passed }) => !passed).length;
  return `${lines.join('')}${results.length - failed} of ${results.length} as expected\n`;
}
