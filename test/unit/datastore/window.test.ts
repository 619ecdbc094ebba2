import { expect, test } from 'vitest';
import { Window } from '../../../src/datastore/aside/window.ts';

/** Whether a promise is settled once all that is ready has run. */
async function settled(promise: Promise<void>): Promise<boolean> {
  let done = false;
  void promise.then(() => {
    done = true;
  });
  await new Promise((resolve) => setImmediate(resolve));
  return done;
}

test('who is ahead by the size waits until enough is used up', async () => {
  const window = new Window(3);
  expect(await settled(window.told())).toBe(true);
  expect(await settled(window.told())).toBe(true);
  const third = window.told();
  expect(await settled(third)).toBe(false);
  window.used(2);
  expect(await settled(third)).toBe(true);
  expect(await settled(window.told())).toBe(true);
  const fifth = window.told();
  expect(await settled(fifth)).toBe(false);
  window.used(3);
  expect(await settled(fifth)).toBe(true);
});

test('at the end nobody waits, nor later', async () => {
  const window = new Window(1);
  const waiting = window.told();
  expect(await settled(waiting)).toBe(false);
  window.end();
  expect(await settled(waiting)).toBe(true);
  expect(await settled(window.told())).toBe(true);
});
