import { expect, test } from 'vitest';
import { merge } from '../../../../src/datastore/kubernetes/merge.ts';
import { satisfies } from '../../../../src/felix/view.ts';

/** A stream that gives its items, then waits for the end, unless it is to fail. */
function stream(items: readonly number[], ended: number[], failure?: Error) {
  return async function* (signal: AbortSignal): AsyncGenerator<number, void> {
    try {
      for (const item of items) yield item;
      if (failure) throw failure;
      if (signal.aborted) return;
      await new Promise<void>((resolve) => signal.addEventListener('abort', () => resolve(), { once: true }));
    } finally {
      ended.push(items[0] ?? 0);
    }
  };
}

test('every stream’s items come, in its order, until the signal ends all', async () => {
  const end = new AbortController();
  const ended: number[] = [];
  const seen: number[] = [];
  for await (const item of merge([stream([1, 2, 3], ended), stream([10, 20], ended)], end.signal)) {
    seen.push(item);
    if (seen.length === 5) end.abort();
  }
  expect(seen.filter((item) => item < 10)).toEqual([1, 2, 3]);
  expect(seen.filter((item) => item >= 10)).toEqual([10, 20]);
  expect(ended.sort()).toEqual([1, 10]);
});

test('the first that fails ends the others', async () => {
  const ended: number[] = [];
  const all = merge([stream([1], ended), stream([], ended, new Error('broken'))], new AbortController().signal);
  await expect(
    (async () => {
      for await (const _ of all);
    })(),
  ).rejects.toThrow('broken');
  expect(ended.sort()).toEqual([0, 1]);
});

test('a reader that leaves ends all', async () => {
  const ended: number[] = [];
  for await (const _ of merge([stream([1], ended), stream([2], ended)], new AbortController().signal)) break;
  expect(ended.sort()).toEqual([1, 2]);
});

test.each([
  ['12', '12', true],
  ['13.ab', '12.cd', true],
  ['13.ab', '12', true],
  ['11.ab', '12.ab', false],
  ['12.ab', '12.cd', true],
  ['odd', '12', false],
  ['12.xy', '12', false],
])('felix at %s has seen %s: %s', (revision, wanted, seen) => expect(satisfies(revision, wanted)).toBe(seen));
