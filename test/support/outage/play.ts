import { existsSync, readdirSync } from 'node:fs';
import { expect } from 'vitest';
import { pause, systemClock } from '../../../src/base/clock.ts';
import {
  addNetwork,
  type CniCall,
  CniPluginError,
  type CniResult,
  delNetwork,
  networkStatus,
} from '../../../src/cni/client.ts';
import { Datagrams } from '../../dataplane/felix/datagrams.ts';
import { until } from '../wait.ts';
import { kernelLines, unread } from './kernel.ts';

/*
 * The datastore goes away under traffic and comes back: what has to stay as it is, what has to fail and how, and what
 * has to follow once it is back. The same play for every datastore and any length.
 */

export interface StageNode {
  readonly name: string;
  /** Path of its network namespace. */
  readonly netns: string;
  /** Where its DELs wait. */
  readonly queueDir: string;
}

/** A cluster on a datastore that can be taken away. */
export interface Stage {
  readonly nodes: readonly StageNode[];
  /** Namespaces and address of pods that speak with each other at 1,000 datagrams a second. */
  readonly streams: readonly { readonly from: string; readonly to: string; readonly address: string }[];
  /** What a runtime says of a new pod on a node, its namespace made. */
  newPod(node: StageNode): Promise<CniCall>;
  /** Takes the datastore away. */
  takeAway(): Promise<void>;
  /** Lets the policies change where no agent sees it, then gives the datastore back. Resolves at that moment. */
  giveBack(): Promise<void>;
  /** Whether new connections obey the policies from before (`before`) or those of the time away (`after`). */
  obey(which: 'before' | 'after'): Promise<boolean>;
  /** Processor seconds of felix on all nodes. */
  felixSeconds(): number;
  /** Rejects when a node's status or the addresses have findings. */
  sound(): Promise<void>;
}

export interface Figures {
  readonly seconds: number;
  readonly sent: number;
  readonly unread: number;
  /** Milliseconds of each. */
  readonly adds: readonly number[];
  readonly dels: readonly number[];
  readonly statuses: readonly number[];
  /** Milliseconds after the return. */
  readonly recovered: { readonly add: number; readonly dels: number; readonly policy: number };
  /** Processor time of felix while the datastore was away, per node, as a share of one processor. */
  readonly felixShare: number;
}

/** What the project promises. */
const promised = { addMs: 10_000, recoveredMs: 5000 } as const;

/** @param moments how often, spread over the time away, the plugin is asked and the kernel compared */
export async function playOutage(stage: Stage, seconds: number, moments: number): Promise<Figures> {
  const { nodes } = stage;
  const late = new Map<StageNode, CniCall>();
  for (const node of nodes) late.set(node, await stage.newPod(node));
  const victims = await Promise.all(nodes.map((node) => standing(stage, node, moments)));
  await until(() => stage.obey('before'), { within: 20_000, what: 'the policies from before' });
  const before = await Promise.all(nodes.map(({ netns }) => kernelLines(netns)));
  const streams = await startStreams(stage);
  const times = { adds: [] as number[], dels: [] as number[], statuses: [] as number[] };
  try {
    const felix = stage.felixSeconds();
    await stage.takeAway();
    const began = performance.now();
    for (let moment = 0; moment < moments; moment++) {
      const at = began + (seconds * 1000 * moment) / Math.max(1, moments - 1);
      await pause(systemClock, Math.max(0, at - performance.now()));
      for (const [index, node] of nodes.entries()) {
        times.adds.push(await refused(addNetwork, late.get(node), 11));
        const victim = victims[index]?.[moment];
        for (const _twice of [1, 2]) times.dels.push(await timed(() => delNetwork(called(victim))));
        times.statuses.push(await refused(networkStatus, late.get(node), 50));
        const same = () => sameKernel(node, before[index] ?? []);
        await until(same, { within: 10_000, what: `${node.name}'s kernel as it was` });
      }
    }
    const awaySeconds = (performance.now() - began) / 1000;
    const felixShare = (stage.felixSeconds() - felix) / awaySeconds / nodes.length;
    for (const { queueDir } of nodes) expect(waiting(queueDir)).toHaveLength(2 * moments);
    expect(await stage.obey('before')).toBe(true);
    await stage.giveBack();
    const recovered = await recovery(stage, [...late.values()], victims.flat());
    const { sent, lost } = await endStreams(streams);
    await stage.sound();
    return { seconds: awaySeconds, sent, unread: lost, ...times, recovered, felixShare };
  } finally {
    for (const { traffic } of streams) traffic.kill();
  }
}

/** @throws Error that names what is there and was not, and the other way round */
async function sameKernel({ netns }: StageNode, before: readonly string[]): Promise<true> {
  const now = await kernelLines(netns);
  const beyond = now.filter((line) => !before.includes(line));
  const missing = before.filter((line) => !now.includes(line));
  if (beyond.length === 0 && missing.length === 0) expect(now).toEqual(before);
  else throw new Error(`there are\n${beyond.join('\n')}\nand there are no\n${missing.join('\n')}`);
  return true;
}

/** Pods of a node that have their place when the datastore goes. */
async function standing(stage: Stage, node: StageNode, count: number): Promise<CniCall[]> {
  const calls: CniCall[] = [];
  for (let index = 0; index < count; index++) {
    const call = await stage.newPod(node);
    await addNetwork(call);
    calls.push(call);
  }
  return calls;
}

/** Everything that has to follow the return, each by its own clock. */
async function recovery(
  stage: Stage,
  late: readonly CniCall[],
  gone: readonly CniCall[],
): Promise<Figures['recovered']> {
  const back = performance.now();
  const since = async (condition: () => boolean | Promise<boolean>, what: string) => {
    await until(condition, { within: promised.recoveredMs, what });
    return performance.now() - back;
  };
  const queues = stage.nodes.map(({ queueDir }) => queueDir);
  const [adds, dels, policy] = await Promise.all([
    Promise.all(late.map((call) => since(async () => addressOf(await addNetwork(call)) !== '', 'an ADD'))),
    since(() => queues.every((queue) => waiting(queue).length === 0), 'the DELs'),
    since(() => stage.obey('after'), 'the policies'),
  ]);
  for (const call of gone) await delNetwork(call);
  return { add: Math.max(...adds), dels, policy };
}

interface Running {
  readonly to: string;
  readonly unreadBefore: number;
  readonly traffic: Datagrams;
}

function startStreams({ streams }: Stage): Promise<Running[]> {
  return Promise.all(
    streams.map(async ({ from, to, address }) => {
      const traffic = await Datagrams.start({ path: from }, { path: to }, address);
      await until(async () => (await traffic.received()) > 0, { within: 10_000, what: 'the first datagram' });
      return { to, unreadBefore: await unread(to), traffic };
    }),
  );
}

/** Every datagram that was sent has come. */
async function endStreams(streams: readonly Running[]): Promise<{ sent: number; lost: number }> {
  const ends = await Promise.all(
    streams.map(async ({ to, unreadBefore, traffic }) => {
      const sent = await traffic.end();
      const missed = async () => (await unread(to)) - unreadBefore;
      const arrived = async () => (await traffic.received()) + (await missed());
      const all = async () => {
        const count = await arrived();
        if (count !== sent) throw new Error(`${count} came to ${to}`);
        return true;
      };
      await until(all, { within: 10_000, what: `all of ${sent} datagrams` });
      return { sent, lost: await missed() };
    }),
  );
  return ends.reduce((sum, each) => ({ sent: sum.sent + each.sent, lost: sum.lost + each.lost }));
}

/** Milliseconds until the plugin refuses with this code. */
async function refused(
  verb: (call: CniCall) => Promise<unknown>,
  call: CniCall | undefined,
  code: number,
): Promise<number> {
  const began = performance.now();
  const thrown = await verb(called(call)).then(
    () => undefined,
    (error: unknown) => error,
  );
  const took = performance.now() - began;
  expect(thrown, String(thrown)).toBeInstanceOf(CniPluginError);
  expect(thrown).toMatchObject({ code });
  expect(took).toBeLessThan(promised.addMs);
  return took;
}

async function timed(action: () => Promise<unknown>): Promise<number> {
  const began = performance.now();
  await action();
  return performance.now() - began;
}

function called(call: CniCall | undefined): CniCall {
  if (call === undefined) throw new Error('no such pod on the stage');
  return call;
}

export function addressOf(result: CniResult): string {
  return result.ips?.[0]?.address.replace(/\/\d+$/, '') ?? '';
}

function waiting(queueDir: string): string[] {
  return existsSync(queueDir) ? readdirSync(queueDir).filter((file) => file.startsWith('del-')) : [];
}

/** One line for each figure. */
export function figuresText(
  title: string,
  { seconds, sent, unread: lost, adds, dels, statuses, recovered, felixShare }: Figures,
): string {
  const spread = (values: readonly number[]) => {
    const sorted = values.toSorted((a, b) => a - b);
    const at = (share: number) => Math.round(sorted[Math.floor((sorted.length - 1) * share)] ?? Number.NaN);
    return `${sorted.length} times, median ${at(0.5)} ms, longest ${at(1)} ms`;
  };
  const { add, dels: done, policy } = recovered;
  return [
    `${title}: away for ${Math.round(seconds)} s`,
    `  datagrams: ${sent} sent, all forwarded (${lost} of them not read in time)`,
    `  ADD, code 11: ${spread(adds)}`,
    `  DEL, success: ${spread(dels)}`,
    `  STATUS, code 50: ${spread(statuses)}`,
    `  felix: ${(felixShare * 100).toFixed(1)} % of a processor on each node`,
    `  after the return: ADD ${Math.round(add)} ms, queued DELs ${Math.round(done)} ms, policies ${Math.round(policy)} ms`,
    '',
  ].join('\n');
}
