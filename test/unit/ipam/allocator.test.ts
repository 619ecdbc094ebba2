import { describe, expect, test } from 'vitest';
import { InputError } from '../../../src/base/errors.ts';
import type { MemoryStore } from '../../../src/datastore/memory.ts';
import type { Store, Value, Write } from '../../../src/datastore/store.ts';
import {
  ContentionError,
  HolderMismatchError,
  NoPoolError,
  PoolExhaustedError,
  WriteConflictError,
} from '../../../src/ipam/errors.ts';
import { parseCidr, parseIp } from '../../../src/model/address.ts';
import { intercepted, ipamOf, storeWithPools, TestClock } from '../../support/ipam.ts';

const { signal } = new AbortController();
const request = (handle: string, more: object = {}) => ({ handle, families: [4] as const, attributes: {}, ...more });

/** The store, and what was written through it: `op key state`. */
function recorded(store: MemoryStore) {
  const lines: string[] = [];
  const wrap = (op: 'create' | 'update' | 'delete') => async (key: never, value: never, revision: never) => {
    const done = await store[op](key, value, revision);
    const { type } = key as { type: string };
    const state = (value as { state?: string } | undefined)?.state ?? '';
    lines.push(`${op} ${type} ${state} ${done.outcome}`.replace(/ +/g, ' '));
    return done;
  };
  const recording = intercepted(store, {
    create: wrap('create') as Store['create'],
    update: wrap('update') as Store['update'],
    delete: wrap('delete') as Store['delete'],
    transact: async (writes: readonly Write[]) => {
      lines.push(`transact ${writes.map(({ op, key }) => `${op} ${key.type}`).join(', ')}`);
      return store.transact(writes);
    },
  });
  return { recording, lines };
}

describe('assign', () => {
  test('claims in Calico’s order of writes, then needs one transaction an address', async () => {
    const store = await storeWithPools({ p: { cidr: '10.65.0.0/16' } });
    const { recording, lines } = recorded(store);
    const ipam = ipamOf(recording, 'n1');
    await ipam.assign(request('net.a'), signal);
    await ipam.assign(request('net.b'), signal);
    expect(lines).toEqual([
      'create BlockAffinity pending written',
      'update BlockAffinity pending written',
      'create Block written',
      'update BlockAffinity confirmed written',
      'transact create Handle, update Block',
      'transact create Handle, update Block',
    ]);
  });

  test('both families and the caller’s write, all or none', async () => {
    const store = await storeWithPools({ four: { cidr: '10.65.0.0/16' }, six: { cidr: 'fd00:65::/48' } });
    const ipam = ipamOf(store, 'n1');
    const key = { type: 'IPPool', name: 'witness' } as const;
    const extra = (): Write[] => [
      { op: 'create', key, value: { ...witness, metadata: { name: 'witness' } } as Value<'IPPool'> },
    ];
    const both = {
      ...request('net.a'),
      families: [4, 6] as const,
      attributes: { pod: 'cart', namespace: 'shop' },
      extra,
    };
    const [four, six] = await ipam.assign(both, signal);
    expect(four).toMatchObject({ pool: 'four', cidr: `${four?.address}/32` });
    expect(six).toMatchObject({ pool: 'six', cidr: `${six?.address}/128` });
    expect(await ipam.byHandle('net.a')).toEqual([four, six]);
    await expect(ipam.assign({ ...both, handle: 'net.b' }, signal)).rejects.toThrow(WriteConflictError);
    expect(await ipam.byHandle('net.b')).toEqual([]);
    const block = await store.get({ type: 'Block', cidr: four?.block ?? parseCidr('0.0.0.0/0') });
    expect(block?.value.attributes).toEqual([
      {
        handle_id: 'net.a',
        secondary: { namespace: 'shop', node: 'n1', pod: 'cart', timestamp: '2026-03-02 10:11:12.345 +0000 UTC' },
      },
    ]);
  });

  test('many at once in one process get different addresses without a conflict', async () => {
    const store = await storeWithPools({ p: { cidr: '10.65.0.0/24', blockSize: 28 } });
    const { recording, lines } = recorded(store);
    const ipam = ipamOf(recording, 'n1');
    const all = await Promise.all(
      Array.from({ length: 60 }, (_, index) => ipam.assign(request(`net.${index}`), signal)),
    );
    expect(new Set(all.flat().map(({ address }) => address)).size).toBe(60);
    expect(lines.filter((line) => line.startsWith('transact')).length).toBeLessThanOrEqual(60);
  });

  test('a handle that exists counts one more, and all of it is released together', async () => {
    const ipam = ipamOf(await storeWithPools({ p: { cidr: '10.65.0.0/16' } }), 'n1');
    const [first] = await ipam.assign(request('net.a'), signal);
    const [second] = await ipam.assign(request('net.a'), signal);
    expect((await ipam.release({ handle: 'net.a' })).sort()).toEqual([first?.address, second?.address].sort());
    expect(await ipam.release({ handle: 'net.a' })).toEqual([]);
  });

  test('a stale memory of a block is found out and read again', async () => {
    const store = await storeWithPools({ p: { cidr: '10.65.0.0/26' } });
    const one = ipamOf(store, 'n1');
    const other = ipamOf(store, 'n1');
    const given = [];
    for (let index = 0; index < 10; index++) {
      given.push(...(await one.assign(request(`net.one-${index}`), signal)));
      given.push(...(await other.assign(request(`net.other-${index}`), signal)));
    }
    expect(new Set(given.map(({ address }) => address)).size).toBe(20);
  });

  test('someone who always gets in between is given up on', async () => {
    const store = await storeWithPools({ p: { cidr: '10.65.0.0/26' } });
    const busy = intercepted(store, { transact: async () => ({ outcome: 'conflict', failed: 1 }) });
    await expect(ipamOf(busy, 'n1').assign(request('net.a'), signal)).rejects.toThrow(ContentionError);
  });

  test.each([[{ handle: '' }], [{ families: [] }], [{ pools: ['nowhere'] }]])('%j is refused', async (more) => {
    const ipam = ipamOf(await storeWithPools({ p: { cidr: '10.65.0.0/16' } }), 'n1');
    await expect(ipam.assign(request('net.a', more), signal)).rejects.toThrow(InputError);
  });
});

const witness = { kind: 'IPPool', apiVersion: 'projectcalico.org/v3', spec: { cidr: '192.0.2.0/24', disabled: true } };

describe('where addresses come from', () => {
  test('the pools that are meant for this node, and why the others are not', async () => {
    const store = await storeWithPools({
      disabled: { cidr: '10.1.0.0/16', disabled: true },
      elsewhere: { cidr: '10.2.0.0/16', nodeSelector: 'zone == "b"' },
      manual: { cidr: '10.3.0.0/16', assignmentMode: 'Manual' },
      tunnels: { cidr: '10.4.0.0/16', allowedUses: ['Tunnel'] },
      wide: { cidr: '10.5.0.0/16', blockSize: 8 },
    });
    const ipam = ipamOf(store, 'n1');
    const failed = await ipam.assign(request('net.a'), signal).catch((thrown: unknown) => thrown);
    expect(failed).toBeInstanceOf(NoPoolError);
    expect(String(failed)).toBe(
      'NoPoolError: no IPv4 pool can be used: disabled is disabled; elsewhere does not select this node (zone == "b"); ' +
        'manual is for manual assignment; tunnels allows only Tunnel; ' +
        'wide is invalid (IPPool(wide).spec.blockSize: 8: expected 20 to 32)',
    );
    const node = {
      kind: 'Node',
      apiVersion: 'projectcalico.org/v3',
      metadata: { name: 'n1', labels: { zone: 'b' } },
      spec: {},
    };
    await store.create({ type: 'Node', name: 'n1' }, node as Value<'Node'>);
    expect(await ipam.assign(request('net.a'), signal)).toMatchObject([{ pool: 'elsewhere' }]);
    expect(await ipam.assign(request('net.b', { pools: ['manual'] }), signal)).toMatchObject([{ pool: 'manual' }]);
    expect(await ipam.assign(request('net.c', { pools: ['10.3.0.0/16'] }), signal)).toMatchObject([{ pool: 'manual' }]);
    await expect(ipam.assign(request('net.d', { pools: ['disabled'] }), signal)).rejects.toThrow(NoPoolError);
  });

  test('a full pool: borrowing, or an error that names the pools', async () => {
    const store = await storeWithPools({ p: { cidr: '10.65.0.0/30', blockSize: 30 } });
    const [owner, borrower] = [ipamOf(store, 'n1'), ipamOf(store, 'n2')];
    await owner.assign(request('net.a'), signal);
    const [borrowed] = await borrower.assign(request('net.b'), signal);
    expect(borrowed?.block).toBe('10.65.0.0/30');
    for (const handle of ['net.c', 'net.d']) await owner.assign(request(handle), signal);
    const failed = await borrower.assign(request('net.e'), signal).catch((thrown: unknown) => thrown);
    expect(failed).toBeInstanceOf(PoolExhaustedError);
    expect(String(failed)).toBe('PoolExhaustedError: no free IPv4 address in p');
    await borrower.release({ handle: 'net.b' });
    expect((await borrower.assign(request('net.e'), signal))[0]?.address).toBe(borrowed?.address);
  });

  test('strict affinity does not borrow, and an empty block is taken over after a minute', async () => {
    const store = await storeWithPools({ p: { cidr: '10.65.0.0/30', blockSize: 30 } });
    await store.create({ type: 'IpamConfig' }, { strict_affinity: true, auto_allocate_blocks: true });
    const clock = new TestClock();
    const [owner, other] = [ipamOf(store, 'n1', clock), ipamOf(store, 'n2', clock)];
    await owner.ensureAffinity(4, signal);
    await expect(other.assign(request('net.b'), signal)).rejects.toThrow(
      /no free IPv4 address in p: affinity is strict/,
    );
    clock.advance(61);
    expect((await other.assign(request('net.b'), signal))[0]?.block).toBe('10.65.0.0/30');
    await expect(owner.assign(request('net.a'), signal)).rejects.toThrow(PoolExhaustedError);
    expect((await store.list('BlockAffinity')).entries.map(({ key }) => key.host)).toEqual(['n2']);
  });

  test('a node owns no more blocks than it may', async () => {
    const store = await storeWithPools({ p: { cidr: '10.65.0.0/24', blockSize: 31 } });
    await store.create(
      { type: 'IpamConfig' },
      { strict_affinity: true, auto_allocate_blocks: true, maxBlocksPerHost: 2 },
    );
    const ipam = ipamOf(store, 'n1');
    for (const handle of ['a', 'b', 'c', 'd']) await ipam.assign(request(`net.${handle}`), signal);
    await expect(ipam.assign(request('net.e'), signal)).rejects.toThrow(/this node owns 2 blocks, the limit/);
  });

  test('a syncer’s updates take the place of reads', async () => {
    const store = await storeWithPools({ p: { cidr: '10.65.0.0/16' } });
    const ipam = ipamOf(store, 'n1');
    const { entries } = await store.list('IPPool');
    ipam.consume({ op: 'events', events: entries.map((entry) => ({ op: 'set', entry })) });
    ipam.consume({ op: 'inSync' });
    expect(await ipam.assign(request('net.a'), signal)).toMatchObject([{ pool: 'p' }]);
    ipam.consume({ op: 'events', events: [{ op: 'delete', key: { type: 'IPPool', name: 'p' } }] });
    await expect(ipam.assign(request('net.b'), signal)).rejects.toThrow(NoPoolError);
    ipam.consume({ op: 'connection', up: false });
    expect(await ipam.assign(request('net.b'), signal)).toMatchObject([{ pool: 'p' }]);
  });
});

describe('release', () => {
  test('the caller’s writes come first, then blocks, then the handle', async () => {
    const store = await storeWithPools({ p: { cidr: '10.65.0.0/16' } });
    const made = await store.get({ type: 'IPPool', name: 'p' });
    const { recording, lines } = recorded(store);
    const ipam = ipamOf(recording, 'n1');
    await ipam.assign(request('net.a'), signal);
    const extra: Write[] = [{ op: 'delete', key: { type: 'IPPool', name: 'p' }, revision: made?.revision ?? '' }];
    await ipam.release({ handle: 'net.a' }, extra);
    expect(lines.at(-1)).toBe('transact delete IPPool, update Block, delete Handle');
    await expect(ipam.release({ handle: 'net.a' }, extra)).rejects.toThrow(WriteConflictError);
  });

  test('an address cools down before anybody gets it, not even by name; then it goes on', async () => {
    const clock = new TestClock();
    const store = await storeWithPools({ p: { cidr: '10.65.0.0/30', blockSize: 30 } });
    await store.create({ type: 'IpamConfig' }, { auto_allocate_blocks: true, ipCooldownSeconds: 30 });
    const ipam = ipamOf(store, 'n1', clock);
    for (const id of ['a', 'b', 'c', 'd']) await ipam.assign(request(`net.${id}`), signal);
    const [freed] = await ipam.byHandle('net.b');
    if (!freed) return expect.fail('nothing assigned');
    await ipam.release({ handle: 'net.b' });
    clock.advance(29);
    await expect(ipam.assign(request('net.e'), signal)).rejects.toThrow(PoolExhaustedError);
    const byName = () => ipam.assign({ ...request('net.f'), addresses: [freed.address] }, signal);
    await expect(byName()).rejects.toThrow(freed.address);
    clock.advance(2);
    expect((await ipam.assign(request('net.g'), signal)).map(({ address }) => address)).toEqual([freed.address]);
  });

  test('single addresses, only from who is said to hold them', async () => {
    const store = await storeWithPools({ p: { cidr: '10.65.0.0/16' } });
    const ipam = ipamOf(store, 'n1');
    const [a] = await ipam.assign(request('net.a'), signal);
    const [b] = await ipam.assign(request('net.a'), signal);
    if (!a || !b) return expect.fail('nothing assigned');
    const wrong = { address: a.address, handle: 'net.b' };
    await expect(ipam.releaseAddresses([wrong])).rejects.toThrow(HolderMismatchError);
    await expect(ipam.releaseAddresses([{ address: a.address, sequence: 1n }])).rejects.toThrow(HolderMismatchError);
    expect(await ipam.releaseAddresses([{ address: a.address, handle: 'net.a' }])).toEqual([a.address]);
    expect((await store.get({ type: 'Handle', id: 'net.a' }))?.value.block).toEqual({ [a.block]: 1 });
    expect(await ipam.releaseAddresses([{ address: a.address }, { address: parseIp('192.0.2.1') }])).toEqual([]);
    expect(await ipam.releaseAddresses([{ address: b.address }])).toEqual([b.address]);
    expect(await store.get({ type: 'Handle', id: 'net.a' })).toBeUndefined();
  });

  test('the last address of a block without owner takes the block with it', async () => {
    const store = await storeWithPools({ p: { cidr: '10.65.0.0/16' } });
    const ipam = ipamOf(store, 'n1');
    const [a] = await ipam.assign(request('net.a'), signal);
    const block = a && (await store.get({ type: 'Block', cidr: a.block }));
    if (!block) return expect.fail('no block');
    await store.update(block.key, { ...block.value, affinity: null }, block.revision);
    expect(await ipam.release({ handle: 'net.a' })).toEqual([a.address]);
    expect(await store.get(block.key)).toBeUndefined();
  });
});
