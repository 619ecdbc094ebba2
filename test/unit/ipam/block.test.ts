import { describe, expect, test } from 'vitest';
import {
  addressAt,
  allocate,
  collect,
  isEmpty,
  newBlock,
  ordinalOf,
  ordinalsOf,
  release,
  sameHandle,
  touched,
} from '../../../src/ipam/block.ts';
import { decrement, increment } from '../../../src/ipam/handle.ts';
import { goTime, rfc3339 } from '../../../src/ipam/time.ts';
import { parseCidr, parseIp } from '../../../src/model/address.ts';
import type { Block } from '../../../src/model/ipam.ts';

const now = new Date('2026-03-02T10:11:12.340Z');
const cidr = parseCidr('10.65.3.64/30');

function take(block: Block, handle: string): Block {
  const taken = allocate(block, { handle_id: handle, secondary: { node: 'n1' } });
  if (taken === undefined) throw new Error('full');
  return touched(taken.block);
}

function give(block: Block, handle: string, at = now, cooldown = 0): Block {
  return touched(collect(release(block, ordinalsOf(block, handle), at), at, cooldown));
}

describe('block', () => {
  test('a new block and its first address are Calico’s', () => {
    const fresh = newBlock(cidr, 'rack7-n3', now);
    expect(fresh).toEqual({
      cidr: '10.65.3.64/30',
      affinity: 'host:rack7-n3',
      affinity_claim_time: '2026-03-02T10:11:12Z',
      allocations: [null, null, null, null],
      unallocated: [0, 1, 2, 3],
      attributes: null,
      sequenceNumber: 1772446272340000000n,
      sequenceNumberForAllocation: {},
      deleted: false,
    });
    expect(take(fresh, 'h')).toMatchObject({
      allocations: [0, null, null, null],
      unallocated: [1, 2, 3],
      attributes: [{ handle_id: 'h', secondary: { node: 'n1' } }],
      sequenceNumber: 1772446272340000001n,
      sequenceNumberForAllocation: { 0: 1772446272340000000n },
    });
  });

  test('the address freed longest ago is taken first', () => {
    let block = newBlock(cidr, 'n1', now);
    for (const handle of ['a', 'b', 'c']) block = take(block, handle);
    block = give(block, 'b');
    block = give(block, 'a');
    expect(block.unallocated).toEqual([3, 1, 0]);
    expect(block.attributes).toEqual([{ handle_id: 'c', secondary: { node: 'n1' } }]);
    expect(block.allocations).toEqual([null, null, 0, null]);
    expect(Object.keys(block.sequenceNumberForAllocation)).toEqual(['2']);
    expect(ordinalsOf(take(block, 'd'), 'd')).toEqual([3]);
  });

  test('equal attributes are stored once', () => {
    const block = take(take(newBlock(cidr, 'n1', now), 'a'), 'a');
    expect(block.allocations).toEqual([0, 0, null, null]);
    expect(block.attributes).toHaveLength(1);
  });

  test('a full block gives nothing', () => {
    let block = newBlock(cidr, 'n1', now);
    for (const handle of ['a', 'b', 'c', 'd']) block = take(block, handle);
    expect(allocate(block, { handle_id: 'e' })).toBeUndefined();
  });

  test('a released address cools down before it is free', () => {
    const block = give(take(newBlock(cidr, 'n1', now), 'a'), 'a', now, 30);
    expect(block.allocations).toEqual([1, null, null, null]);
    expect(block.attributes?.[1]).toEqual({ releasedAt: '2026-03-02T10:11:12Z' });
    expect(ordinalsOf(block, 'a')).toEqual([]);
    expect(isEmpty(block)).toBe(false);
    const early = new Date('2026-03-02T10:11:42Z');
    expect(collect(block, early, 30)).toBe(block);
    const late = collect(block, new Date('2026-03-02T10:11:43Z'), 30);
    expect(late).toMatchObject({ allocations: [null, null, null, null], unallocated: [1, 2, 3, 0], attributes: [] });
    expect(isEmpty(late)).toBe(true);
  });

  test('releasing what is free changes nothing', () => {
    const block = newBlock(cidr, 'n1', now);
    expect(release(block, [0, 7], now)).toBe(block);
  });

  test('the Windows reservation does not make a block used', () => {
    expect(isEmpty(take(newBlock(cidr, 'n1', now), 'windows-reserved-ipam-handle'))).toBe(true);
    expect(isEmpty(take(newBlock(cidr, 'n1', now), 'a'))).toBe(false);
  });

  test('ordinals and addresses of both families', () => {
    const block = newBlock(cidr, 'n1', now);
    expect(addressAt(block, 3)).toBe('10.65.3.67');
    expect(ordinalOf(block, parseIp('10.65.3.67'))).toBe(3);
    expect(ordinalOf(block, parseIp('10.65.3.68'))).toBeUndefined();
    const six = newBlock(parseCidr('fd00:65::40/122'), 'n1', now);
    expect(six.allocations).toHaveLength(64);
    expect(addressAt(six, 63)).toBe('fd00:65::7f');
    expect(ordinalOf(six, parseIp('fd00:65::7f'))).toBe(63);
  });

  test('handles compare up to a carriage return', () => {
    expect(sameHandle('a\rb', 'a')).toBe(true);
    expect(sameHandle('a', 'ab')).toBe(false);
    expect(sameHandle(null, 'a')).toBe(false);
  });
});

test('a handle counts addresses by block, and is gone with the last', () => {
  const one = increment(undefined, cidr);
  expect(one).toEqual({ block: { '10.65.3.64/30': 1 }, deleted: false });
  const two = increment(one, cidr);
  expect(decrement(two, cidr)).toEqual(one);
  expect(decrement(one, cidr)).toBeUndefined();
  expect(decrement(one, parseCidr('10.0.0.0/30'))).toEqual(one);
});

test.each([
  ['2026-03-02T10:11:12.340Z', '2026-03-02 10:11:12.34 +0000 UTC'],
  ['2026-03-02T10:11:12.000Z', '2026-03-02 10:11:12 +0000 UTC'],
  ['2026-03-02T10:11:12.007Z', '2026-03-02 10:11:12.007 +0000 UTC'],
])('Go prints %s as %s', (iso, text) => {
  expect(goTime(new Date(iso))).toBe(text);
  expect(rfc3339(new Date(iso))).toBe('2026-03-02T10:11:12Z');
});
