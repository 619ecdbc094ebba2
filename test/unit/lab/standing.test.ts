import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { startOf } from '../../../src/lab/processes.ts';
import { abandonedLabs, markPassing, standingLabs } from '../../../src/lab/standing.ts';

let root: string;
beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'labs-'));
});
afterEach(() => rmSync(root, { recursive: true }));

function lab(name: string): string {
  mkdirSync(join(root, name));
  return join(root, name);
}

test('of labs that end with their process those are abandoned whose process is gone', () => {
  lab('kept');
  markPassing(lab('running'));
  // A process ID is given anew; its start is not.
  writeFileSync(join(lab('again'), 'once'), `${process.pid} 1\n`);
  writeFileSync(join(lab('killed'), 'once'), '4194305 77\n');
  expect(abandonedLabs(root)).toEqual(['again', 'killed']);
  expect(standingLabs(root)).toEqual(['again', 'kept', 'killed', 'running']);
});

test('without any lab there is none', () => {
  expect([abandonedLabs(join(root, 'none')), standingLabs(join(root, 'none'))]).toEqual([[], []]);
});

test('the start of a process is a number of ticks; what does not run has none', () => {
  expect(startOf(process.pid)).toMatch(/^\d+$/);
  expect(startOf(4194305)).toBeUndefined();
});
