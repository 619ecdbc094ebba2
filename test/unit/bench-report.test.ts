import { expect, test } from 'vitest';
import { figuresOf } from '../../bench/bgp/rounds.ts';
import type { Sample, Scenario } from '../../bench/bgp/scenarios.ts';
import { type Summary, summarise } from '../../bench/figure.ts';
import { markdownReport, replacedBetween, textReport } from '../../bench/report.ts';
import { selectionOf } from '../../bench/selection.ts';

const known = ['lab', 'policy', 'bgp-join', 'bgp-join-200k', 'bgp-mesh'];

test('a name stands for one benchmark, or for all that begin with it; no name for all', () => {
  const namesOf = (...names: string[]) => selectionOf(known, names, {}).benchmarks.map(({ name }) => name);
  expect(namesOf('bgp')).toEqual(['bgp-join', 'bgp-join-200k', 'bgp-mesh']);
  expect(namesOf('bgp-join')).toEqual(['bgp-join']);
  expect(namesOf('lab', 'bgp-mesh', 'lab')).toEqual(['lab', 'bgp-mesh']);
  expect(namesOf()).toEqual(known);
  expect(() => namesOf('bgpp')).toThrow('benchmark: "bgpp": expected one of lab,');
});

test('slow competitors run in full with --full and where the benchmark itself is named', () => {
  const fullOf = (names: string[], full?: boolean) =>
    selectionOf(known, names, full === undefined ? {} : { full }).benchmarks.map(({ options }) => options.full);
  expect(fullOf(['bgp'])).toEqual([false, false, false]);
  expect(fullOf(['bgp', 'bgp-mesh'])).toEqual([false, false, true]);
  expect(fullOf(['bgp'], true)).toEqual([true, true, true]);
});

test('runs and competitors are checked', () => {
  for (const runs of [0, 1.5, Number.NaN, 10_001]) expect(() => selectionOf(known, [], { runs })).toThrow('--runs: ');
  expect(selectionOf(known, ['lab'], { runs: 7 }).runs).toBe(7);
  const dutsOf = (duts: string) => selectionOf(known, ['lab'], { duts }).benchmarks[0]?.options.duts;
  expect(dutsOf('frr, bird')).toEqual(['margay', 'bird', 'frr']);
  expect(() => dutsOf('bird,quagga')).toThrow('--duts: "quagga": expected some of margay,bird,');
  expect(() => dutsOf('')).toThrow('--duts: ');
});

const units = { '': 's', cpu: 's' };
const scenario: Scenario = {
  receivers: 1,
  runs: 2,
  units,
  stream: () => ({ parts: [], count: 0, digest: 0 }),
  measure: () => Promise.resolve(new Map()),
};

function samplesOf(...values: readonly (readonly [number, number])[]): Sample[] {
  return values.map(
    ([wall, cpu]) =>
      new Map([
        ['', wall],
        ['cpu', cpu],
      ]),
  );
}

test('each measure of a scenario makes one figure a competitor, with the runs that each had', () => {
  const figures = figuresOf(
    'bgp-x',
    scenario,
    new Map([
      ['margay', samplesOf([1, 0.1], [3, 0.3])],
      ['bird', samplesOf([4, 0.4], [8, 0.8])],
      ['gobgp', samplesOf([16, 2])],
    ]),
  );
  expect(figures).toEqual([
    { name: 'bgp-x', unit: 's', ours: [1, 3], peer: [4, 8], peerName: 'BIRD' },
    { name: 'bgp-x', unit: 's', ours: [1, 3], peer: [16], peerName: 'GoBGP' },
    { name: 'bgp-x-cpu', unit: 's', ours: [0.1, 0.3], peer: [0.4, 0.8], peerName: 'BIRD' },
    { name: 'bgp-x-cpu', unit: 's', ours: [0.1, 0.3], peer: [2], peerName: 'GoBGP' },
  ]);
  const [first] = figures.map(summarise);
  expect(first).toMatchObject({ ours: 2, peer: 6, ratio: 0.333, runs: 2 });
});

function summary(name: string, peerName: string, peer: number): Summary {
  return summarise({ name, unit: 'ms', ours: [2], peer: [peer], peerName });
}

const compared = [summary('bgp-a', 'BIRD', 4), summary('bgp-a', 'FRR', 1), summary('bgp-b', 'FRR', 8)];

test('figures with several competitors have one line, those with one a line each', () => {
  expect(
    textReport([summary('lab', 'target', 4), ...compared]),
  ).toBe(`NAME   OURS   PEER   RATIO   SPREAD   RUNS   PEER IS
lab    2 ms   4 ms   0.5     2–2 ms   1      target

FIGURE   UNIT   MARGAY   BIRD      FRR        RUNS
bgp-a    ms     2        4 (0.5)   1 (2)      1
bgp-b    ms     2        –         8 (0.25)   1
`);
});

test('a document gets the tables between its comment lines, and keeps the rest', () => {
  const markdown = markdownReport(compared);
  expect(markdown).toBe(`| figure | unit | Margay | BIRD | FRR | runs |
| --- | --- | --- | --- | --- | --- |
| bgp-a | ms | 2 | 4 (0.5) | 1 (2) | 1 |
| bgp-b | ms | 2 | – | 8 (0.25) | 1 |
`);
  const document = 'before\n<!-- bgp: begin -->\nold\n<!-- bgp: end -->\nafter\n';
  const replaced = replacedBetween(document, 'bgp', markdown);
  expect(replaced).toBe(`before\n<!-- bgp: begin -->\n\n${markdown.trim()}\n\n<!-- bgp: end -->\nafter\n`);
  expect(replacedBetween(replaced, 'bgp', markdown)).toBe(replaced);
  expect(() => replacedBetween(document, 'lab', markdown)).toThrow('--into: "lab": expected a file with the lines');
});
