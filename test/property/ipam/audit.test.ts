import fc from 'fast-check';
import { expect, test } from 'vitest';
import type { MemoryStore } from '../../../src/datastore/memory.ts';
import type { Entry } from '../../../src/datastore/store.ts';
import type { Ipam } from '../../../src/ipam/allocator.ts';
import { audit } from '../../../src/ipam/audit.ts';
import { readLists } from '../../../src/ipam/audit-index.ts';
import { PoolExhaustedError } from '../../../src/ipam/errors.ts';
import { cidrParts, type Ip, parseCidr } from '../../../src/model/address.ts';
import { endpointValue, ipamOf, nodeValue, storeWithPools, TestClock } from '../../support/ipam.ts';

/*
 * Any history of nodes that assign and release audits clean, and any one damage to what it left is found, exactly and
 * alone.
 */

const names = ['n1', 'n2', 'n3'];
const { signal } = new AbortController();

interface Step {
  readonly node: number;
  readonly pod: number;
  readonly release: boolean;
  readonly families: readonly (4 | 6)[];
}

const step: fc.Arbitrary<Step> = fc.record({
  node: fc.integer({ min: 0, max: 2 }),
  pod: fc.integer({ min: 0, max: 9 }),
  release: fc.boolean(),
  families: fc.constantFrom([4] as const, [6] as const, [4, 6] as const),
});

/** Pods come and go, each with its endpoint in the transaction of its addresses. */
async function live(store: MemoryStore, nodes: readonly Ipam[], steps: readonly Step[]): Promise<void> {
  for (const { node, pod, release, families } of steps) {
    const name = `p${pod}`;
    const key = { type: 'WorkloadEndpoint', namespace: 'shop', name: `w-${name}` } as const;
    const found = await store.get(key);
    const ipam = nodes[node];
    if (ipam === undefined) continue;
    if (release) {
      const gone = found ? [{ op: 'delete' as const, key, revision: found.revision }] : [];
      await ipam.release({ handle: `net.c-${name}` }, gone);
    } else if (!found) await add(ipam, name, node, families);
  }
}

async function add(ipam: Ipam, pod: string, node: number, families: readonly (4 | 6)[]): Promise<void> {
  const request = {
    handle: `net.c-${pod}`,
    families,
    attributes: { namespace: 'shop', pod },
    extra: (given: readonly { address: Ip }[]) => {
      const value = endpointValue(
        pod,
        names[node] ?? '',
        given.map(({ address }) => address),
      );
      return [
        {
          op: 'create' as const,
          key: { type: 'WorkloadEndpoint', namespace: 'shop', name: `w-${pod}` } as const,
          value,
        },
      ];
    },
  };
  await ipam.assign(request, signal).catch((thrown: unknown) => {
    if (!(thrown instanceof PoolExhaustedError)) throw thrown;
  });
}

function addressesOf({ value }: Entry<'WorkloadEndpoint'>): Ip[] {
  return value.spec.ipNetworks.map((cidr) => cidrParts(parseCidr(cidr)).address);
}

type Damage = (store: MemoryStore, pick: number, ipam: Ipam) => Promise<string[]>;

async function one<T extends 'WorkloadEndpoint' | 'BlockAffinity' | 'Node'>(
  store: MemoryStore,
  type: T,
  pick: number,
): Promise<Entry<T> | undefined> {
  const { entries } = await store.list(type);
  return entries[pick % Math.max(1, entries.length)];
}

/** Each does one damage and gives the findings that it must lead to. */
const damages: Record<string, Damage> = {
  'an endpoint is lost': async (store, pick) => {
    const found = await one(store, 'WorkloadEndpoint', pick);
    if (!found) return [];
    await store.delete({ type: 'WorkloadEndpoint', namespace: 'shop', name: found.value.metadata.name });
    return addressesOf(found).map((address) => `leak ${address}`);
  },
  'another endpoint has the same addresses': async (store, pick) => {
    const found = await one(store, 'WorkloadEndpoint', pick);
    if (!found) return [];
    const key = { type: 'WorkloadEndpoint', namespace: 'shop', name: 'w-copy' } as const;
    await store.create(key, endpointValue('copy', 'n1', addressesOf(found)));
    return addressesOf(found).map((address) => `doubleAllocation ${address}`);
  },
  'the addresses of an endpoint are freed': async (store, pick, ipam) => {
    const found = await one(store, 'WorkloadEndpoint', pick);
    if (!found) return [];
    await ipam.releaseAddresses(addressesOf(found).map((address) => ({ address })));
    return addressesOf(found).map((address) => `unallocated ${address}`);
  },
  'a handle is lost': async (store, pick) => {
    const found = await one(store, 'WorkloadEndpoint', pick);
    if (!found) return [];
    await store.delete({ type: 'Handle', id: `net.${found.value.spec.containerID}` });
    return addressesOf(found).map((address) => `addressWithoutHandle ${address}`);
  },
  'a handle outlives its addresses': async (store) => {
    await store.create({ type: 'Handle', id: 'net.old' }, { block: { '10.0.0.0/30': 1 }, deleted: false });
    return ['orphanedHandle net.old'];
  },
  'a block is lost before it is made': async (store) => {
    const key = { type: 'BlockAffinity', host: 'n1', cidr: parseCidr('10.9.0.0/30') } as const;
    await store.create(key, { state: 'pending', deleted: false });
    return ['affinityWithoutBlock 10.9.0.0/30'];
  },
  'an affinity is lost': async (store, pick) => {
    const found = await one(store, 'BlockAffinity', pick);
    if (!found) return [];
    await store.delete({ type: 'BlockAffinity', host: found.key.host, cidr: found.key.cidr });
    return [`blockWithoutAffinity ${found.key.cidr}`];
  },
  'a release breaks off': async (store, pick) => {
    const found = await one(store, 'BlockAffinity', pick);
    if (!found) return [];
    const key = { type: 'BlockAffinity', host: found.key.host, cidr: found.key.cidr } as const;
    await store.update(key, { state: 'pendingDeletion', deleted: false }, found.revision);
    return [`unfinishedAffinity ${found.key.cidr}`];
  },
  'a node is lost': async (store, pick) => {
    const found = await one(store, 'Node', pick);
    const name = found?.value.metadata.name ?? '';
    await store.delete({ type: 'Node', name });
    const { entries } = await store.list('BlockAffinity', { host: name });
    return entries.map(({ key }) => `orphanedAffinity ${key.cidr}`);
  },
};

test.each(Object.entries(damages))('%s: exactly that is found', async (_what, damage) => {
  await fc.assert(
    fc.asyncProperty(fc.array(step, { maxLength: 40, size: 'max' }), fc.nat(), async (steps, pick) => {
      const store = await storeWithPools({
        small: { cidr: '10.0.0.0/28', blockSize: 30 },
        six: { cidr: 'fd00::/120', blockSize: 126 },
      });
      for (const name of names) await store.create({ type: 'Node', name }, nodeValue(name));
      const clock = new TestClock();
      const nodes = names.map((name) => ipamOf(store, name, clock));
      await live(store, nodes, steps);
      const found = async () =>
        audit(await readLists(store), { now: clock.wall(), graceSeconds: 0 }).findings.map(
          ({ problem, subject }) => `${problem} ${subject}`,
        );
      expect(await found()).toEqual([]);
      const expected = await damage(store, pick, ipamOf(store, 'other', clock));
      expect((await found()).sort()).toEqual(expected.sort());
    }),
    { numRuns: 60 },
  );
});
