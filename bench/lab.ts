import { claimState } from '../src/lab/cluster.ts';
import { takeDown } from '../src/lab/down.ts';
import { planLab } from '../src/lab/plan.ts';
import { Progress } from '../src/lab/progress.ts';
import { bringUp, type Lab } from '../src/lab/up.ts';

/** Runs an action on a fresh lab of nodes (default three) with two pods each, and takes the lab down whatever happens. */
export async function withLab<T>(
  signal: AbortSignal,
  action: (lab: Lab) => Promise<T>,
  { nodes = 3 }: { readonly nodes?: number } = {},
): Promise<T> {
  const name = `b${process.pid.toString(36)}${Math.floor(Math.random() * 36 ** 3).toString(36)}`;
  const plan = planLab({ name, nodes, pods: 2, family: 'v4', tor: 'bird' });
  const quiet = new Progress(() => undefined);
  claimState(plan);
  try {
    return await action(await bringUp(plan, quiet, signal));
  } finally {
    await takeDown(name);
  }
}
