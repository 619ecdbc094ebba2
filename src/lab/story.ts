import {
  applyPolicy,
  checkLegacy,
  checkTunnels,
  checkViews,
  expectMatrix,
  openDoomedConnection,
  settledMatrix,
} from './checks.ts';
import { policyManifest } from './demo.ts';
import { drawMatrix } from './matrix.ts';
import type { LabPlan } from './plan.ts';
import type { Progress } from './progress.ts';
import { drawTopology, sessionTable } from './show.ts';
import { bringUp, type Lab, sessionCount } from './up.ts';
import { patience } from './wait.ts';

/**
 * The whole demonstration: bring the lab up, show it, prove that pods reach each other, apply a policy, prove what it
 * does. Expectations are recorded in `progress`; only what makes going on pointless is thrown.
 */
export async function tellStory(plan: LabPlan, progress: Progress, signal: AbortSignal): Promise<Lab> {
  progress.heading(`Lab "${plan.name}": ${plan.nodes.length} nodes`);
  const lab = await bringUp(plan, progress, signal);

  progress.heading('Topology');
  for (const line of drawTopology(lab)) progress.line(line);

  if (plan.bgp) showSessions(lab, progress);
  if (plan.encap === 'vxlan') await checkTunnels(lab, progress, signal);

  progress.heading('Who reaches whom, before any policy');
  const before = await progress.step('probed', () => settledMatrix(lab, false, patience(20_000, plan), signal));
  for (const line of drawMatrix(plan.pods, before)) progress.line(`  ${line}`);
  expectMatrix('every pod reaches every other', before, progress);
  await checkLegacy(lab, progress, signal);

  progress.heading('margayctl apply -f policy.yaml');
  for (const line of policyManifest.trimEnd().split('\n')) progress.line(`  | ${line}`);
  const doomed = await openDoomedConnection(lab);
  await progress.step('applied', () => applyPolicy(plan));
  const after = await progress.step('probed', () => settledMatrix(lab, true, patience(15_000, plan), signal));
  for (const line of drawMatrix(plan.pods, after)) progress.line(`  ${line}`);
  expectMatrix('only clients reach the web servers, and only over HTTP', after, progress);
  if (doomed) {
    const { held, text } = doomed;
    const alive = typeof held !== 'string' && (await held.ask(3000));
    progress.expect(`${text} lives on`, alive, typeof held === 'string' ? `it never stood: ${held}` : 'it was cut');
    if (typeof held !== 'string') held.close();
  }
  await checkViews(lab, progress);
  return lab;
}

function showSessions({ plan, peers }: Lab, progress: Progress): void {
  progress.heading('BGP sessions');
  for (const line of sessionTable(plan, peers).trimEnd().split('\n')) progress.line(`  ${line}`);
  const wanted = sessionCount(plan);
  const up = peers.map((list) => list.filter(({ state }) => state === 'Established').length);
  progress.expect(
    `every node has all its BGP sessions (${wanted})`,
    up.every((count) => count === wanted),
    `established: ${up.join(', ')}`,
  );
}
