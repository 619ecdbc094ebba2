import { execFileSync } from 'node:child_process';
import { mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest';
import type { DutId, Programs } from '../../../bench/bgp/duts.ts';
import { measureScenario } from '../../../bench/bgp/rounds.ts';
import { churning, converging, joining, meshing, type Scenario, standing } from '../../../bench/bgp/scenarios.ts';
import { announcements, hostRoutes, tableRoutes } from '../../../bench/bgp/stream.ts';
import { withTrial } from '../../../bench/bgp/trial.ts';
import { bundled } from '../../support/daemons/bundle.ts';

const root = resolve(import.meta.dirname, '../../..');
const sender = 0x0a630101;
let directory: string;
let programs: Programs;

beforeAll(() => {
  directory = mkdtempSync(join(tmpdir(), 'margay-bench-test-'));
  const tester = join(directory, 'bench-bgp');
  const sources = join(root, 'bench/bgp/tester');
  const files = readdirSync(sources).filter((name) => name.endsWith('.c'));
  execFileSync('gcc', ['-std=gnu11', '-O2', '-Wall', '-Werror', '-o', tester, ...files], { cwd: sources });
  const margay = bundled('standalone-main.ts');
  // That program takes the file alone, where `margay` is told `bgp --config FILE`.
  programs = { margay: ['sh', '-c', 'exec "$0" "$1" "$4"', process.execPath, margay], tester };
});

afterAll(() => rmSync(directory, { recursive: true, force: true }));

afterEach(() => {
  const left = execFileSync('ip', ['netns', 'list'], { encoding: 'utf8' });
  expect(left).not.toContain(`mbb-${process.pid}-`);
});

function figures(name: string, scenario: Scenario, duts: readonly DutId[]) {
  const { signal } = new AbortController();
  const told: string[] = [];
  const tell = (line: string) => told.push(line);
  return measureScenario({ name, scenario, duts, runs: 1, full: true, programs, signal, tell });
}

test('a table goes through Margay, BIRD and the wire to two clients, each prefix checked', async () => {
  const scenario = converging(() => tableRoutes(500, sender), { receivers: 2, runs: 1 });
  const found = await figures('table', scenario, ['margay', 'bird', 'wire']);
  expect(found.map(({ name, peerName }) => `${name} ${peerName}`)).toEqual(
    ['table', 'table-cpu', 'table-rss', 'table-updates', 'table-kb'].flatMap((name) => [
      `${name} BIRD`,
      `${name} wire`,
    ]),
  );
  for (const { ours, peer } of found) for (const value of [...ours, ...peer]) expect(value).toBeGreaterThan(0);
});

test.each([
  ['mesh', meshing(4, 5), 'bird'],
  ['churn', churning(() => hostRoutes(300, sender)), 'wire'],
  ['join', joining(() => tableRoutes(300, sender), 1), 'bird'],
] as const)('%s is measured', async (name, scenario, competitor) => {
  const found = await figures(name, scenario, ['margay', competitor]);
  expect(found.length).toBeGreaterThan(0);
  for (const { ours } of found) for (const value of ours) expect(value).toBeGreaterThan(0);
});

test('pauses are measured against their target, with nobody beside', async () => {
  const [found] = await figures(
    'pause',
    standing(() => tableRoutes(300, sender)),
    ['margay', 'bird'],
  );
  expect(found).toMatchObject({ name: 'pause', unit: 'ms', peer: [100], peerName: 'target' });
  expect(found?.ours[0]).toBeGreaterThanOrEqual(0);
});

test('a run fails when a client gets other prefixes than were said to be sent', async () => {
  const honest = converging(() => hostRoutes(10, sender), { receivers: 1, runs: 1 });
  const lying: Scenario = { ...honest, stream: () => ({ ...honest.stream(), digest: 1 }) };
  await expect(figures('lie', lying, ['wire'])).rejects.toThrow('a client holds other prefixes than were sent');
});

test('a device under test that does not start fails the run with what it said', async () => {
  const stream = join(directory, 'stream');
  writeFileSync(stream, announcements(hostRoutes(1, sender)));
  const broken: Programs = { ...programs, margay: ['sh', '-c', 'echo no such luck >&2; exit 3', 'sh'] };
  const { signal } = new AbortController();
  const trial = withTrial({ dut: 'margay', receivers: 1, stream, programs: broken, signal }, ({ connect }) =>
    connect('receivers'),
  );
  await expect(trial).rejects.toThrow(/Margay: ended with 3\nno such luck/);
});

test('an interrupted run takes everything down', async () => {
  const stop = new AbortController();
  const scenario = converging(() => hostRoutes(10, sender), { receivers: 1, runs: 1 });
  const stream = join(directory, 'stream');
  writeFileSync(stream, announcements(hostRoutes(10, sender)));
  const trial = withTrial({ dut: 'wire', receivers: 1, stream, programs, signal: stop.signal }, async (running) => {
    await running.connect('receivers');
    stop.abort(new Error('interrupted'));
    return scenario.measure(running, scenario.stream());
  });
  await expect(trial).rejects.toThrow('interrupted');
});
