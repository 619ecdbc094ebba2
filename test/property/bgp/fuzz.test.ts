import { expect, test } from 'vitest';
import { corpus } from '../../fuzz/corpus.ts';
import { feed, fuzz } from '../../fuzz/target.ts';

test('the corpus itself is taken, so that mutation begins at valid messages', () => {
  for (const message of corpus.filter((octets) => octets[18] !== 1)) expect(feed(message, true, false)).toBe('taken');
});

test('a fixed slice of the mutated messages ends as a session may end', () => {
  const outcomes = fuzz(20_250_101, 60_000);
  // The mutations reach every kind of error, and leave some messages valid.
  const reached = ['header/2', 'header/3', 'open/0', 'open/2', 'update/1', 'update/10', 'refresh/1'];
  expect([...outcomes.keys()]).toEqual(expect.arrayContaining(['taken', 'incomplete', ...reached]));
});
