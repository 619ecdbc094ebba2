import { expect, test } from 'vitest';
import { rehearseRoutes } from '../../../src/felix/route-rehearsal.ts';

test('every round waits for its turn, and the first that does not come ends it', async () => {
  let turns = 0;
  await rehearseRoutes(async () => ++turns < 4, 10);
  expect(turns).toBe(4);
});

test('it ends after as many rounds as are asked for', async () => {
  let turns = 0;
  await rehearseRoutes(async () => ++turns > 0, 3);
  expect(turns).toBe(3);
});
