import { setImmediate, setTimeout as wait } from 'node:timers/promises';
import { etcdKey } from '../../src/datastore/layout.ts';
import type { MemoryStore } from '../../src/datastore/memory.ts';
import { keyText } from '../../src/datastore/store.ts';
import type { DesiredSet, Ipsets } from '../../src/kernel/types.ts';
import { parseResource } from '../../src/model/kinds.ts';
import { apiVersion } from '../../src/model/resource.ts';
import { type Agent, withAgent } from '../felix/agent.ts';
import { type Space, withSpace } from '../felix/space.ts';
import { type Figure, quantile } from '../figure.ts';
import { addressOf, furnish, localPods, podKey, pods } from './cluster.ts';

/** Of the project. */
const target = { startSeconds: 5, memoryMiB: 400, labelMs: 20, labelLateMs: 100, policyMs: 250 };
const deadlineMs = 120_000;
/** Label changes a second, and for how many seconds. */
const load = { perSecond: 1000, seconds: 5 };

function against(name: string, unit: string, ours: readonly number[], peer: number): Figure {
  return { name, unit, ours, peer: ours.map(() => peer), peerName: 'target' };
}

/**
 * Felix beside 10,000 pods, 200 of them here, in 1,000 namespaces with 10,000 policies: how long and how much memory it
 * takes to read and calculate everything and put it into the kernel, how soon a label is in the IP sets while a thousand
 * change every second, and how soon a policy for all local pods stands. The memory is of the whole program, the store
 * that stands in for etcd too.
 */
export async function measureScale(runs: number): Promise<Figure[]> {
  const found = { start: [] as number[], memory: [] as number[], labels: [] as number[], policy: [] as number[] };
  for (let round = 0; round < runs; round++) {
    const waiting = new Waiting();
    await withSpace((space) =>
      withAgent(
        space,
        false,
        async (agent) => {
          found.start.push(await timeStart(agent, space));
          // Of a fresh process only: what a round leaves to the collector counts in the next.
          if (round === 0) found.memory.push(process.memoryUsage().rss / 2 ** 20);
          for (let time = 0; time < 5; time++) found.policy.push(await timePolicy(agent));
          found.labels.push(...(await timeLabels(agent, waiting)));
        },
        (ipsets) => waiting.watch(ipsets),
      ),
    );
  }
  return [
    against('policy-start', 's', found.start, target.startSeconds),
    against('policy-memory', 'MiB', found.memory, target.memoryMiB),
    against('policy-new', 'ms', found.policy, target.policyMs),
    against('policy-label', 'ms', found.labels, target.labelMs),
    against('policy-label-p99', 'ms', [quantile(found.labels, 0.99)], target.labelLateMs),
  ];
}

/** Seconds until every local pod is programmed. */
async function timeStart(agent: Agent, space: Space): Promise<number> {
  await furnish(agent, space);
  const { felix, signal } = agent;
  const began = performance.now();
  agent.start();
  for (let at = 0; at < localPods; at++) {
    const outcome = await felix.whenProgrammed(keyText(podKey(at)), undefined, deadlineMs, signal);
    if (outcome !== 'programmed') throw new Error(`pod ${at} was not programmed`);
  }
  return (performance.now() - began) / 1000;
}

/** Milliseconds from the write of a policy for every local pod to its rules in the kernel. */
async function timePolicy({ felix, store, put, signal }: Agent): Promise<number> {
  const key = { type: 'GlobalNetworkPolicy', name: 'default.bench' } as const;
  const spec = { selector: "here == 'yes'", types: ['Egress'], egress: [{ action: 'Allow', protocol: 'UDP' }] };
  const kind = 'GlobalNetworkPolicy';
  const pass = () => new Promise<void>((resolve) => felix.onPass(() => resolve()));
  const rules = () => felix.counts().tables.reduce((sum, one) => sum + one.rules, 0);
  const before = rules();
  const began = performance.now();
  await put(key, parseResource(kind, { kind, apiVersion, metadata: { name: 'default.bench' }, spec }));
  while (rules() === before) {
    signal.throwIfAborted();
    await pass();
  }
  const took = performance.now() - began;
  await store.delete(key);
  while (rules() !== before) {
    signal.throwIfAborted();
    await pass();
  }
  return took;
}

/** Milliseconds from each change of a remote pod's label to its address in the kernel's IP set, or out of it. */
async function timeLabels({ store }: Agent, waiting: Waiting): Promise<number[]> {
  const changes = labelChanges(store);
  const began = performance.now();
  for (const [at, { pod, key, text, joins }] of changes.entries()) {
    const due = began + (at * 1000) / load.perSecond;
    const early = due - performance.now();
    if (early > 0) await wait(early);
    else if (at % 20 === 0) await setImmediate();
    waiting.expect(addressOf(pod), joins);
    store.plant(key, text);
  }
  await waiting.done();
  return waiting.taken;
}

interface LabelChange {
  readonly pod: number;
  readonly key: string;
  readonly text: string;
  readonly joins: boolean;
}

/** As texts, so that making them takes no time of felix's: remote pods become monitors, and others after them. */
function labelChanges(store: MemoryStore): LabelChange[] {
  const stored = store.dump();
  const monitors = new Set<number>();
  return Array.from({ length: load.perSecond * load.seconds }, (_, at) => {
    const pod = localPods + ((at * 7) % (pods - localPods - 1));
    const joins = !monitors.has(pod);
    if (joins) monitors.add(pod);
    else monitors.delete(pod);
    const key = etcdKey(podKey(pod));
    const { metadata, ...rest } = JSON.parse(stored.get(key) ?? '{}');
    const labels = { ...metadata.labels, ...(joins && { role: 'monitor' }) };
    return { pod, key, joins, text: JSON.stringify({ ...rest, metadata: { ...metadata, labels } }) };
  });
}

/** What is to be seen in the set of monitors, which is the one that has the first monitor's address. */
class Waiting {
  readonly taken: number[] = [];
  readonly #expected = new Map<string, { readonly present: boolean; readonly since: number }>();
  #finished: (() => void) | undefined;

  watch(ipsets: Ipsets): Ipsets {
    return {
      applyUpdates: async (desired) => {
        const members = monitorsIn(desired);
        const seen = [...this.#expected].filter(([member, { present }]) => members?.has(member) === present);
        await ipsets.applyUpdates(desired);
        const now = performance.now();
        for (const [member, one] of seen) {
          if (this.#expected.get(member) !== one) continue;
          this.taken.push(now - one.since);
          this.#expected.delete(member);
        }
        if (this.#expected.size === 0) this.#finished?.();
      },
      applyDeletions: (desired) => ipsets.applyDeletions(desired),
      invalidate: () => ipsets.invalidate(),
    };
  }

  expect(address: string, present: boolean): void {
    this.#expected.set(`${address}/32`, { present, since: performance.now() });
  }

  done(): Promise<void> {
    if (this.#expected.size === 0) return Promise.resolve();
    return new Promise((resolve) => {
      this.#finished = resolve;
    });
  }
}

function monitorsIn(desired: ReadonlyMap<string, DesiredSet>): ReadonlySet<string> | undefined {
  const first = `${addressOf(pods - 1)}/32`;
  for (const { members, type } of desired.values()) if (type === 'hash:net' && members.has(first)) return members;
  return undefined;
}
