import { join } from 'node:path';
import type { Benchmark, BenchOptions } from '../benchmarks.ts';
import type { Figure } from '../figure.ts';
import { installedDuts, type Programs } from './duts.ts';
import { measureScenario } from './rounds.ts';
import { type Scenario, scenarios } from './scenarios.ts';

/** Beside the bundle of the benchmarks, where scripts/bundle.sh and scripts/build-bench.sh put them. */
const programs: Programs = {
  margay: [process.execPath, join(import.meta.dirname, 'margay.js')],
  tester: join(import.meta.dirname, 'bench-bgp'),
};

/** The route reflector's part: `npm run bench -- bgp`. */
export const bgpBenchmarks: Readonly<Record<string, Benchmark>> = Object.fromEntries(
  Object.entries(scenarios).map(([name, scenario]) => [`bgp-${name}`, benchmarkOf(`bgp-${name}`, scenario)]),
);

function benchmarkOf(name: string, scenario: Scenario): Benchmark {
  return (runs, signal, { duts, full }: BenchOptions): Promise<Figure[]> =>
    measureScenario({
      name,
      scenario,
      duts: installedDuts(duts, tell),
      ...(runs === undefined ? {} : { runs }),
      full,
      programs,
      signal,
      tell,
    });
}

function tell(line: string): void {
  process.stderr.write(`${line}\n`);
}
