import { readFileSync, writeFileSync } from 'node:fs';
import { Command } from 'commander';
import { errorCode, InputError } from '../src/base/errors.ts';
import { ExitError, exitCode, messageOf, runProgram } from '../src/cli/exit.ts';
import { parseArguments } from '../src/cli/parse.ts';
import { benchmarks } from './benchmarks.ts';
import { installedDuts, versionsOf } from './bgp/duts.ts';
import { type Summary, summarise } from './figure.ts';
import { machineLines } from './machine.ts';
import { markdownReport, replacedBetween, suiteOf, suitesOf, textReport } from './report.ts';
import { type Arguments, type Selection, selectionOf } from './selection.ts';

async function bench(names: readonly string[], given: Arguments): Promise<void> {
  const selection = selectionOf(Object.keys(benchmarks), names, given);
  // Now rather than after the measuring.
  if (given.into !== undefined)
    for (const { name } of selection.benchmarks) replacedBetween(documentAt(given.into), suiteOf(name), '');
  const stop = new AbortController();
  const interrupted = () => stop.abort(new ExitError(130, 'interrupted'));
  process.once('SIGINT', interrupted);
  process.once('SIGTERM', interrupted);
  const failed: string[] = [];
  const summaries: Summary[] = [];
  for await (const result of results(selection, stop.signal)) {
    if ('failed' in result) {
      failed.push(result.failed);
      continue;
    }
    const { name, ours, unit } = result;
    if (given.json) process.stdout.write(`${JSON.stringify(result)}\n`);
    else if (summaries.at(-1)?.name !== name) process.stderr.write(`${name}: ${ours} ${unit}\n`);
    summaries.push(result);
  }
  const options = [
    ...(given.full ? ['--full'] : []),
    ...(given.runs ? [`--runs ${given.runs}`] : []),
    ...(given.duts ? [`--duts ${given.duts}`] : []),
  ];
  const words = ['npm run bench --', ...names, ...options];
  if (given.into !== undefined) await writeInto(given.into, summaries, words.join(' '));
  else if (given.markdown) process.stdout.write(await markdownOf(summaries, words.join(' ')));
  else if (!given.json) process.stdout.write(textReport(summaries));
  if (failed.length > 0) throw new ExitError(exitCode.failure, `failed: ${failed.join(', ')}`);
}

/** What each benchmark gives as it ends. One that fails is told and does not keep the others from being measured. */
async function* results(
  { benchmarks: wanted, runs }: Selection,
  signal: AbortSignal,
): AsyncGenerator<Summary | { failed: string }> {
  for (const { name, options } of wanted) {
    try {
      const measured = (await benchmarks[name]?.(runs, signal, options)) ?? [];
      yield* [measured].flat().map(summarise);
    } catch (thrown) {
      signal.throwIfAborted();
      process.stderr.write(`${name}: ${messageOf(thrown)}\n`);
      yield { failed: name };
    }
  }
}

async function markdownOf(summaries: readonly Summary[], command: string): Promise<string> {
  const versions = await versionsOf(installedDuts(undefined, () => undefined));
  return `${machineLines(versions, command)}\n\n${markdownReport(summaries)}`;
}

/** @throws InputError when it cannot be read */
function documentAt(file: string): string {
  try {
    return readFileSync(file, 'utf8');
  } catch (cause) {
    if (errorCode(cause) === undefined) throw cause;
    throw new InputError('--into', file, 'a file that can be read', { cause });
  }
}

async function writeInto(file: string, summaries: readonly Summary[], command: string): Promise<void> {
  for (const [suite, list] of suitesOf(summaries)) {
    const text = replacedBetween(documentAt(file), suite, await markdownOf(list, command));
    writeFileSync(file, text);
  }
}

await runProgram('bench', () =>
  parseArguments(
    new Command('npm run bench --')
      .description(`medians of Margay beside its peers: ${Object.keys(benchmarks).join(', ')}`)
      .argument('[names...]', 'benchmarks to run, or the first word of several (default: all)')
      .option('--json', 'one JSON object a line')
      .option('--markdown', 'tables for a document')
      .option('--into <file>', 'put those tables into this document, between its comment lines')
      .option('--runs <count>', 'runs of each', Number)
      .option('--duts <list>', 'bgp: competitors, of bird,frr,gobgp,openbgpd,wire (default: all that are installed)')
      .option('--full', 'bgp: run slow competitors as often as the others')
      .action(bench),
    process.argv,
  ),
);
