/**
 * Several streams as one, in the order of arrival. The first that fails or ends, ends all. A stream is asked for its next
 * item when the one before was taken, so a slow reader holds all of them.
 * @param open makes a stream that ends when the signal aborts
 */
export async function* merge<T>(
  opens: readonly ((signal: AbortSignal) => AsyncGenerator<T, void>)[],
  signal: AbortSignal,
): AsyncGenerator<T, void> {
  const ours = new AbortController();
  const all = AbortSignal.any([signal, ours.signal]);
  const streams = opens.map((open) => open(all));
  const next = (at: number) => streams[at]?.next().then((result) => ({ at, result }));
  const pending = new Map(streams.map((_, at) => [at, next(at)]));
  try {
    while (pending.size > 0) {
      const first = await Promise.race(pending.values());
      if (first === undefined || first.result.done) return;
      yield first.result.value;
      pending.set(first.at, next(first.at));
    }
  } finally {
    ours.abort();
    await Promise.allSettled(pending.values());
    await Promise.allSettled(streams.map((stream) => stream.return()));
  }
}
