import { describe, expect, test } from 'vitest';
import { writeInOrder } from '../../../src/datastore/in-order.ts';
import type { MemoryStore } from '../../../src/datastore/memory.ts';
import { type Store, StoreUnavailableError, type Value, type Write } from '../../../src/datastore/store.ts';
import { WriteConflictError } from '../../../src/ipam/errors.ts';
import { intercepted, ipamOf, poolValue, storeWithPools } from '../../support/ipam.ts';

/*
 * Transactions that are several writes: what stands after each of them when the next conflicts, or when the process
 * ends there, and that the next run mends it.
 */

const { signal } = new AbortController();
const witness = { type: 'IPPool', name: 'witness' } as const;
const extra = (): Write[] => [{ op: 'create', key: witness, value: poolValue('witness', '10.9.0.0/16') }];
const request = (handle: string) => ({ handle, families: [4, 6] as const, attributes: {}, extra });

/** The store with transactions in steps; `at` counts the steps of all of them together, from 1. */
function inSteps(store: MemoryStore, before: (at: number, write: string) => Promise<void> | void = () => undefined) {
  let at = 0;
  const step = <A extends unknown[], R>(op: string, call: (...given: A) => Promise<R>) => {
    return async (...given: A): Promise<R> => {
      await before(++at, `${op} ${(given[0] as { type: string }).type}`);
      return call.apply(store, given);
    };
  };
  const stepwise = {
    create: step('create', store.create) as Store['create'],
    update: step('update', store.update) as Store['update'],
    delete: step('delete', store.delete) as Store['delete'],
  };
  return intercepted(store, { atomic: false, transact: (writes) => writeInOrder(stepwise, writes) });
}

async function twoFamilies(): Promise<MemoryStore> {
  return storeWithPools({ four: { cidr: '10.65.0.0/16' }, six: { cidr: 'fd00:65::/48' } });
}

/** Addresses that blocks hold, by handle, and the handles' counts. */
async function held(store: Store) {
  const blocks = (await store.list('Block')).entries.map(({ value }) => value);
  const count = (block: (typeof blocks)[number]) => block.allocations.filter((index) => index !== null).length;
  const handles = (await store.list('Handle')).entries.map(({ key, value }) => [key.id, Object.values(value.block)]);
  return { addresses: blocks.reduce((sum, block) => sum + count(block), 0), handles };
}

describe('assign in steps', () => {
  test('handle, then blocks, then the caller’s write', async () => {
    const store = await twoFamilies();
    const steps: string[] = [];
    await ipamOf(
      inSteps(store, (_at, write) => void steps.push(write)),
      'n1',
    ).assign(request('net.a'), signal);
    expect(steps).toEqual(['create Handle', 'update Block', 'update Block', 'create IPPool']);
  });

  test('a caller’s write that comes too late takes everything back', async () => {
    const store = await twoFamilies();
    const ipam = ipamOf(inSteps(store), 'n1');
    await store.create(witness, poolValue('witness', '10.9.0.0/16'));
    await expect(ipam.assign(request('net.a'), signal)).rejects.toThrow(WriteConflictError);
    expect(await held(store)).toEqual({ addresses: 0, handles: [] });
  });

  test('a block that changes after the handle was written is read again, and the counts are right', async () => {
    const store = await twoFamilies();
    const other = ipamOf(store, 'n1');
    const ipam = ipamOf(
      inSteps(store, async (at) => {
        if (at === 3) await other.assign({ handle: 'net.b', families: [6], attributes: {} }, signal);
      }),
      'n1',
    );
    await ipam.assign(request('net.a'), signal);
    expect(await held(store)).toEqual({
      addresses: 3,
      handles: [
        ['net.a', [1, 1]],
        ['net.b', [1]],
      ],
    });
  });

  test.each([1, 2, 3, 4])(
    'the process ends before write %i: the next ADD and DEL leave nothing behind',
    async (crash) => {
      const store = await twoFamilies();
      await ipamOf(store, 'n1').assign({ handle: 'net.z', families: [4, 6], attributes: {} }, signal);
      const dying = ipamOf(
        inSteps(store, (at) => {
          if (at === crash) throw new StoreUnavailableError('the end');
        }),
        'n1',
      );
      await expect(dying.assign(request('net.a'), signal)).rejects.toThrow(StoreUnavailableError);
      const next = ipamOf(inSteps(store), 'n1');
      const given = await next.assign(request('net.a'), signal);
      expect(given).toHaveLength(2);
      expect((await held(store)).addresses, 'what the dead run left is given out, not a second address').toBe(4);
      expect(await next.byHandle('net.a')).toEqual(given);
      await next.release({ handle: 'net.a' });
      expect(await held(store)).toEqual({ addresses: 2, handles: [['net.z', [1, 1]]] });
    },
  );
});

describe('release in steps', () => {
  test('the caller’s write is not repeated when a block changes after it', async () => {
    const store = await twoFamilies();
    const given = await ipamOf(store, 'n1').assign({ ...request('net.a'), extra: () => [] }, signal);
    const made = await store.create(witness, poolValue('witness', '10.9.0.0/16'));
    if (made.outcome !== 'written') return expect.fail(made.outcome);
    const other = ipamOf(store, 'n1');
    const ipam = ipamOf(
      inSteps(store, async (at) => {
        if (at === 2) await other.assign({ handle: 'net.b', families: [4], attributes: {} }, signal);
      }),
      'n1',
    );
    const gone = { op: 'delete', key: witness, revision: made.entry.revision } as const;
    expect(await ipam.release({ handle: 'net.a' }, [gone])).toEqual(given.map(({ address }) => address));
    expect(await held(store)).toEqual({ addresses: 1, handles: [['net.b', [1]]] });
  });

  test.each([1, 2, 3])('the process ends before write %i: a second DEL finishes', async (crash) => {
    const store = await twoFamilies();
    await ipamOf(store, 'n1').assign({ ...request('net.a'), extra: () => [] }, signal);
    const dying = ipamOf(
      inSteps(store, (at) => {
        if (at === crash) throw new StoreUnavailableError('the end');
      }),
      'n1',
    );
    await expect(dying.release({ handle: 'net.a' })).rejects.toThrow(StoreUnavailableError);
    await ipamOf(inSteps(store), 'n1').release({ handle: 'net.a' });
    expect(await held(store)).toEqual({ addresses: 0, handles: [] });
  });

  test('a single address whose handle changes after its block: the handle counts one fewer all the same', async () => {
    const store = await twoFamilies();
    const setup = ipamOf(store, 'n1');
    const [first] = await setup.assign({ handle: 'net.a', families: [4], attributes: {} }, signal);
    if (first === undefined) return expect.fail('no address');
    const key = { type: 'Handle', id: 'net.a' } as const;
    const ipam = ipamOf(
      inSteps(store, async (at) => {
        const now = at === 2 ? await store.get(key) : undefined;
        const value = { block: { ...now?.value.block, [first.block]: 2 }, deleted: false } as Value<'Handle'>;
        if (now) await store.update(key, value, now.revision);
      }),
      'n1',
    );
    expect(await ipam.releaseAddresses([{ address: first.address }])).toEqual([first.address]);
    expect(await held(store)).toEqual({ addresses: 0, handles: [['net.a', [1]]] });
  });
});
