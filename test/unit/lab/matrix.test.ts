import { expect, test } from 'vitest';
import { admitted, type Cell, drawMatrix, judge, wrong } from '../../../src/lab/matrix.ts';
import { makePod } from '../../../src/lab/plan.ts';

const web = makePod('lab', 'n1', 'shop', 'web-1', 'web');
const client = makePod('lab', 'n1', 'shop', 'client-1', 'client');
const stranger = makePod('lab', 'n2', 'guest', 'stranger-2', 'stranger');

test('before the policy everything is admitted, after it only HTTP from clients to web servers', () => {
  expect(admitted(stranger, web, 'udp', false)).toBe(true);
  expect(admitted(client, web, 'http', true)).toBe(true);
  expect(admitted(client, web, 'udp', true)).toBe(false);
  expect(admitted(stranger, web, 'http', true)).toBe(false);
  expect(admitted(web, web, 'http', true)).toBe(false);
  expect(admitted(web, stranger, 'udp', true)).toBe(true);
});

test('an answer from another machine is no answer', () => {
  expect(judge({ name: 'shop/web-1', from: '10.65.0.1' }, 'shop/web-1')).toBe('ok');
  expect(judge({ name: 'legacy', from: '10.65.0.1' }, 'shop/web-1')).toBe('answered by legacy');
  expect(judge('timeout', 'shop/web-1')).toBe('timeout');
});

test('the matrix shows what is open, and cells that are not as expected are found both ways', () => {
  const cell = (over: Partial<Cell>): Cell => ({
    from: client,
    to: web,
    kind: 'http',
    family: 4,
    expected: true,
    verdict: 'ok',
    ...over,
  });
  const cells = [
    cell({}),
    cell({ kind: 'udp', verdict: 'timeout', expected: false }),
    cell({ from: web, to: client }),
    cell({ from: web, to: client, kind: 'udp' }),
  ];
  expect(drawMatrix([web, client], cells)).toEqual([
    'from \\ to  web-1     client-1',
    'web-1      -         all',
    'client-1   http      -',
  ]);
  expect(wrong(cells)).toEqual([]);
  expect(wrong([cell({ verdict: 'timeout' }), cell({ expected: false })])).toHaveLength(2);
});
