import { randomUUID } from 'node:crypto';
import { setFlagsFromString } from 'node:v8';
import { type Clock, pause } from '../base/clock.ts';
import { explain } from '../base/errors.ts';
import { createLog, type Log } from '../base/log.ts';
import { CniHandler } from '../cni/handler.ts';
import type { RawRequest } from '../cni/request.ts';
import { createMemoryStore } from '../datastore/memory.ts';
import type { Store } from '../datastore/store.ts';
import { readFelixConfig } from '../felix/config.ts';
import { Felix } from '../felix/main.ts';
import { RenderedPolicy } from '../felix/policy.ts';
import { rehearseRoutes } from '../felix/route-rehearsal.ts';
import { Ipam } from '../ipam/allocator.ts';
import { FakeKernel } from '../kernel/fake.ts';
import { FakeIpsets } from '../kernel/fake-firewall.ts';
import { planTable } from '../kernel/iptables/plan.ts';
import { tagTable } from '../kernel/iptables/rules.ts';
import { type ActualTable, emptyTable } from '../kernel/iptables/save.ts';
import type { DesiredTable, Iptables, TableName } from '../kernel/types.ts';
import { parseResource } from '../model/kinds.ts';

/*
 * A pod's start runs through all of the agent, and a node starts few pods: the code would be run cold, by the
 * interpreter, for the first hundred of them. So a second agent starts and stops pods of its own, in memory: its store,
 * its kernel and its firewall keep what they are told and do nothing. What is real is the calculation, the same code
 * that the pods of this node pass.
 */

/** Pods started and stopped: after about so many the compiler has seen what matters. */
const usualRounds = 120;
/** The rehearsal goes on when nothing was asked of the agent for so long, in milliseconds. */
const quietMs = 1000;
/** Rounds between two compactions of the store's history. */
const compactEvery = 20;

const node = 'rehearsal';
const namespace = 'rehearsal';

export interface RehearsalOptions {
  /** The agent's own: it is read from, so that the way to it is warm as well. */
  readonly store: Store;
  /** When the agent last had something to do, `clock.monotonic()`. */
  readonly lastBusy: () => number;
  readonly clock: Clock;
  readonly log: Log;
  readonly signal: AbortSignal;
  readonly rounds?: number;
}

/** Starts and stops pods that are not there, and mends routes on paper, while the agent is idle. Leaves nothing behind; a failure is logged only. */
export async function rehearse(options: RehearsalOptions): Promise<void> {
  const { clock, log, signal } = options;
  // Code that is not run for a while loses its compiled form, and a node may start no pod for days.
  setFlagsFromString('--no-flush-bytecode');
  const began = clock.monotonic();
  try {
    const done = await runRounds(options);
    await rehearseRoutes(turnsOf(options), options.rounds);
    log.debug({ rounds: done, milliseconds: clock.monotonic() - began }, 'rehearsed the start of pods');
  } catch (thrown) {
    if (!signal.aborted)
      log.warn({ error: explain(thrown) }, "the rehearsal failed; this node's first pods start slower");
  }
}

/** A turn comes when the agent is idle, and takes half a processor at most. False when the agent ends. */
function turnsOf({ lastBusy, clock, signal }: RehearsalOptions): () => Promise<boolean> {
  let began = clock.monotonic();
  return async () => {
    await pause(clock, clock.monotonic() - began, signal);
    for (let wait = quietFor(lastBusy, clock); wait > 0 && !signal.aborted; wait = quietFor(lastBusy, clock))
      await pause(clock, wait, signal);
    began = clock.monotonic();
    return !signal.aborted;
  };
}

/** Milliseconds until the agent has been idle for long enough. */
function quietFor(lastBusy: () => number, clock: Clock): number {
  return lastBusy() + quietMs - clock.monotonic();
}

async function runRounds({ store, lastBusy, clock, signal, rounds = usualRounds }: RehearsalOptions): Promise<number> {
  const stage = await buildStage(clock);
  const stop = new AbortController();
  const all = AbortSignal.any([signal, stop.signal]);
  const running = stage.felix.run(all);
  let round = 0;
  try {
    while (round < rounds && !signal.aborted) {
      const wait = quietFor(lastBusy, clock);
      if (wait > 0) {
        await pause(clock, wait, signal);
        continue;
      }
      const began = clock.monotonic();
      await startAndStop(stage, `pod-${round++}`, all);
      // Only stores that answer from nearby: an API server has better to do.
      if (store.atomic) await askInVain(store, stage);
      if (round % compactEvery === 0) stage.store.compact();
      await pause(clock, clock.monotonic() - began, signal);
    }
    return round;
  } finally {
    stop.abort();
    await running;
    stage.store.close();
  }
}

/** Of no object ever: etcd's revisions are counted from 1 on. */
const noRevision = String(2n ** 63n - 1n);

/** The way of a pod's transaction to the datastore and back. It asks for a revision that its object never has. */
async function askInVain(store: Store, stage: Stage): Promise<void> {
  await store.get({ type: 'ClusterInformation', name: 'default' });
  const { entries } = await stage.store.list('Block');
  await store.transact(entries.map(({ key, value }) => ({ op: 'update', key, value, revision: noRevision })));
}

interface Stage {
  readonly store: ReturnType<typeof createMemoryStore>;
  readonly kernel: FakeKernel;
  readonly felix: Felix;
  readonly handler: CniHandler;
}

/** The agent, assembled as in earnest around a store, a kernel and a firewall that are none. */
async function buildStage(clock: Clock): Promise<Stage> {
  const log = createLog(node, 'info', { write: () => undefined });
  const store = createMemoryStore();
  await furnish(store);
  const config = readFelixConfig({}, log);
  const kernel = new FakeKernel();
  const netlink = kernel.host;
  const felix = new Felix({
    store,
    netlink,
    iptables: { 4: new PlannedIptables(), 6: new PlannedIptables() },
    ipsets: new FakeIpsets(),
    policy: new RenderedPolicy(node, config, log),
    deleteFlows: () => Promise.resolve(),
    writeSysctl: () => undefined,
    nodename: node,
    config,
    bgp: false,
    clock,
    log,
  });
  const ipam = new Ipam({ store, node, clock, log });
  const handler = new CniHandler({
    ...{ store, ipam, netlink, felix, clock, log },
    openPod: (path) => ({ netlink: kernel.open(path), enableIpv6: () => undefined, close: () => undefined }),
    nodename: node,
    config: { mtu: 1500, interfacePrefix: config.interfacePrefix, families: [4] },
  });
  felix.onUpdate((update) => {
    ipam.consume(update);
    handler.consume(update);
  });
  return { store, kernel, felix, handler };
}

/** A pool, this node, and the namespace's profile. Addresses are of RFC 5737. */
async function furnish(store: Store): Promise<void> {
  const apiVersion = 'projectcalico.org/v3';
  const allow = [{ action: 'Allow' }];
  const pool = { cidr: '192.0.2.0/24', natOutgoing: true };
  const profile = `kns.${namespace}`;
  await store.create(
    { type: 'IPPool', name: node },
    parseResource('IPPool', { kind: 'IPPool', apiVersion, metadata: { name: node }, spec: pool }),
  );
  await store.create(
    { type: 'Node', name: node },
    parseResource('Node', {
      ...{ kind: 'Node', apiVersion, metadata: { name: node } },
      spec: { bgp: { ipv4Address: '198.51.100.1/24' } },
    }),
  );
  await store.create(
    { type: 'Profile', name: profile },
    parseResource('Profile', {
      ...{ kind: 'Profile', apiVersion, metadata: { name: profile } },
      spec: { ingress: allow, egress: allow },
    }),
  );
}

/** @throws Error when one of the verbs fails */
async function startAndStop({ kernel, handler }: Stage, pod: string, signal: AbortSignal): Promise<void> {
  const netns = `/run/netns/${pod}`;
  const env = {
    CNI_CONTAINERID: randomUUID(),
    CNI_NETNS: netns,
    CNI_IFNAME: 'eth0',
    CNI_ARGS: `IgnoreUnknown=1;K8S_POD_NAMESPACE=${namespace};K8S_POD_NAME=${pod}`,
    CNI_PATH: '/opt/cni/bin',
  };
  kernel.addNamespace(netns);
  for (const verb of ['ADD', 'DEL']) {
    const request: RawRequest = { env: { ...env, CNI_COMMAND: verb }, stdin: configuration };
    const { exitCode, stdout } = await handler.handle(request, signal);
    if (exitCode !== 0) throw new Error(`${verb}: ${stdout}`);
  }
  kernel.namespaces.delete(netns);
}

const configuration = JSON.stringify({
  ...{ cniVersion: '1.1.0', name: node, type: 'margay' },
  ipam: { type: 'margay-ipam' },
});

/** Works out what to tell the kernel, as the driver does, and tells nobody. */
class PlannedIptables implements Iptables {
  readonly #actual = new Map<TableName, ActualTable>();

  async apply(desired: ReadonlyMap<TableName, DesiredTable>): Promise<{ changedChains: number }> {
    let changedChains = 0;
    for (const [name, table] of desired) {
      const plan = planTable(tagTable(name, table), this.#actual.get(name) ?? emptyTable, 'rewrite');
      this.#actual.set(name, plan.after);
      changedChains += plan.changedChains;
    }
    return { changedChains };
  }

  invalidate(): void {
    this.#actual.clear();
  }
}
