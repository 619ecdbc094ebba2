import { Command } from 'commander';
import { InputError } from '../src/base/errors.ts';
import { ExitError, runProgram } from '../src/cli/exit.ts';
import { formatTable } from '../src/cli/output.ts';
import { parseArguments } from '../src/cli/parse.ts';
import { benchmarks } from './benchmarks.ts';
import { type Summary, summarise } from './figure.ts';

const columns = ['name', 'ours', 'peer', 'ratio', 'spread', 'runs', 'peer is'];

function row({ name, ours, peer, peerName, ratio, unit, runs, spread }: Summary): string[] {
  const [low, high] = spread;
  return [name, `${ours} ${unit}`, `${peer} ${unit}`, String(ratio), `${low}–${high} ${unit}`, String(runs), peerName];
}

async function bench(names: readonly string[], { json, runs }: { json?: boolean; runs?: number }): Promise<void> {
  const wanted = names.length > 0 ? names : Object.keys(benchmarks);
  for (const name of wanted)
    if (!Object.hasOwn(benchmarks, name))
      throw new InputError('benchmark', name, `one of ${Object.keys(benchmarks).join(', ')}`);
  if (runs !== undefined && !(Number.isInteger(runs) && runs >= 1 && runs <= 10_000))
    throw new InputError('--runs', runs, 'a number from 1 to 10000');
  const stop = new AbortController();
  process.once('SIGINT', () => stop.abort(new ExitError(130, 'interrupted')));
  const summaries: Summary[] = [];
  for (const name of wanted) {
    const figure = await benchmarks[name]?.(runs, stop.signal);
    if (!figure) continue;
    const summary = summarise(figure);
    summaries.push(summary);
    if (json) process.stdout.write(`${JSON.stringify(summary)}\n`);
    else process.stderr.write(`${name}: ${summary.ours} ${summary.unit}\n`);
  }
  if (!json) process.stdout.write(formatTable({ columns, rows: summaries.map(row) }));
}

await runProgram('bench', () =>
  parseArguments(
    new Command('npm run bench --')
      .description(`medians of Margay beside its peers: ${Object.keys(benchmarks).join(', ')}`)
      .argument('[names...]', 'benchmarks to run (default: all)')
      .option('--json', 'one JSON object a line')
      .option('--runs <count>', 'runs of each', Number)
      .action(bench),
    process.argv,
  ),
);
