import { expect, test } from 'vitest';
import { inTurns } from '../../../src/kernel/rtnetlink/monitor.ts';
import { ManualClock } from '../../support/manual-clock.ts';

test('a burst of events is taken in order, over several turns of the event loop; few are taken at once', async () => {
  const taken: number[] = [];
  const clock = new ManualClock();
  const take = inTurns((item: number) => {
    taken.push(item);
    clock.advance(0.05);
  }, clock);
  take(0);
  expect(taken).toEqual([0]);
  const items = Array.from({ length: 5000 }, (_, at) => at);
  for (const item of items.slice(1, 3000)) take(item);
  const perTurn = [taken.length];
  // What comes while others wait comes after them.
  setImmediate(() => {
    for (const item of items.slice(3000)) take(item);
  });
  while (taken.length < items.length && perTurn.length < 400) {
    await new Promise((resolve) => setImmediate(resolve));
    perTurn.push(taken.length - perTurn.reduce((sum, one) => sum + one, 0));
  }
  expect(taken).toEqual(items);
  expect(Math.max(...perTurn)).toBeLessThan(70);
  take(-1);
  expect(taken.at(-1)).toBe(-1);
});
