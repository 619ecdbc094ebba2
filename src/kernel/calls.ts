/** How often a program was run or given input, how often it refused or failed, and what it was given. */
export interface CallCount {
  calls: number;
  errors: number;
}

/** What the drivers of one process asked of iptables and ipset since its start; they count here, others read. */
export interface KernelCalls {
  readonly restore: CallCount;
  readonly save: CallCount;
  /** `save` and `restore` of ipset. */
  readonly ipset: CallCount;
  /** Lines given to iptables-restore, by IP version and table (`4 filter`). */
  readonly lines: Map<string, number>;
  /** Lines given to `ipset restore`. */
  ipsetLines: number;
  /** Told how long each program took to start, fork and exec, in microseconds. */
  started: (microseconds: number) => void;
}

export function countKernelCalls(): KernelCalls {
  const none = (): CallCount => ({ calls: 0, errors: 0 });
  return { restore: none(), save: none(), ipset: none(), lines: new Map(), ipsetLines: 0, started: () => undefined };
}

/** Runs the call and counts it: as an error too when it rejects or its status is not 0. */
export async function counted<R extends { readonly status: number }>(
  count: CallCount | undefined,
  call: () => Promise<R>,
): Promise<R> {
  let failed = true;
  try {
    const result = await call();
    failed = result.status !== 0;
    return result;
  } finally {
    if (count) {
      count.calls++;
      if (failed) count.errors++;
    }
  }
}

/** For `Launch`: the listener that the calls have when a program starts. */
export function startedOf(calls: KernelCalls): (microseconds: number) => void {
  return (microseconds) => calls.started(microseconds);
}
