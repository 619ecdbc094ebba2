import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { createLog } from '../../../src/base/log.ts';
import { createMemoryStore, type MemoryStore } from '../../../src/datastore/memory.ts';
import type { KeyOf, Value } from '../../../src/datastore/store.ts';
import { NoPoolError, PoolExhaustedError, WriteConflictError } from '../../../src/ipam/errors.ts';
import { addressesAfter, PodCidrPool } from '../../../src/ipam/pod-cidr.ts';
import { type Cidr, type Ip, parseCidr } from '../../../src/model/address.ts';
import { endpointValue, intercepted, nodeValue } from '../../support/ipam.ts';

const { signal } = new AbortController();
let directory: string;
let store: MemoryStore;

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'margay-networks-'));
  store = createMemoryStore();
  const node = { ...nodeValue('n1'), status: { podCIDRs: ['10.244.3.0/29', 'fd00:3::/64'] } };
  await store.create({ type: 'Node', name: 'n1' }, node as Value<'Node'>);
});
afterEach(() => rm(directory, { recursive: true, force: true }));

function poolOf(on: Parameters<typeof intercepted>[0] = store): PodCidrPool {
  return new PodCidrPool({ store: on, node: 'n1', directory, log: createLog('test', 'silent') });
}

const key = (pod: string): KeyOf<'WorkloadEndpoint'> => ({
  type: 'WorkloadEndpoint',
  namespace: 'shop',
  name: `w-${pod}`,
});

async function add(pool: PodCidrPool, pod: string, families: readonly (4 | 6)[] = [4]): Promise<Ip[]> {
  let revision: string | undefined;
  const assigned = await pool.assign(
    {
      ...{ handle: `net.${pod}`, families, attributes: {} },
      extra: (all) => [
        {
          op: 'create',
          key: key(pod),
          value: endpointValue(
            pod,
            'n1',
            all.map(({ address }) => address),
          ),
        },
      ],
      onWritten: ([written]) => {
        revision = written;
      },
    },
    signal,
  );
  expect(revision).toBe((await store.get(key(pod)))?.revision);
  return assigned.map(({ address }) => address);
}

test('addresses come in turn, lie in files as host-local has them, and come again after all others', async () => {
  const pool = poolOf();
  expect(await add(pool, 'a', [4, 6])).toEqual(['10.244.3.2', 'fd00:3::2']);
  expect(await readFile(join(directory, 'net/10.244.3.2'), 'utf8')).toBe('a\r\neth0');
  expect(await readFile(join(directory, 'net/last_reserved_ip.0'), 'utf8')).toBe('10.244.3.2');
  expect(await add(pool, 'b')).toEqual(['10.244.3.3']);
  expect(await pool.release({ handle: 'net.a' })).toEqual(['10.244.3.2', 'fd00:3::2']);
  expect(await pool.byHandle('net.a')).toEqual([]);
  for (const [pod, last] of [
    ['c', 4],
    ['d', 5],
    ['e', 6],
    ['f', 2],
  ] as const)
    expect(await add(pool, pod)).toEqual([`10.244.3.${last}`]);
  await expect(add(pool, 'g')).rejects.toThrow(PoolExhaustedError);
  expect((await pool.byHandle('net.f')).map(({ cidr }) => cidr)).toEqual(['10.244.3.2/32']);
  expect((await pool.containers('net')).sort()).toEqual(['b', 'c', 'd', 'e', 'f']);
});

test('what another network here holds is taken, and what is no address is left alone', async () => {
  await mkdir(join(directory, 'cbr0'), { recursive: true });
  for (const file of ['10.244.3.2', '10.244.3.3', 'lock', 'last_reserved_ip.0'])
    await writeFile(join(directory, 'cbr0', file), 'x');
  await writeFile(join(directory, 'stray'), '');
  expect(await add(poolOf(), 'a')).toEqual(['10.244.3.4']);
});

test('an endpoint that is there holds nothing back; an answer that is lost keeps the address for DEL', async () => {
  await store.create(key('a'), endpointValue('a', 'n2', []));
  await expect(add(poolOf(), 'a')).rejects.toThrow(WriteConflictError);
  expect(await poolOf().byHandle('net.a')).toEqual([]);
  const lost = poolOf(
    intercepted(store, {
      transact: async (writes) => {
        await store.transact(writes);
        store.disconnect();
        return store.transact(writes);
      },
    }),
  );
  await expect(add(lost, 'b')).rejects.toThrow('disconnected');
  store.connect();
  const held = await poolOf().byHandle('net.b');
  expect(held.map(({ cidr }) => cidr)).toEqual((await store.get(key('b')))?.value.spec.ipNetworks);
  await poolOf().release({ handle: 'net.b' });
  expect((await readdir(join(directory, 'net'))).filter((name) => /^\d/.test(name))).toEqual([]);
});

test('many at once, in several processes, have an address each; the same container again has its own', async () => {
  const pools = [poolOf(), poolOf()];
  const given = await Promise.all(['a', 'b', 'c', 'd', 'e'].map((pod, at) => add(pools[at % 2] ?? poolOf(), pod)));
  expect(new Set(given.flat()).size).toBe(5);
  await store.delete(key('a'));
  expect(await add(poolOf(), 'a')).toEqual(given[0]);
});

test('a node without a range says so, and takes one that comes', async () => {
  const found = await store.get({ type: 'Node', name: 'n1' });
  if (found === undefined) throw new Error('no node');
  await store.update({ type: 'Node', name: 'n1' }, nodeValue('n1'), found.revision);
  const pool = poolOf();
  await expect(add(pool, 'a')).rejects.toThrow(NoPoolError);
  pool.consume({ op: 'events', events: [{ op: 'set', entry: { ...found, revision: '9' } }] });
  expect(await add(pool, 'a')).toEqual(['10.244.3.2']);
});

test.each(['net', '.c1', 'net.', '../etc.c1', '...c1'])('the handle %s is refused', async (handle) => {
  await expect(poolOf().release({ handle })).rejects.toThrow(`handle: "${handle}": expected <network>.<container ID>`);
});

test('every address of a range comes once, from wherever it begins, but network, gateway and broadcast', () => {
  fc.assert(
    fc.property(fc.integer({ min: 20, max: 32 }), fc.ipV4(), fc.option(fc.ipV4()), (length, address, last) => {
      const cidr = masked(address, length);
      const all = [...addressesAfter(cidr, (last ?? undefined) as Ip | undefined)];
      expect(all.length).toBe(Math.max(0, 2 ** (32 - length) - 3));
      expect(new Set(all).size).toBe(all.length);
      const again = [...addressesAfter(cidr, all[0])];
      expect(again[0]).toBe(all[1] ?? all[0]);
    }),
    { numRuns: 60 },
  );
});

function masked(address: string, length: number): Cidr {
  const number = address.split('.').reduce((sum, octet) => sum * 256n + BigInt(octet), 0n);
  const size = 1n << BigInt(32 - length);
  const base = number - (number % size);
  return parseCidr(`${[24n, 16n, 8n, 0n].map((by) => (base >> by) & 255n).join('.')}/${length}`);
}
