import { expect, test } from 'vitest';
import type { MemoryStore } from '../../../src/datastore/memory.ts';
import { type Store, StoreUnavailableError, type Write } from '../../../src/datastore/store.ts';
import type { Ipam } from '../../../src/ipam/allocator.ts';
import { PoolExhaustedError, WriteConflictError } from '../../../src/ipam/errors.ts';
import { intercepted, ipamOf, nodeValue, storeWithPools } from '../../support/ipam.ts';

/* Requests of one node that come at once share transactions. */

const { signal } = new AbortController();

/** The store, and what its transactions wrote. */
function counted(store: MemoryStore, before: (writes: readonly Write[]) => Promise<void> | void = () => undefined) {
  const transactions: (readonly Write[])[] = [];
  const transact: Store['transact'] = async (writes) => {
    transactions.push(writes);
    await before(writes);
    return store.transact(writes);
  };
  return { store: intercepted(store, { transact }), transactions };
}

const pools = () => storeWithPools({ four: { cidr: '10.65.0.0/16' }, six: { cidr: 'fd00:65::/48' } });
const endpoint = (name: string): Write => ({ op: 'create', key: { type: 'Node', name }, value: nodeValue(name) });

function assign(ipam: Ipam, name: string, more: Partial<Parameters<Ipam['assign']>[0]> = {}, abort = signal) {
  return ipam.assign(
    { handle: `net.${name}`, families: [4, 6], attributes: { pod: name }, extra: () => [endpoint(name)], ...more },
    abort,
  );
}

const names = (count: number) => Array.from({ length: count }, (_, at) => `p${at}`);
const outcomes = (results: readonly PromiseSettledResult<unknown>[]) =>
  results.map((result) => (result.status === 'fulfilled' ? 'given' : (result.reason as Error).name));

test('twenty at once are one transaction, and each gets its own addresses and revision', async () => {
  const memory = await pools();
  const { store, transactions } = counted(memory);
  const ipam = ipamOf(store, 'n1');
  const revisions = new Map<string, readonly (string | undefined)[]>();
  const given = await Promise.all(
    names(20).map((name) => assign(ipam, name, { onWritten: (written) => revisions.set(name, written) })),
  );
  expect(transactions).toHaveLength(1);
  expect(new Set(given.flat().map(({ address }) => address)).size).toBe(40);
  for (const [at, name] of names(20).entries()) {
    const stored = await memory.get({ type: 'Node', name });
    expect(revisions.get(name)).toEqual([stored?.revision]);
    expect(await ipam.byHandle(`net.${name}`)).toEqual(given[at]);
  }
  const blocks = (await memory.list('Block')).entries.map(({ value }) => value);
  expect(blocks.map(({ attributes }) => attributes?.length)).toEqual([20, 20]);
});

test('more than fit into a transaction of etcd are spread over several', async () => {
  const { store, transactions } = counted(await pools());
  const ipam = ipamOf(store, 'n1');
  await Promise.all(names(200).map((name) => assign(ipam, name)));
  expect(Math.max(...transactions.map((writes) => writes.length))).toBeLessThanOrEqual(100);
  expect(transactions.length).toBeLessThan(20);
});

test('a block that runs out in between is followed by the next', async () => {
  const memory = await storeWithPools({ small: { cidr: '10.65.0.0/24', blockSize: 29 } });
  const ipam = ipamOf(memory, 'n1');
  const given = await Promise.all(names(30).map((name) => assign(ipam, name, { families: [4] })));
  expect(new Set(given.flat().map(({ address }) => address)).size).toBe(30);
});

test('the last addresses go to those who came first, the others are told', async () => {
  const memory = await storeWithPools({ tiny: { cidr: '10.65.0.0/30', blockSize: 30 } });
  const ipam = ipamOf(memory, 'n1');
  const results = await Promise.allSettled(names(6).map((name) => assign(ipam, name, { families: [4] })));
  expect(outcomes(results)).toEqual([...Array(4).fill('given'), ...Array(2).fill(PoolExhaustedError.name)]);
});

test('one whose own write comes too late spoils it for no one', async () => {
  const memory = await pools();
  await memory.create({ type: 'Node', name: 'p3' }, nodeValue('p3'));
  const ipam = ipamOf(memory, 'n1');
  const results = await Promise.allSettled(names(6).map((name) => assign(ipam, name)));
  expect(outcomes(results)).toEqual(names(6).map((name) => (name === 'p3' ? WriteConflictError.name : 'given')));
  expect(await ipam.byHandle('net.p3')).toEqual([]);
});

test('a handle that holds addresses already, and one that is asked for twice, get more', async () => {
  const ipam = ipamOf(await pools(), 'n1');
  await assign(ipam, 'p1', { extra: () => [] });
  await Promise.all(['p0', 'p1', 'p2', 'p2'].map((name) => assign(ipam, name, { extra: () => [] })));
  expect(await ipam.byHandle('net.p1')).toHaveLength(4);
  expect(await ipam.byHandle('net.p2')).toHaveLength(4);
});

test('a block that another changes in between is read again', async () => {
  const memory = await pools();
  const other = ipamOf(memory, 'n1');
  let first = true;
  const { store } = counted(memory, async (writes) => {
    if (!first || writes.length < 10) return;
    first = false;
    await other.assign({ handle: 'net.other', families: [4], attributes: {} }, signal);
  });
  const ipam = ipamOf(store, 'n1');
  const given = await Promise.all(names(10).map((name) => assign(ipam, name)));
  const others = await other.byHandle('net.other');
  expect(new Set([...given.flat(), ...others].map(({ address }) => address)).size).toBe(21);
});

test('who gives up while waiting gets nothing; a lost answer is told to all, and their releases free everything', async () => {
  const memory = await pools();
  const gone = new AbortController();
  let lose = false;
  const { store } = counted(memory);
  const losing = intercepted(store, {
    transact: async (writes) => {
      const outcome = await store.transact(writes);
      if (lose) throw new StoreUnavailableError('no answer');
      return outcome;
    },
  });
  const ipam = ipamOf(losing, 'n1');
  const waiting = names(5).map((name) => assign(ipam, name, {}, name === 'p2' ? gone.signal : signal));
  gone.abort(new Error('gone'));
  expect(outcomes(await Promise.allSettled(waiting))).toEqual(['given', 'given', 'Error', 'given', 'given']);
  expect(await ipam.byHandle('net.p2')).toEqual([]);
  lose = true;
  const lost = names(9)
    .slice(5)
    .map((name) => assign(ipam, name));
  expect(outcomes(await Promise.allSettled(lost))).toEqual(Array(4).fill(StoreUnavailableError.name));
  lose = false;
  for (const name of names(9)) await ipam.release({ handle: `net.${name}` });
  expect((await memory.list('Handle')).entries).toEqual([]);
});

test('a request whose writes cannot be made is refused alone', async () => {
  const ipam = ipamOf(await pools(), 'n1');
  const broken = () => {
    throw new RangeError('no such write');
  };
  const results = await Promise.allSettled(
    names(4).map((name) => assign(ipam, name, name === 'p1' ? { extra: broken } : {})),
  );
  expect(outcomes(results)).toEqual(['given', 'RangeError', 'given', 'given']);
  expect(await ipam.byHandle('net.p1')).toEqual([]);
});
