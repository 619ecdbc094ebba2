import fc from 'fast-check';
import { expect, test } from 'vitest';
import { createLog } from '../../../src/base/log.ts';
import { auditNow, collect, type Seen } from '../../../src/controllers/collection.ts';
import { Performer } from '../../../src/controllers/perform.ts';
import type { KeyOf, Store } from '../../../src/datastore/store.ts';
import type { Ipam } from '../../../src/ipam/allocator.ts';
import { standing } from '../../../src/ipam/audit.ts';
import { indexOf, readLists } from '../../../src/ipam/audit-index.ts';
import type { Ip } from '../../../src/model/address.ts';
import { endpointValue, ipamOf, nodeValue, storeWithPools, TestClock } from '../../support/ipam.ts';

/*
 * Pods and nodes that come, go and get lost, between the looks and writes of a collection: no address that an endpoint
 * has is ever freed, and in the end nothing that is lost is left.
 */

const log = createLog('test', 'silent');
const { signal } = new AbortController();
const nodes = ['n0', 'n1'];
const graceSeconds = 300;

type Step = readonly [op: 'begin' | 'finish' | 'remove' | 'lose' | 'toggle' | 'wait', at: number];

class Model {
  readonly ipams: readonly Ipam[];
  readonly begun = new Map<string, { readonly address: Ip; readonly node: string }>();
  readonly live = new Map<string, { readonly address: Ip; readonly node: string }>();
  #pods = 0;

  constructor(
    readonly store: Store,
    readonly clock: TestClock,
  ) {
    this.ipams = nodes.map((node) => ipamOf(store, node, clock));
  }

  async step([op, at]: Step): Promise<void> {
    const [pod] = [...(op === 'finish' ? this.begun : this.live).keys()].slice(at % 3);
    switch (op) {
      case 'begin':
        return this.begin(at % nodes.length);
      case 'finish':
        return pod === undefined ? undefined : this.finish(pod);
      case 'remove':
      case 'lose':
        if (pod === undefined) return;
        await this.store.delete(keyOf(pod));
        if (op === 'remove') await this.ipams[0]?.release({ handle: `net.c-${pod}` });
        this.live.delete(pod);
        return;
      case 'toggle':
        return this.toggle(nodes[at % nodes.length] ?? 'n0');
      case 'wait':
        // No ADD takes this long.
        for (const each of [...this.begun.keys()]) await this.finish(each);
        this.clock.advance(100);
        return;
    }
  }

  async begin(at: number): Promise<void> {
    const node = nodes[at] ?? 'n0';
    const pod = `p${this.#pods++}`;
    const request = { handle: `net.c-${pod}`, families: [4] as const, attributes: { namespace: 'shop', pod } };
    const [given] = (await this.ipams[at]?.assign(request, signal)) ?? [];
    if (given) this.begun.set(pod, { address: given.address, node });
  }

  async finish(pod: string): Promise<void> {
    const { address, node } = this.begun.get(pod) ?? { node: '' };
    if (address === undefined) return;
    await this.store.create(keyOf(pod), endpointValue(pod, node, [address]));
    this.begun.delete(pod);
    this.live.set(pod, { address, node });
  }

  async toggle(name: string): Promise<void> {
    const key = { type: 'Node', name } as const;
    if ((await this.store.create(key, nodeValue(name))).outcome === 'conflict') await this.store.delete(key);
  }

  async check(): Promise<void> {
    const held = new Map(indexOf(await readLists(this.store)).held.map(({ address, handle }) => [address, handle]));
    for (const [pod, { address }] of [...this.live, ...this.begun])
      expect(held.get(address), `${pod} has ${address}`).toBe(`net.c-${pod}`);
  }
}

function keyOf(pod: string): KeyOf<'WorkloadEndpoint'> {
  return { type: 'WorkloadEndpoint', namespace: 'shop', name: `w-${pod}` };
}

/** One collection, with something happening before each of its steps. */
async function pass(model: Model, seen: Seen, between: readonly Step[]): Promise<Seen> {
  const { store, clock } = model;
  const rest = [...between];
  const disturb = async () => {
    const next = rest.shift();
    if (next && next[0] !== 'wait') await model.step(next);
  };
  const first = auditNow(await readLists(store), clock.wall());
  await disturb();
  const lists = await readLists(store);
  const { findings } = standing(first, auditNow(lists, clock.wall()));
  const found = collect(findings, lists, seen, { nowSeconds: clock.wall().getTime() / 1000, graceSeconds });
  const performer = new Performer({ store, cluster: store, clock, log });
  for (const action of found.actions) {
    await disturb();
    await performer.perform(action);
  }
  await model.check();
  return found.seen;
}

const step = fc.tuple(
  fc.constantFrom('begin', 'begin', 'finish', 'remove', 'lose', 'toggle', 'wait'),
  fc.nat(5),
) as fc.Arbitrary<Step>;

const round = fc.record({ steps: fc.array(step, { maxLength: 6 }), between: fc.array(step, { maxLength: 4 }) });

test('no address in use is freed, whatever comes between, and nothing lost is left', async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(round, { maxLength: 8 }), async (rounds) => {
      const store = await storeWithPools({ p: { cidr: '10.65.0.0/26', blockSize: 29 } });
      const model = new Model(store, new TestClock());
      for (const node of nodes) await model.toggle(node);
      let seen: Seen = new Map();
      for (const { steps, between } of rounds) {
        for (const each of steps) await model.step(each);
        seen = await pass(model, seen, between);
      }
      await model.step(['wait', 0]);
      for (let at = 0; at < 3; at++) {
        seen = await pass(model, seen, []);
        model.clock.advance(graceSeconds);
      }
      const { findings } = auditNow(await readLists(store), model.clock.wall());
      const lost = ['leak', 'orphanedHandle', 'orphanedAffinity'];
      expect(findings.filter(({ problem }) => lost.includes(problem))).toEqual([]);
    }),
    { numRuns: 30 },
  );
});
