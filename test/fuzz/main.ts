import { randomInt } from 'node:crypto';
import { availableParallelism } from 'node:os';
import { parseArgs } from 'node:util';
import { isMainThread, parentPort, Worker, workerData } from 'node:worker_threads';
import { fuzz } from './target.ts';

/* npm run fuzz [-- --count N --seed N]: mutated messages into every BGP decoder, on all processors. */

/** Messages that a seed stands for; a finding is repeated by its seed alone. */
const round = 100_000;

interface Share {
  readonly first: number;
  readonly rounds: number;
}

function work({ first, rounds }: Share): void {
  for (let i = 0; i < rounds; i++) parentPort?.postMessage([...fuzz(first + i, round)]);
}

async function share(part: Share, totals: Map<string, number>): Promise<void> {
  const worker = new Worker(new URL(import.meta.url), { workerData: part });
  worker.on('message', (outcomes: readonly [string, number][]) => {
    for (const [outcome, count] of outcomes) totals.set(outcome, (totals.get(outcome) ?? 0) + count);
  });
  await new Promise<void>((resolve, reject) => {
    worker.once('error', reject);
    worker.once('exit', () => resolve());
  });
}

function numberOption(name: string, text: string | undefined, fallback: number): number {
  if (text === undefined) return fallback;
  if (!/^\d{1,10}$/.test(text)) throw new RangeError(`--${name} ${text}: expected a whole number`);
  return Number(text);
}

async function main(): Promise<void> {
  const { values } = parseArgs({ options: { count: { type: 'string' }, seed: { type: 'string' } } });
  const seed = numberOption('seed', values.seed, randomInt(2 ** 31));
  const rounds = Math.ceil(numberOption('count', values.count, 10_000_000) / round);
  const workers = Math.min(rounds, availableParallelism());
  process.stdout.write(`seed ${seed}, ${rounds * round} messages, ${workers} threads\n`);
  const totals = new Map<string, number>();
  const began = performance.now();
  const parts = Array.from({ length: workers }, (_, i): Share => {
    const from = Math.floor((rounds * i) / workers);
    return { first: seed + from, rounds: Math.floor((rounds * (i + 1)) / workers) - from };
  });
  await Promise.all(parts.map((part) => share(part, totals)));
  for (const [outcome, count] of [...totals].sort((a, b) => b[1] - a[1]))
    process.stdout.write(`${count}\t${outcome}\n`);
  process.stdout.write(`nothing found in ${((performance.now() - began) / 1000).toFixed(0)} s\n`);
}

if (isMainThread) await main();
else work(workerData as Share);
