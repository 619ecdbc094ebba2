import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setImmediate } from 'node:timers/promises';
import pino from 'pino';
import { expect, test } from 'vitest';
import { DeferringHandler } from '../../../src/cni/deferring.ts';
import { CniHandler } from '../../../src/cni/handler.ts';
import { RemovalQueue } from '../../../src/cni/removals.ts';
import type { MemoryStore } from '../../../src/datastore/memory.ts';
import { type Store, StoreUnavailableError } from '../../../src/datastore/store.ts';
import { Ipam } from '../../../src/ipam/allocator.ts';
import { audit } from '../../../src/ipam/audit.ts';
import { readLists } from '../../../src/ipam/audit-index.ts';
import { FakeKernel } from '../../../src/kernel/fake.ts';
import { intercepted, ipamOf, nodeValue, storeWithPools, TestClock } from '../../support/ipam.ts';
import { seeded } from '../../support/seeded.ts';
import { FakeFelix, fakePods, request, run } from '../../unit/cni/fakes.ts';

/*
 * Many workers add and delete pods on a few nodes while writes fail: the answer is lost before or after the write took
 * effect, or the agent dies with all that it had in hand. `npm run test:cni-faults` runs 50 workers 200 times each.
 */

const [workers = 15, rounds = 12] = (process.env['MARGAY_CNI_FAULTS'] ?? '').split('x').filter(Boolean).map(Number);
const log = pino({ level: 'silent' });
const never = new AbortController().signal;

/** Who holds which address, as far as the runtime was told. */
class Ledger {
  readonly #holders = new Map<string, string>();

  given(container: string, answer: Record<string, unknown>): void {
    for (const { address } of answer['ips'] as { address: string }[]) {
      expect(this.#holders.get(address), `${address} is given twice`).toBeUndefined();
      this.#holders.set(address, container);
    }
  }

  /** Before its DEL, which may take effect at any moment. */
  leaving(container: string): void {
    for (const [address, holder] of this.#holders) if (holder === container) this.#holders.delete(address);
  }

  get containers(): string[] {
    return [...new Set(this.#holders.values())].toSorted();
  }
}

/** An agent that dies and comes back on a store that fails at writes. */
class Node {
  readonly kernel = new FakeKernel();
  readonly queue: RemovalQueue;
  readonly #clock = new TestClock();
  handler: DeferringHandler;
  deaths = 0;

  constructor(
    readonly name: string,
    private readonly store: MemoryStore,
    private readonly random: () => number,
    folder: string,
  ) {
    this.queue = new RemovalQueue(join(folder, name), log);
    this.handler = this.start(true);
  }

  start(faulty: boolean): DeferringHandler {
    const store = faulty ? this.#faulty() : this.store;
    const verbs = new CniHandler({
      ...{ store, nodename: this.name, netlink: this.kernel.host, openPod: fakePods(this.kernel), log },
      ...{ ipam: new Ipam({ store, node: this.name, clock: this.#clock, log }), felix: new FakeFelix() },
      config: { mtu: 1450, interfacePrefix: 'cali', families: [4, 6] },
      clock: this.#clock,
    });
    return new DeferringHandler({ verbs, queue: this.queue, clock: this.#clock, log });
  }

  /** As the launcher: when the agent dies meanwhile, ADD is for the runtime to repeat and DEL is queued. */
  async verb(verb: string, container: string, conf: object = {}) {
    const died = this.deaths;
    const call = {
      container,
      pod: `p-${container.split('.')[0]}`,
      netns: `/run/netns/${container}`,
      conf: { cniVersion: '1.1.0', ...conf },
    };
    const result = await run({ handler: this.handler }, verb, call);
    if (this.deaths === died) return result;
    if (verb === 'DEL') await this.queue.add(request(verb, call));
    return verb === 'DEL' ? { exitCode: 0, answer: {} } : { exitCode: 1, answer: { code: 11 } };
  }

  #faulty(): Store {
    const { store } = this;
    let dead = false;
    const alive = async () => {
      await setImmediate();
      if (dead) throw new StoreUnavailableError('the agent died');
    };
    const read =
      <A extends unknown[], R>(call: (...given: A) => Promise<R>) =>
      async (...given: A): Promise<R> => {
        await alive();
        return call.apply(store, given);
      };
    const write =
      <A extends unknown[], R>(call: (...given: A) => Promise<R>) =>
      async (...given: A): Promise<R> => {
        await alive();
        const chance = this.random();
        if (chance < 0.03) throw new StoreUnavailableError('the write was lost');
        const result = await call.apply(store, given);
        if (chance < 0.06) throw new StoreUnavailableError('the answer was lost');
        if (chance < 0.065) {
          dead = true;
          this.deaths++;
          this.handler = this.start(true);
        }
        await alive();
        return result;
      };
    return intercepted(store, {
      get: read(store.get) as Store['get'],
      list: read(store.list) as Store['list'],
      create: write(store.create) as Store['create'],
      update: write(store.update) as Store['update'],
      delete: write(store.delete) as Store['delete'],
      transact: write(store.transact),
    });
  }
}

/** One worker's pod, again and again, each time in a new container; now and then one is left running. */
async function work(worker: number, node: Node, ledger: Ledger, random: () => number): Promise<void> {
  for (let round = 0; round < rounds; round++) {
    const container = `w${worker}.${round}`;
    node.kernel.addNamespace(`/run/netns/${container}`);
    let added = false;
    for (let attempt = 0; attempt < 2 && !added; attempt++) {
      const { exitCode, answer } = await node.verb('ADD', container);
      added = exitCode === 0;
      if (added) ledger.given(container, answer);
    }
    if (added && round === rounds - 1 && random() < 0.5) return;
    ledger.leaving(container);
    while ((await node.verb('DEL', container)).exitCode !== 0) await setImmediate();
    node.kernel.namespaces.delete(`/run/netns/${container}`);
    if (random() < 0.05) await node.handler.drain(never);
  }
}

test(`${workers} workers add and delete ${rounds} times: no address twice, no leak once the agents ran again`, async () => {
  const folder = mkdtempSync(join(tmpdir(), 'margay-cni-faults-'));
  try {
    const random = seeded(3);
    const size = Math.ceil(Math.log2(workers)) + 1;
    const store = await storeWithPools({
      four: { cidr: `10.64.0.0/${32 - size}`, blockSize: 30 },
      six: { cidr: `fd00::/${128 - size}`, blockSize: 126 },
    });
    const nodes = ['n1', 'n2', 'n3'].map((name) => new Node(name, store, random, folder));
    for (const { name } of nodes) await store.create({ type: 'Node', name }, nodeValue(name));
    const ledger = new Ledger();
    const nodeOf = (worker: number) => nodes[worker % nodes.length] ?? expect.fail();
    await Promise.all(Array.from({ length: workers }, (_, worker) => work(worker, nodeOf(worker), ledger, random)));
    expect(
      nodes.reduce((sum, { deaths }) => sum + deaths, 0),
      'agents died meanwhile',
    ).toBeGreaterThan(0);

    const running = ledger.containers;
    const valid = running.map((containerID) => ({ containerID, ifname: 'eth0' }));
    for (const node of nodes) {
      node.handler = node.start(false);
      expect(await node.handler.drain(never)).toBe(true);
      const collected = await node.verb('GC', 'w0.0', { 'cni.dev/valid-attachments': valid });
      expect(collected).toMatchObject({ exitCode: 0 });
      for (const family of [4, 6] as const) await ipamOf(store, node.name).ensureAffinity(family, never);
    }
    const lists = await readLists(store);
    expect(lists.handles.entries.map(({ key }) => key.id).toSorted()).toEqual(
      running.map((container) => `k8s-pod-network.${container}`),
    );
    expect(audit(lists, { now: new Date(), graceSeconds: 0 }).findings).toEqual([]);
    for (const { name, kernel } of nodes)
      expect(kernel.host.links().length - 1, `devices of ${name}`).toBe(
        lists.endpoints.entries.filter(({ value }) => value.spec.node === name).length,
      );
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}, 3_600_000);
