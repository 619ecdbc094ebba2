import type { Clock } from '../../src/base/clock.ts';
import { createLog } from '../../src/base/log.ts';
import { createMemoryStore, type MemoryStore } from '../../src/datastore/memory.ts';
import type { Store, Value } from '../../src/datastore/store.ts';
import { Ipam } from '../../src/ipam/allocator.ts';
import { hostCidr, type Ip } from '../../src/model/address.ts';

/** A clock that stands still until told, and whose pauses are over at once. */
export class TestClock implements Clock {
  #now = Date.parse('2026-03-02T10:11:12.345Z');
  #ticks = 0;

  monotonic(): number {
    this.#ticks += 1000;
    return this.#ticks;
  }

  wall(): Date {
    return new Date(this.#now);
  }

  after(_milliseconds: number, action: () => void): () => void {
    let wanted = true;
    queueMicrotask(() => wanted && action());
    return () => {
      wanted = false;
    };
  }

  advance(seconds: number): void {
    this.#now += seconds * 1000;
  }
}

export function poolValue(name: string, cidr: string, more: object = {}): Value<'IPPool'> {
  const spec = { cidr, ...more };
  return { kind: 'IPPool', apiVersion: 'projectcalico.org/v3', metadata: { name }, spec } as Value<'IPPool'>;
}

/** A memory store with pools, by name: prefix or spec. */
export async function storeWithPools(
  pools: Record<string, { readonly cidr: string; readonly [field: string]: unknown }>,
): Promise<MemoryStore> {
  const store = createMemoryStore();
  for (const [name, { cidr, ...more }] of Object.entries(pools))
    await store.create({ type: 'IPPool', name }, poolValue(name, cidr, more));
  return store;
}

export function ipamOf(store: Store, node: string, clock: Clock = new TestClock(), attempts = 100): Ipam {
  return new Ipam({ store, node, clock, log: createLog('test', 'silent'), attempts });
}

/** The same store with some of its calls replaced. */
export function intercepted(store: Store, calls: Partial<Store>): Store {
  return {
    atomic: store.atomic,
    get: store.get.bind(store),
    list: store.list.bind(store),
    create: store.create.bind(store),
    update: store.update.bind(store),
    delete: store.delete.bind(store),
    transact: store.transact.bind(store),
    watch: store.watch.bind(store),
    close: store.close.bind(store),
    ...calls,
  };
}

export function nodeValue(name: string, spec: object = {}): Value<'Node'> {
  return { kind: 'Node', apiVersion: 'projectcalico.org/v3', metadata: { name }, spec } as Value<'Node'>;
}

/** The endpoint `w-<pod>` of pod `shop/<pod>`, whose container is `c-<pod>`. */
export function endpointValue(pod: string, node: string, addresses: readonly Ip[]): Value<'WorkloadEndpoint'> {
  const spec = {
    ...{ orchestrator: 'k8s', node, endpoint: 'eth0', pod, containerID: `c-${pod}`, interfaceName: `cali${pod}` },
    ...{ ipNetworks: addresses.map(hostCidr), profiles: [] },
  };
  const metadata = { name: `w-${pod}`, namespace: 'shop' };
  return { kind: 'WorkloadEndpoint', apiVersion: 'projectcalico.org/v3', metadata, spec };
}
