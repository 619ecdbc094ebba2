import { expect, test } from 'vitest';
import { covers, netsHold, rangesHold } from '../../../src/policy/covers.ts';

const nets = (count: number) => Array.from({ length: count }, (_, i) => `10.${i >> 8}.${i & 255}.0/24`);

test('prefixes and ranges hold others one by one, ranges also together', () => {
  expect(netsHold(['10.0.0.0/8'], nets(3))).toBe(true);
  expect(netsHold(['10.0.0.0/25', '10.0.0.128/25'], ['10.0.0.0/24'])).toBe(false);
  expect(
    rangesHold(
      [
        { first: 5, last: 9 },
        { first: 1, last: 4 },
      ],
      [{ first: 2, last: 8 }],
    ),
  ).toBe(true);
  expect(
    rangesHold(
      [
        { first: 1, last: 3 },
        { first: 5, last: 9 },
      ],
      [{ first: 2, last: 8 }],
    ),
  ).toBe(false);
});

test('a match without conditions holds all, one with conditions no match that lacks them', () => {
  const narrow = { protocol: 6, destinationPorts: [{ first: 80, last: 80 }] };
  expect(covers({}, narrow)).toBe(true);
  expect(covers(narrow, {})).toBe(false);
  expect(covers({ notProtocol: 17 }, narrow)).toBe(true);
  expect(covers({ notProtocol: 6 }, narrow)).toBe(false);
});

test('of long lists nothing is certain, so that a large file is judged in bounded time', () => {
  expect(netsHold(nets(100), nets(100))).toBe(true);
  expect(netsHold(nets(101), nets(101))).toBe(false);
});
