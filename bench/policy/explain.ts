import { execFile } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { createLog } from '../../src/base/log.ts';
import { ask } from '../../src/cli/control.ts';
import { keyText } from '../../src/datastore/store.ts';
import { serveControl } from '../../src/felix/control.ts';
import { ClusterMirror } from '../../src/felix/explain/mirror.ts';
import { explainView, type LiveAnswer } from '../../src/felix/explain/view.ts';
import { readChain } from '../../src/kernel/iptables/counters.ts';
import { type Agent, node, withAgent } from '../felix/agent.ts';
import { type Space, withSpace } from '../felix/space.ts';
import type { Figure } from '../figure.ts';
import { furnish, localPods, namespaceOf, podKey, pods } from './cluster.ts';

/** Of the project. */
const targetMs = 100;
const questions = 100;
const commands = 20;
const deadlineMs = 120_000;
const execute = promisify(execFile);
/** The command as it is built, beside this program. */
const margayctl = join(import.meta.dirname, 'margayctl.js');

/**
 * How long felix takes to explain a connection, beside 10,000 pods and policies: the first question that it is ever asked,
 * the next ones about other pods, each with the deciding line of the kernel, over its control socket; and the whole command.
 */
export async function measureExplain(runs: number): Promise<Figure[]> {
  const found = { first: [] as number[], next: [] as number[], command: [] as number[], bare: [] as number[] };
  for (let round = 0; round < runs; round++)
    await withSpace((space) =>
      withAgent(space, false, async (agent) => {
        const mirror = new ClusterMirror();
        agent.felix.onUpdate((update) => mirror.consume(update));
        await furnish(agent, space);
        await started(agent);
        const runDir = mkdtempSync(join(tmpdir(), 'margay-bench-'));
        const server = await serve(agent, mirror, space, runDir);
        try {
          for (let at = 0; at <= questions; at++)
            (at === 0 ? found.first : found.next).push(await timeQuestion(runDir, at));
          for (let at = 0; at < commands; at++) {
            found.command.push(await timeCommand(runDir, at));
            found.bare.push(await timeBare());
          }
        } finally {
          await server.close();
          rmSync(runDir, { recursive: true });
        }
      }),
    );
  const against = (name: string, ours: readonly number[]): Figure => ({
    ...{ name, unit: 'ms', ours, peer: ours.map(() => targetMs), peerName: 'target' },
  });
  return [
    against('policy-explain-first', found.first),
    against('policy-explain', found.next),
    against('policy-explain-command', found.command),
    { ...against('policy-explain-command', found.command), peer: found.bare, peerName: 'node -e 0' },
  ];
}

async function started({ felix, signal, start }: Agent): Promise<void> {
  start();
  for (let at = 0; at < localPods; at++)
    if ((await felix.whenProgrammed(keyText(podKey(at)), undefined, deadlineMs, signal)) !== 'programmed')
      throw new Error(`pod ${at} was not programmed`);
}

function serve({ felix, policy }: Agent, mirror: ClusterMirror, { path }: Space, runDir: string) {
  const launcher = ['nsenter', `--net=${path}`];
  const explaining = explainView({
    ...{ node, mirror, policy: () => policy.snapshot() },
    rulesOf: (chain, family, table) => readChain(chain, { family, backend: 'nft', table, launcher }),
  });
  return serveControl(runDir, () => felix.status(), createLog('bench', 'error'), { '/v1/explain': explaining });
}

/** From a pod elsewhere to one here, which no rule lets it reach. */
function ends(at: number): { readonly from: string; readonly to: string } {
  const from = localPods + ((at * 97) % (pods - localPods));
  const to = (at * 7) % localPods;
  return { from: `${namespaceOf(from)}/pod-${from}`, to: `${namespaceOf(to)}/pod-${to}:80` };
}

async function timeQuestion(runDir: string, at: number): Promise<number> {
  const began = performance.now();
  const { verdict, live } = (await ask(runDir, 'felix', `/v1/explain?${new URLSearchParams(ends(at))}`)) as LiveAnswer;
  const took = performance.now() - began;
  if (verdict !== 'deny' || live.destination?.line === undefined) throw new Error('another verdict than expected');
  return took;
}

/** The least that a program of Node takes. */
async function timeBare(): Promise<number> {
  const began = performance.now();
  await execute(process.execPath, ['-e', '0']);
  return performance.now() - began;
}

/** Exit code 1: denied. */
async function timeCommand(runDir: string, at: number): Promise<number> {
  const { from, to } = ends(at);
  const env = { ...process.env, MARGAY_RUN_DIR: runDir };
  const began = performance.now();
  const outcome = await execute(process.execPath, [margayctl, 'explain', from, to], { env }).catch(
    (thrown: { readonly code?: unknown; readonly stdout?: string }) => thrown,
  );
  const took = performance.now() - began;
  if (!('code' in outcome) || outcome.code !== 1 || !outcome.stdout?.includes('decided in the kernel by line'))
    throw new Error('margayctl explain answered something else than expected', { cause: outcome });
  return took;
}
