import { until } from '../../support/wait.ts';

/** `npm run test:faults` repeats each fault as often as the plan says, the tests of every day a few times. */
export const full = process.env['MARGAY_FAULTS'] === 'full';

/**
 * Milliseconds until the condition holds. Rejects when it does not by the deadline. It is asked a hundred times in that
 * time at least, and no more often than every 5 ms: what asks without a rest keeps from felix the processors it mends with.
 */
export async function measured(condition: () => Promise<boolean>, deadline: number, what: string): Promise<number> {
  const began = performance.now();
  await until(condition, { within: deadline, what, every: Math.max(5, deadline / 100) });
  return performance.now() - began;
}

/** Prints what a fault cost, in milliseconds. */
export function figure(what: string, values: readonly number[]): void {
  const sorted = values.toSorted((a, b) => a - b).map((value) => Math.round(value));
  const at = (share: number) => sorted[Math.floor((sorted.length - 1) * share)];
  process.stdout.write(`${what}: ${sorted.length} times, median ${at(0.5)} ms, longest ${at(1)} ms\n`);
}
