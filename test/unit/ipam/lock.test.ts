import { expect, test } from 'vitest';
import { Lock } from '../../../src/ipam/lock.ts';

test('one task at a time, in order, and an error does not stop the next', async () => {
  const lock = new Lock();
  const seen: string[] = [];
  const task = (name: string, fails = false) =>
    lock.hold(async () => {
      seen.push(`${name} in`);
      await Promise.resolve();
      seen.push(`${name} out`);
      if (fails) throw new Error(name);
    });
  const results = await Promise.allSettled([task('a'), task('b', true), task('c')]);
  expect(results.map(({ status }) => status)).toEqual(['fulfilled', 'rejected', 'fulfilled']);
  expect(seen).toEqual(['a in', 'a out', 'b in', 'b out', 'c in', 'c out']);
});

test('who gives up waiting lets the next one in, but not before its turn', async () => {
  const lock = new Lock();
  const first = Promise.withResolvers<void>();
  const giveUp = new AbortController();
  const seen: string[] = [];
  const held = lock.hold(() => first.promise);
  const waiting = lock.hold(async () => void seen.push('waiting'), giveUp.signal);
  const last = lock.hold(async () => void seen.push('last'));
  giveUp.abort(new Error('enough'));
  await expect(waiting).rejects.toThrow('enough');
  expect(seen).toEqual([]);
  first.resolve();
  await Promise.all([held, last]);
  expect(seen).toEqual(['last']);
});
