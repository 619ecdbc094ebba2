import { pause, systemClock } from '../../src/base/clock.ts';
import { explain } from '../../src/base/errors.ts';

/** What to wait for, and for how long. */
export interface Deadline {
  /** Milliseconds until the wait fails. */
  readonly within: number;
  /** What did not come, for the failure's message. */
  readonly what: string;
  /** Milliseconds between two looks. */
  readonly every?: number;
}

/**
 * Polls a condition until it gives something other than false, null or undefined, which is returned. A condition that
 * throws counts as not met; its last error is shown when the time runs out.
 */
export async function until<T>(
  condition: () => T | Promise<T>,
  { within, what, every = 20 }: Deadline,
): Promise<Exclude<T, false | null | undefined>> {
  const end = performance.now() + within;
  let last = '';
  for (;;) {
    try {
      const found = await condition();
      if (found !== false && found !== null && found !== undefined)
        return found as Exclude<T, false | null | undefined>;
      last = '';
    } catch (thrown) {
      last = `: ${explain(thrown)}`;
    }
    if (performance.now() > end) throw new Error(`${what}: not within ${within} ms${last}`);
    await pause(systemClock, every);
  }
}
