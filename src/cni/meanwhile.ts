import { setImmediate } from 'node:timers/promises';

/**
 * Runs an action while `pending` is on its way: one turn of the event loop lets the request out first.
 * Both are over when this settles, whichever fails; the action's error comes first.
 */
export async function meanwhile<T>(pending: Promise<T>, action: () => unknown): Promise<T> {
  const settled = Promise.allSettled([pending]);
  try {
    await setImmediate();
    await action();
  } finally {
    await settled;
  }
  return pending;
}
