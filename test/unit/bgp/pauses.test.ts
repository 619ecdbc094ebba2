import { afterEach, expect, test } from 'vitest';
import { Pauses } from '../../../src/bgp/pauses.ts';
import { until } from '../../support/wait.ts';

const pauses = new Pauses();

afterEach(() => pauses.stop());

/** Nothing else runs meanwhile. */
function stand(milliseconds: number): void {
  const end = performance.now() + milliseconds;
  while (performance.now() < end);
}

test('a standing event loop is seen, and none before', async () => {
  expect(pauses.longestMilliseconds).toBe(0);
  pauses.start();
  await new Promise((resolve) => setTimeout(resolve, 30));
  stand(200);
  await until(() => pauses.longestMilliseconds >= 150, { within: 5000, what: 'the pause' });
});
