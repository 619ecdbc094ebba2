import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Figure } from '../figure.ts';
import { type DutId, duts, type Programs } from './duts.ts';
import type { Sample, Scenario, Stream } from './scenarios.ts';
import { withTrial } from './trial.ts';

export interface RoundOptions {
  readonly name: string;
  readonly scenario: Scenario;
  /** Ours is one of them. */
  readonly duts: readonly DutId[];
  /** Absent: as many as the scenario says. */
  readonly runs?: number;
  /** Slow competitors run as often as the others. */
  readonly full: boolean;
  readonly programs: Programs;
  readonly signal: AbortSignal;
  /** Told of each run and of each competitor that is left out. */
  readonly tell: (line: string) => void;
}

/** Measures a scenario, the DUTs in turns, so that what else happens on the machine falls on all alike. */
export async function measureScenario(options: RoundOptions): Promise<Figure[]> {
  const { name, scenario, programs, signal, tell } = options;
  const runs = options.runs ?? scenario.runs;
  const partakers = options.duts.filter((id) => !scenario.without?.includes(id));
  const samples = new Map<DutId, Sample[]>();
  for (const id of partakers) {
    const most = options.full ? runs : Math.min(runs, scenario.most?.[id] ?? runs);
    if (most < runs) {
      const what = most === 0 ? 'is left out' : `has ${most} of ${runs} runs`;
      tell(`${name}: ${duts[id].title} ${what}, since it is slow; --full or the benchmark's own name gives it all`);
    }
    if (most > 0) samples.set(id, []);
  }
  await withStream(scenario.stream(), async (stream, file) => {
    for (let run = 0; run < runs; run++) {
      for (const [id, all] of samples) {
        if (!options.full && run >= (scenario.most?.[id] ?? runs)) continue;
        const trial = { dut: id, receivers: scenario.receivers, stream: file, programs, signal };
        const sample = await withTrial(trial, (running) => scenario.measure(running, stream));
        all.push(sample);
        tell(`${name} ${run + 1}/${runs} ${duts[id].title}: ${shown(sample, scenario)}`);
      }
    }
  });
  return figuresOf(name, scenario, samples);
}

async function withStream(stream: Stream, action: (stream: Stream, file: string) => Promise<void>): Promise<void> {
  const directory = mkdtempSync(join(tmpdir(), 'margay-bench-stream-'));
  try {
    const file = join(directory, 'updates');
    writeFileSync(file, Buffer.concat(stream.parts));
    await action(stream, file);
  } finally {
    rmSync(directory, { recursive: true });
  }
}

function shown(sample: Sample, { units }: Scenario): string {
  return [...sample].map(([key, value]) => `${key} ${value.toPrecision(3)} ${units[key] ?? ''}`.trim()).join(', ');
}

/** For each measure one figure a competitor. */
export function figuresOf(
  name: string,
  { units, targets = {} }: Scenario,
  samples: ReadonlyMap<DutId, readonly Sample[]>,
): Figure[] {
  const valuesOf = (id: DutId, key: string) =>
    (samples.get(id) ?? []).flatMap((sample) => {
      const value = sample.get(key);
      return value === undefined ? [] : [value];
    });
  return Object.entries(units).flatMap(([key, unit]) => {
    const ours = valuesOf('margay', key);
    const figure = key === '' ? name : `${name}-${key}`;
    const target = targets[key];
    if (target !== undefined) return [{ name: figure, unit, ours, peer: ours.map(() => target), peerName: 'target' }];
    return [...samples.keys()]
      .filter((id) => id !== 'margay' && valuesOf(id, key).length > 0)
      .map((id): Figure => {
        return {
          name: figure,
          unit,
          ours,
          peer: valuesOf(id, key),
          peerName: duts[id].title,
        };
      });
  });
}
