import { expect, test } from 'vitest';
import { quantile, summarise } from '../../bench/figure.ts';

test('figures are medians, their ratio ours to the peer’s, their spread the outer deciles', () => {
  const ours = [10, 1, 2, 3, 4, 5, 6, 7, 8, 9, 11];
  expect(summarise({ name: 'x', unit: 'ms', ours, peer: [12, 12, 24], peerName: 'other' })).toEqual({
    name: 'x',
    ours: 6,
    peer: 12,
    peerName: 'other',
    ratio: 0.5,
    unit: 'ms',
    runs: 11,
    spread: [2, 10],
  });
  expect(quantile([1, 2], 0.5)).toBe(1.5);
  expect(() => quantile([], 0.5)).toThrow(RangeError);
});
