import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { cgroupsOf, hierarchies, removeCgroup } from '../support/cgroups.ts';
import { removeLeftovers } from '../support/leftovers.ts';

/** A process that is killed at the end, if it still runs. */
function startSleeper(): { readonly pid: number; readonly ended: Promise<unknown>; readonly kill: () => void } {
  const child = spawn('sleep', ['1000']);
  const ended = once(child, 'exit');
  const kill = () => void child.kill('SIGKILL');
  onTestFinished(kill);
  return { pid: child.pid ?? expect.fail('sleep did not start'), ended, kill };
}

test('the cgroups of a killed run go with what runs in them, those of a running one stay', async () => {
  const [maker, container] = [startSleeper(), startSleeper()];
  const [orphan, mine] = [`margay-test-${maker.pid}-n1`, `margay-test-${process.pid}-n9`];
  const parent = hierarchies().find((folder) => folder.endsWith('/pids')) ?? hierarchies().at(-1) ?? '';
  for (const name of [orphan, mine]) mkdirSync(join(parent, name, 'kubepods/burstable'), { recursive: true });
  onTestFinished(() => removeCgroup(mine));
  writeFileSync(join(parent, orphan, 'kubepods/burstable/cgroup.procs'), String(container.pid));
  expect((await removeLeftovers()).includes(orphan)).toBe(false);
  maker.kill();
  await maker.ended;
  expect(await removeLeftovers()).toContain(orphan);
  await container.ended;
  expect(existsSync(join(parent, orphan))).toBe(false);
  expect(cgroupsOf('margay-test-')).toContain(mine);
});
