import { expect, test } from 'vitest';
import { Intake, inSlices, nextTurn, Turns } from '../../../src/felix/slices.ts';
import { ManualClock } from '../../support/manual-clock.ts';

test('a long list is taken a slice in a turn, in order, and what comes meanwhile after it', async () => {
  const clock = new ManualClock();
  const taken: number[] = [];
  const done: string[] = [];
  const intake = new Intake<number>(clock, (item) => {
    taken.push(item);
    clock.advance(1);
  });
  intake.add([1, 2], () => done.push('short'));
  expect(done).toEqual(['short']);
  const long = Array.from({ length: 100 }, (_, at) => 10 + at);
  intake.add(long, () => done.push('long'));
  intake.add([1000], () => done.push('last'));
  expect(taken.length).toBeLessThan(50);
  expect(done).toEqual(['short']);
  for (let turn = 0; turn < 20 && done.length < 3; turn++) await nextTurn();
  expect(done).toEqual(['short', 'long', 'last']);
  expect(taken).toEqual([1, 2, ...long, 1000]);
});

test('each list tells how long its items took, over all its turns; an empty one tells nothing', async () => {
  const clock = new ManualClock();
  const told: number[] = [];
  const intake = new Intake<number>(
    clock,
    () => clock.advance(1),
    (milliseconds) => told.push(milliseconds),
  );
  let done = 0;
  for (const count of [3, 0, 100, 1])
    intake.add(
      Array.from({ length: count }, (_, at) => at),
      () => done++,
    );
  while (done < 4) await nextTurn();
  expect(told).toEqual([3, 100, 1]);
});

test('work stops when the slice is over and goes on in the next turn, until it is done or told to stop', async () => {
  const clock = new ManualClock();
  const stop = new AbortController();
  let left = 100;
  let turns = 0;
  const work = (enough: () => boolean) => {
    turns++;
    while (left > 0 && !enough()) {
      left--;
      clock.advance(1);
    }
    return left > 0;
  };
  await inSlices(new Turns(clock), work, stop.signal);
  expect([left, turns]).toEqual([0, 20]);
  left = 100;
  stop.abort();
  await inSlices(new Turns(clock), work, stop.signal);
  expect([left, turns]).toEqual([95, 21]);
});
