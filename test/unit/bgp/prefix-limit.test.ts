import { expect, test } from 'vitest';
import { limitExceeded, limitState } from '../../../src/bgp/prefix-limit.ts';
import { notificationOf } from '../../../src/bgp/wire/notification.ts';

test.each([
  [74, 'within'],
  [75, 'warning'],
  [100, 'warning'],
  [101, 'exceeded'],
] as const)('%d of 100: %s', (count, state) => {
  expect(limitState(count, { limit: 100, warnPercent: 75 })).toBe(state);
});

test('the NOTIFICATION names family and limit', () => {
  const error = limitExceeded(6, 1001, { limit: 1000, warnPercent: 75 });
  expect(error.message).toBe('maxPrefixes: 1001 IPv6 prefixes, the limit is 1000');
  expect(notificationOf(error)).toEqual({ code: 6, subcode: 1, data: Uint8Array.of(0, 2, 1, 0, 0, 3, 232) });
});
