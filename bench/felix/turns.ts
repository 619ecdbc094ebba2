import { monitorEventLoopDelay } from 'node:perf_hooks';

/** Longest that the event loop stood still, in milliseconds: by the clock, and of this thread's processor time. */
export interface Pause {
  readonly wall: number;
  /** Without what the thread waited for: a busy processor, or a lock of the kernel that another namespace held. */
  readonly cpu: number;
}

/** Measures while an action runs. A turn shorter than a millisecond may count together with the one after it. */
export async function longestPause(action: () => Promise<void>): Promise<Pause> {
  const delay = monitorEventLoopDelay({ resolution: 1 });
  let cpu = 0;
  let before = processorMs();
  let timer: NodeJS.Timeout;
  const turn = () => {
    const now = processorMs();
    cpu = Math.max(cpu, now - before);
    before = now;
    timer = setTimeout(turn, 1);
  };
  timer = setTimeout(turn, 1);
  delay.enable();
  try {
    await action();
  } finally {
    delay.disable();
    clearTimeout(timer);
  }
  return { wall: delay.max / 1e6, cpu };
}

function processorMs(): number {
  const { user, system } = process.threadCpuUsage();
  return (user + system) / 1000;
}
