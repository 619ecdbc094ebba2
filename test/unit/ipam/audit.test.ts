import { describe, expect, test } from 'vitest';
import type { MemoryStore } from '../../../src/datastore/memory.ts';
import { type Audit, audit, standing } from '../../../src/ipam/audit.ts';
import { indexOf, type Lists, readLists } from '../../../src/ipam/audit-index.ts';
import { addressUse, blockUsage, poolUsage } from '../../../src/ipam/audit-usage.ts';
import { parseCidr, parseIp } from '../../../src/model/address.ts';
import { endpointValue, ipamOf, nodeValue, poolValue, storeWithPools, TestClock } from '../../support/ipam.ts';

const clock = new TestClock();
const { signal } = new AbortController();
const options = { now: new Date('2026-03-02T11:00:00Z'), graceSeconds: 60 };

async function storeWith(attributes: Record<string, string>, handle = 'net.c-a'): Promise<MemoryStore> {
  const store = await storeWithPools({ p: { cidr: '10.0.0.0/28', blockSize: 28 } });
  await store.create({ type: 'Node', name: 'n1' }, nodeValue('n1'));
  await ipamOf(store, 'n1', clock).assign({ handle, families: [4], attributes }, signal);
  return store;
}

async function auditOf(store: MemoryStore, change: (lists: Lists) => Lists = (lists) => lists): Promise<Audit> {
  return audit(change(await readLists(store)), options);
}

const brief = ({ findings }: Audit) => findings.map(({ problem, subject }) => `${problem} ${subject}`);
const pod = { namespace: 'shop', pod: 'a' };

describe('leaks', () => {
  test('an address of a pod without endpoint is named with its node, its holder and its repair', async () => {
    const { findings, addresses } = await auditOf(await storeWith(pod));
    expect(addresses).toBe(1);
    expect(findings).toEqual([
      {
        problem: 'leak',
        subject: '10.0.0.0',
        node: 'n1',
        detail: 'held by net.c-a, but no endpoint of pod shop/a has it',
        repair: 'margayctl ipam release --ip 10.0.0.0 --handle net.c-a',
      },
    ]);
  });

  test('one younger than the grace is none yet', async () => {
    const lists = await readLists(await storeWith(pod));
    const at = (text: string, graceSeconds: number) => brief(audit(lists, { now: new Date(text), graceSeconds }));
    expect(at('2026-03-02T10:12:11.999Z', 60)).toEqual([]);
    expect(at('2026-03-02T10:12:12.000Z', 60)).toEqual(['leak 10.0.0.0']);
    expect(at('2026-03-02T10:11:12.345Z', 0)).toEqual(['leak 10.0.0.0']);
  });

  test("a tunnel's address is live while its node names it", async () => {
    const store = await storeWith({ type: 'vxlanTunnelAddress' }, 'vxlan-tunnel-addr-n1');
    expect(brief(await auditOf(store))).toEqual(['leak 10.0.0.0']);
    const node = await store.get({ type: 'Node', name: 'n1' });
    const named = nodeValue('n1', { ipv4VXLANTunnelAddr: '10.0.0.0' });
    await store.update({ type: 'Node', name: 'n1' }, named, node?.revision ?? '');
    expect(brief(await auditOf(store))).toEqual([]);
  });

  test('what no endpoint uses by its nature is not judged', async () => {
    for (const attributes of [{ service: 'web', namespace: 'shop' }, { 'vmi-name': 'vm', ...pod }, {}])
      expect(await auditOf(await storeWith(attributes))).toEqual({ addresses: 1, unjudged: 1, findings: [] });
  });

  test('nothing is called lost while an endpoint or a block cannot be read', async () => {
    const store = await storeWith(pod);
    const error = new Error('spec: expected an object');
    const key = { type: 'WorkloadEndpoint', namespace: 'shop', name: 'w-a' } as const;
    const unread = (lists: Lists) => ({ ...lists, endpoints: { ...lists.endpoints, invalid: [{ key, error }] } });
    expect(brief(await auditOf(store, unread))).toEqual(['unreadable WorkloadEndpoint/shop/w-a']);
    const block = { type: 'Block', cidr: parseCidr('10.0.0.0/28') } as const;
    const hidden = (lists: Lists) => ({ ...lists, blocks: { entries: [], invalid: [{ key: block, error }] } });
    expect(brief(await auditOf(store, hidden))).toEqual(['unreadable Block/10.0.0.0/28']);
  });
});

describe('double allocations', () => {
  test('an endpoint with an address that is held for another pod must have another', async () => {
    const store = await storeWith(pod);
    const address = parseIp('10.0.0.0');
    await store.create(
      { type: 'WorkloadEndpoint', namespace: 'shop', name: 'w-b' },
      endpointValue('b', 'n2', [address]),
    );
    expect((await auditOf(store)).findings).toEqual([
      {
        problem: 'doubleAllocation',
        subject: '10.0.0.0',
        detail: 'held in 10.0.0.0/28 by net.c-a for shop/a, used by shop/b on n2',
        repair: 'kubectl delete pod -n shop b',
      },
    ]);
  });

  test('an address that two overlapping blocks give', async () => {
    const store = await storeWith(pod);
    const overlapped = (lists: Lists): Lists => {
      const [first] = lists.blocks.entries;
      if (!first) throw new Error('no block');
      const cidr = parseCidr('10.0.0.0/29');
      const value = { ...first.value, cidr, allocations: first.value.allocations.slice(0, 8) };
      const entries = [...lists.blocks.entries, { ...first, key: { ...first.key, cidr }, value }];
      return { ...lists, blocks: { entries, invalid: [] } };
    };
    expect(brief(await auditOf(store, overlapped))).toContain('doubleAllocation 10.0.0.0');
  });

  test('a virtual machine that moves has its address at both ends', async () => {
    const store = await storeWith({ ...pod, 'vmi-name': 'vm' });
    for (const each of ['a', 'b'])
      await store.create(
        { type: 'WorkloadEndpoint', namespace: 'shop', name: `w-${each}` },
        endpointValue(each, 'n1', [parseIp('10.0.0.0')]),
      );
    expect(brief(await auditOf(store))).toEqual([]);
  });
});

test('addresses that IPAM has no part in are none of its business', async () => {
  const store = await storeWithPools({ p: { cidr: '10.0.0.0/24' } });
  const value = endpointValue('b', 'n2', [parseIp('10.0.0.9')]);
  await store.create({ type: 'WorkloadEndpoint', namespace: 'shop', name: 'w-b' }, value);
  expect(brief(await auditOf(store))).toEqual([]);
});

test('what only one of two looks found was under way', async () => {
  const store = await storeWith(pod);
  const first = await auditOf(store);
  await store.create({ type: 'Handle', id: "net.o'd" }, { block: {}, deleted: false });
  const second = await auditOf(store);
  expect(second.findings.map(({ repair }) => repair)).toContain("margayctl ipam release --handle 'net.o'\\''d'");
  expect(brief(standing(first, second))).toEqual(['leak 10.0.0.0']);
  expect(brief(standing(second, first))).toEqual(['leak 10.0.0.0']);
});

test('two endpoints of one pod that both have its address', async () => {
  const store = await storeWith(pod);
  for (const [name, node] of [
    ['w-1', 'n1'],
    ['w-2', 'n2'],
  ] as const) {
    const value = endpointValue('a', node, [parseIp('10.0.0.0')]);
    const named = { ...value, metadata: { name, namespace: 'shop' } };
    await store.create({ type: 'WorkloadEndpoint', namespace: 'shop', name }, named);
  }
  expect(brief(await auditOf(store))).toEqual(['doubleAllocation 10.0.0.0']);
});

test('a leak without handle is a leak and nothing else', async () => {
  const store = await storeWith(pod);
  await store.delete({ type: 'Handle', id: 'net.c-a' });
  expect(brief(await auditOf(store))).toEqual(['leak 10.0.0.0']);
});

test('an endpoint whose block cannot be read is not called unallocated', async () => {
  const store = await storeWith(pod);
  const value = endpointValue('b', 'n1', [parseIp('10.0.0.8')]);
  await store.create({ type: 'WorkloadEndpoint', namespace: 'shop', name: 'w-b' }, value);
  const half = (lists: Lists): Lists => {
    const [first] = lists.blocks.entries;
    if (!first) throw new Error('no block');
    const cidr = parseCidr('10.9.0.0/28');
    const pools = lists.pools.entries.map((each) => ({ ...each, value: pool8 }));
    const key = { type: 'Block', cidr: parseCidr('10.0.0.8/29') } as const;
    const entries = [{ ...first, key: { ...first.key, cidr }, value: { ...first.value, cidr } }];
    return {
      ...lists,
      pools: { entries: pools, invalid: [] },
      blocks: { entries, invalid: [{ key, error: new Error() }] },
    };
  };
  const pool8 = poolValue('p', '10.0.0.0/8');
  expect(brief(await auditOf(store, half))).not.toContain('unallocated 10.0.0.8');
  const without = (lists: Lists): Lists => {
    const changed = half(lists);
    return { ...changed, blocks: { ...changed.blocks, invalid: [] } };
  };
  expect(brief(await auditOf(store, without))).toContain('unallocated 10.0.0.8');
});

test('an address that cools down is not held, nor free', async () => {
  const store = await storeWith(pod);
  await store.create({ type: 'IpamConfig' }, { auto_allocate_blocks: true, ipCooldownSeconds: 60 });
  await ipamOf(store, 'n1', clock).release({ handle: 'net.c-a' });
  const lists = await readLists(store);
  expect(audit(lists, options)).toEqual({ addresses: 0, unjudged: 0, findings: [] });
  expect(blockUsage(lists)).toMatchObject([{ total: 16, used: 0, cooling: 1, free: 15 }]);
  expect(poolUsage(lists)).toMatchObject([{ total: '16', used: 0, cooling: 1, free: '15', blocks: 1 }]);
  expect(addressUse(parseIp('10.0.0.0'), lists, indexOf(lists))).toEqual({
    ...{ address: '10.0.0.0', state: 'cooling', block: '10.0.0.0/28', affinity: 'host:n1', pool: 'p', usedBy: [] },
    releasedAt: '2026-03-02T10:11:12Z',
  });
  expect(addressUse(parseIp('10.0.0.1'), lists, indexOf(lists))).toMatchObject({ state: 'free' });
});

test('an address held for another node than its block is borrowed', async () => {
  const store = await storeWith(pod);
  await ipamOf(store, 'n2', clock).assign({ handle: 'net.c-b', families: [4], attributes: {} }, signal);
  expect(blockUsage(await readLists(store))).toMatchObject([{ affinity: 'host:n1', used: 2, borrowed: 1 }]);
});
