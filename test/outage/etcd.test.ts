import { expect, test } from 'vitest';
import { planLab } from '../../src/lab/plan.ts';
import { build, lab, labName } from '../e2e/support.ts';
import { type Away, labStage } from '../support/outage/lab.ts';
import { figuresText, playOutage } from '../support/outage/play.ts';
import { seconds } from './seconds.ts';

/* etcd is away for ten minutes, in either way that a datastore goes: a lab of three nodes with a ToR for each. */

test.concurrent.each<Away>(['killed', 'unreachable'])(`etcd is %s for ${seconds} s`, async (how) => {
  await build();
  const name = labName('o');
  const plan = planLab({ name, nodes: 3, pods: 2, family: 'v4', tor: 'bird' });
  try {
    const up = await lab('--name', name, '--nodes', '3');
    expect(up.code, up.stdout + up.stderr).toBe(0);
    const stage = await labStage(plan, how, AbortSignal.timeout((seconds + 600) * 1000));
    const figures = await playOutage(stage, seconds, 6);
    process.stdout.write(figuresText(`etcd ${how}`, figures));
  } finally {
    await lab('--down', '--name', name);
  }
});
