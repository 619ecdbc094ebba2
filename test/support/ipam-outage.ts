import { expect } from 'vitest';
import { type Store, StoreUnavailableError } from '../../src/datastore/store.ts';
import type { Assignment } from '../../src/ipam/allocator.ts';
import { ipamOf, poolValue } from './ipam.ts';

/**
 * Three nodes take addresses, and more while the datastore is away; then no address was given twice, every handle tells
 * what it holds, and after their release nothing is held.
 * @param open a connection for each node
 * @param outage ends when the datastore answers again and `during` is over
 */
export async function playOutage(open: () => Store, outage: (during: Promise<void>) => Promise<void>): Promise<void> {
  const store = open();
  const { signal } = new AbortController();
  await store.create({ type: 'IPPool', name: 'p' }, poolValue('p', '10.65.0.0/26', { blockSize: 29 }));
  const nodes = ['n1', 'n2', 'n3'].map((name) => ipamOf(open(), name));
  const held = new Map<string, string>();
  const handles: string[] = [];

  const assignAll = async (round: number) => {
    const work = nodes.flatMap((ipam, at) =>
      Array.from({ length: 8 }, async (): Promise<[string, Assignment[]]> => {
        const handle = `net.${round}-${at}-${handles.length}`;
        handles.push(handle);
        const request = { handle, families: [4] as const, attributes: {} };
        const given = await ipam.assign(request, signal).catch((thrown: unknown) => {
          if (thrown instanceof StoreUnavailableError) return [];
          throw thrown;
        });
        return [handle, given];
      }),
    );
    for (const [handle, given] of await Promise.all(work))
      for (const { address } of given) {
        expect(held.get(address), `${address} is given twice`).toBeUndefined();
        held.set(address, handle);
      }
  };

  await assignAll(1);
  expect(held.size).toBe(24);
  await outage(assignAll(2));
  for (const [address, handle] of held)
    expect((await nodes[0]?.byHandle(handle))?.map((assignment) => assignment.address)).toContain(address);
  for (const handle of handles) await nodes[2]?.release({ handle });
  expect((await store.list('Handle')).entries).toEqual([]);
  for (const { value } of (await store.list('Block')).entries)
    expect(value.allocations.every((index) => index === null)).toBe(true);
}
