import { InputError } from '../src/base/errors.ts';
import type { BenchOptions } from './benchmarks.ts';
import { parseDuts } from './bgp/duts.ts';

/** The command line, as it came. */
export interface Arguments {
  readonly json?: boolean;
  readonly markdown?: boolean;
  readonly into?: string;
  readonly runs?: number;
  readonly duts?: string;
  readonly full?: boolean;
}

/** What to run, in order, each with what it is told. */
export interface Selection {
  readonly runs?: number;
  readonly benchmarks: readonly { readonly name: string; readonly options: BenchOptions }[];
}

/**
 * Benchmarks by name; `bgp` stands for all whose names begin `bgp-`, and no name for all there are. One that is named
 * itself has its slow competitors run as often as the others.
 * @throws InputError naming the argument
 */
export function selectionOf(known: readonly string[], names: readonly string[], given: Arguments): Selection {
  const { runs, full = false } = given;
  if (runs !== undefined && !(Number.isInteger(runs) && runs >= 1 && runs <= 10_000))
    throw new InputError('--runs', runs, 'a number from 1 to 10000');
  const duts = given.duts === undefined ? {} : { duts: parseDuts(given.duts) };
  const wanted = new Map<string, BenchOptions>();
  for (const name of names.length > 0 ? names : known) {
    const found = known.includes(name) ? [name] : known.filter((one) => one.startsWith(`${name}-`));
    if (found.length === 0) throw new InputError('benchmark', name, `one of ${known.join(', ')}`);
    for (const one of found) wanted.set(one, { ...duts, full: full || names.includes(one) });
  }
  return {
    ...(runs === undefined ? {} : { runs }),
    benchmarks: [...wanted].map(([name, options]) => ({ name, options })),
  };
}
