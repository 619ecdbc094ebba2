import { expect, test } from 'vitest';
import { formatLeaseSpec, parseLeaseSpec } from '../../../src/datastore/lease.ts';

const at = '2026-11-21T10:00:00.000000Z';

test('a lease is read as it was written', () => {
  const spec = { holderIdentity: 'a', leaseDurationSeconds: 15, acquireTime: at, renewTime: at, leaseTransitions: 3 };
  const record = parseLeaseSpec(spec);
  expect(record).toMatchObject({ holder: 'a', renewedAt: new Date(at), transitions: 3 });
  expect(record && formatLeaseSpec(record)).toEqual(spec);
});

test('a lease that nobody holds says so', () => {
  expect(parseLeaseSpec({})).toMatchObject({ holder: '', durationSeconds: 15, transitions: 0 });
});

test.each([
  { holderIdentity: 'a', acquireTime: 'yesterday' },
  { holderIdentity: 'a', renewTime: '2026-11-21T25:00:00Z' },
  { holderIdentity: 'a', renewTime: 5 },
  { holderIdentity: 'a', leaseDurationSeconds: 0 },
  { holderIdentity: 'a', leaseTransitions: -1 },
  { holderIdentity: {} },
  [],
  'a',
  null,
])('%j cannot be understood', (spec) => {
  expect(parseLeaseSpec(spec)).toBeUndefined();
});
