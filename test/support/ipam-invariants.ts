import { expect } from 'vitest';
import type { Clock } from '../../src/base/clock.ts';
import type { Store } from '../../src/datastore/store.ts';
import { isConfirmed } from '../../src/ipam/affinity.ts';
import { affinityOf, attributeOf, sizeOf } from '../../src/ipam/block.ts';
import { PoolExhaustedError } from '../../src/ipam/errors.ts';
import type { Ip } from '../../src/model/address.ts';
import { ipamOf } from './ipam.ts';

/* What must hold of blocks, affinities and handles, whoever worked on them and however it ended. */

/** What callers know: who was given which address, and of which handles the outcome is unknown. */
export class Book {
  readonly held = new Map<Ip, string>();
  readonly everSeen = new Set<string>();

  given(addresses: readonly Ip[], id: string): void {
    for (const address of addresses) {
      expect(this.held.get(address), `${address} is given twice`).toBeUndefined();
      this.held.set(address, id);
    }
  }

  /** Before a release, for it may take effect at any moment. */
  releasing(id: string): void {
    for (const [address, holder] of this.held) if (holder === id) this.held.delete(address);
  }
}

/** Handles count at least what blocks hold, and blocks hold what callers were given. */
export async function checkStored(store: Store, book: Book): Promise<void> {
  const blocks = (await store.list('Block')).entries.map(({ value }) => value);
  const { entries: handles, invalid } = await store.list('Handle');
  expect(invalid).toEqual([]);
  const counts = new Map<string, number>();
  const stored = new Map<string, Set<string>>();
  for (const block of blocks)
    for (const ordinal of block.allocations.keys()) {
      const id = attributeOf(block, ordinal)?.handle_id;
      if (!id) continue;
      counts.set(`${id} ${block.cidr}`, (counts.get(`${id} ${block.cidr}`) ?? 0) + 1);
      stored.set(id, (stored.get(id) ?? new Set()).add(block.cidr));
    }
  for (const [text, count] of counts) {
    const [id, cidr] = text.split(' ');
    const found = handles.find(({ key }) => key.id === id);
    expect(found?.value.block[cidr ?? ''] ?? 0, `count of ${text}`).toBeGreaterThanOrEqual(count);
  }
  const reader = ipamOf(store, 'reader');
  for (const [address, id] of book.held) {
    const addresses = (await reader.byHandle(id)).map((assignment) => assignment.address);
    expect(addresses, `${id} lost ${address}`).toContain(address);
  }
}

/** Every block has its confirmed affinity and no affinity lacks its block. */
export async function checkAffinities(store: Store): Promise<void> {
  const blocks = (await store.list('Block')).entries.map(({ value }) => value);
  const { entries } = await store.list('BlockAffinity');
  const owned = blocks.flatMap(({ cidr, affinity }) => (affinity ? [`${affinity} ${cidr}`] : []));
  expect(entries.map(({ key }) => `${affinityOf(key.host)} ${key.cidr}`).sort()).toEqual(owned.sort());
  for (const { key, value } of entries) expect(isConfirmed(value), `${key.host} ${key.cidr} ${value.state}`).toBe(true);
}

/** Each node's next run, which finishes what it had begun. */
export async function mend(store: Store, names: readonly string[], clock: Clock): Promise<void> {
  for (const name of names)
    await ipamOf(store, name, clock)
      .ensureAffinity(4, new AbortController().signal)
      .catch((thrown: unknown) => {
        if (!(thrown instanceof PoolExhaustedError)) throw thrown;
      });
}

/** Frees every handle that was ever asked for: nothing is left then. */
export async function releaseAll(store: Store, book: Book): Promise<void> {
  const ipam = ipamOf(store, 'n1');
  for (const id of book.everSeen) await ipam.release({ handle: id });
  expect((await store.list('Handle')).entries).toEqual([]);
  for (const { value } of (await store.list('Block')).entries) {
    expect(value.allocations.every((index) => index === null)).toBe(true);
    expect([...value.unallocated].sort((a, b) => a - b)).toEqual(
      Array.from({ length: sizeOf(value.cidr) }, (_, at) => at),
    );
    expect(value.sequenceNumberForAllocation).toEqual({});
  }
}
