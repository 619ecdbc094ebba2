import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { systemClock } from '../../../src/base/clock.ts';
import { errorCode } from '../../../src/base/errors.ts';
import { createLog } from '../../../src/base/log.ts';
import { supervise } from '../../../src/cli/supervisor.ts';
import { until } from '../../support/wait.ts';

let directory = '';
const log = createLog('test', 'silent');

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'margay-supervisor-'));
});

afterEach(() => rmSync(directory, { recursive: true, force: true }));

/** A program that notes each of its starts in a file. */
function program(name: string, script: string) {
  const file = join(directory, name);
  const args = ['-e', `require('fs').appendFileSync(${JSON.stringify(file)}, process.pid + '\\n'); ${script}`];
  const starts = () => {
    try {
      return readFileSync(file, 'utf8').trim().split('\n').map(Number);
    } catch (thrown) {
      if (errorCode(thrown) === 'ENOENT') return [];
      throw thrown;
    }
  };
  return { program: { name, command: process.execPath, args, env: process.env }, starts };
}

function alive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (thrown) {
    if (errorCode(thrown) === 'ESRCH') return false;
    throw thrown;
  }
}

describe('supervisor', () => {
  test('a program that ends is started again, the other is left alone, and both end when told', async () => {
    const crashing = program('crashing', 'process.exit(3)');
    const steady = program('steady', 'setInterval(() => undefined, 1000)');
    const stop = new AbortController();
    const done = supervise([crashing.program, steady.program], { clock: systemClock, log, signal: stop.signal });
    await until(() => crashing.starts().length >= 2 && steady.starts().length === 1, {
      within: 8000,
      what: 'a second start',
    });
    stop.abort();
    await done;
    expect(steady.starts()).toHaveLength(1);
    expect(steady.starts().some(alive)).toBe(false);
  });

  test('a program that does not exist is tried again, not thrown', async () => {
    const missing = { name: 'missing', command: join(directory, 'nothing'), args: [], env: process.env };
    const stop = new AbortController();
    const done = supervise([missing], { clock: systemClock, log, signal: stop.signal });
    stop.abort();
    await expect(done).resolves.toBeUndefined();
  });
});
