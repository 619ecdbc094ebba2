import { Command } from 'commander';
import { readInput } from './apply.ts';
import { clusterOfFiles, clusterOfStore } from './cluster-objects.ts';
import { ExitError, exitCode } from './exit.ts';
import { asUsage, several } from './explain.ts';
import { explainPage } from './explain-page.ts';
import { parseFormat, print } from './output.ts';
import { type CaseResult, podEvents, readCases, runCases } from './policy-cases.ts';

interface Options {
  readonly filename?: readonly string[];
  readonly namespace: string;
  readonly output?: string;
}

/** `margayctl policy`: what policies do, without a packet. */
export function policyCommand(): Command {
  const policy = new Command('policy').description('try policies without a packet');
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
  return policy;
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
    return passed ? line : `${line}${explainPage(answer).replace(/^(?=.)/gm, '     ')}`;
  });
  const failed = results.filter(({ passed }) => !passed).length;
  return `${lines.join('')}${results.length - failed} of ${results.length} as expected\n`;
}
