import { expect, test } from 'vitest';
import { Turns } from '../../../src/bgp/turns.ts';

function turn(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}

test('what comes while all is quiet is worked on at once, what follows closely at the end of the turn', async () => {
  let now = 100;
  const turns = new Turns(() => now);
  const done: string[] = [];
  turns.schedule(() => done.push('first'));
  turns.read();
  expect(done).toEqual(['first']);
  now += 1;
  turns.schedule(() => done.push('second'));
  turns.read();
  turns.schedule(() => done.push('third'));
  turns.read();
  expect(done).toEqual(['first']);
  await turn();
  expect(done).toEqual(['first', 'second', 'third']);
  now += 3;
  turns.schedule(() => done.push('fourth'));
  turns.read();
  expect(done.at(-1)).toBe('fourth');
});

test('work that leaves more to do gives way to the event loop each time', async () => {
  const turns = new Turns(() => 0);
  let slices = 0;
  const work = () => {
    if (++slices < 3) turns.schedule(work);
  };
  turns.schedule(work);
  turns.read();
  expect(slices).toBe(1);
  await turn();
  expect(slices).toBe(2);
  await turn();
  expect(slices).toBe(3);
});
