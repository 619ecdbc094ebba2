import { execFileSync, spawn } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, dirname, join } from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { isAlive } from '../../src/lab/processes.ts';
import { makerOf, ownLab, ownName, removeLeftovers } from '../support/leftovers.ts';
import { until } from '../support/wait.ts';

const netns = (...words: readonly string[]) => execFileSync('ip', ['netns', ...words], { encoding: 'utf8' });
const there = (name: string) => existsSync(`/run/netns/${name}`);

/** A process that another run takes for one that runs tests, until it is killed. */
function startMaker(): { readonly pid: number; readonly kill: () => Promise<void> } {
  const child = spawn('sleep', ['1000']);
  const closed = new Promise<void>((resolve) => child.once('close', () => resolve()));
  const kill = () => {
    child.kill('SIGKILL');
    return closed;
  };
  onTestFinished(kill);
  return { pid: child.pid ?? expect.fail('sleep did not start'), kill };
}

test('namespaces, their processes, labs and folders of a killed run go; those of a running one and of others stay', async () => {
  const maker = startMaker();
  const of = (name: string) => name.replace(String(process.pid), String(maker.pid));
  const mine = ownName('mgp');
  const names = {
    orphan: `${of(mine)}-node`,
    mine: `${mine}-node`,
    other: `other-${maker.pid}-0a1b2c`,
    lab: `margay-${of(ownLab('k'))}-n1`,
  };
  onTestFinished(() => {
    for (const name of Object.values(names)) if (there(name)) netns('delete', name);
  });
  for (const name of Object.values(names)) netns('add', name);
  const sleeper = spawn('ip', ['netns', 'exec', names.orphan, 'sleep', '1000']);
  onTestFinished(() => void sleeper.kill('SIGKILL'));
  await until(() => netns('pids', names.orphan).trim() !== '', { within: 5000, what: 'a process inside' });
  const folder = join(tmpdir(), `margay-test-${maker.pid}-0a1b2c`);
  mkdirSync(join(folder, 'felix-1'), { recursive: true });

  await maker.kill();
  const removed = await removeLeftovers();
  expect(removed).toEqual(expect.arrayContaining([names.orphan, basename(folder)]));
  expect(Object.values(names).filter(there).toSorted()).toEqual([names.mine, names.other].toSorted());
  expect(existsSync(folder)).toBe(false);
  await until(() => !isAlive(sleeper.pid ?? 0), { within: 5000, what: 'the process inside to end' });
});

test('names tell their maker, and others tell none', () => {
  expect(makerOf(ownName('fx-node'))).toBe(process.pid);
  expect(makerOf(`${ownName('mgb')}-us`)).toBe(process.pid);
  for (const name of ['cni-4f1c0d', 'mg-12', 'margay-lab-n1', 'mgp-12-xyz', 'docker-12-abc'])
    expect(makerOf(name)).toBeUndefined();
});

test('temporary files of this run are in a folder of its own', () => {
  expect(basename(tmpdir())).toMatch(/^margay-test-\d+-[0-9a-f]{6}$/);
  expect(readdirSync(dirname(tmpdir()))).toContain(basename(tmpdir()));
});
