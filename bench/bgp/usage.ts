import { readdirSync, readFileSync } from 'node:fs';
import { errorCode } from '../../src/base/errors.ts';

/** What a process and its descendants have used so far. */
export interface Usage {
  /** On a processor, user and kernel. */
  readonly cpuSeconds: number;
  /** Ready, but waiting for a processor. */
  readonly waitSeconds: number;
  /** Sum of the peaks of resident memory (VmHWM), MiB; shared pages count for each process. */
  readonly peakMb: number;
}

/** USER_HZ, which proc(5) counts in. */
const ticksPerSecond = 100;
/** Both counts are of the same time, up to rounding of each field. */
const roundingTicks = 4;

export function usageOf(pid: number): Usage {
  const sum = { cpuSeconds: 0, waitSeconds: 0, peakMb: 0 };
  for (const process of withDescendants(pid)) {
    const usage = usageOfProcess(process);
    if (!usage) continue;
    sum.cpuSeconds += usage.cpuSeconds;
    sum.waitSeconds += usage.waitSeconds;
    sum.peakMb += usage.peakMb;
  }
  return sum;
}

/**
 * Of one process. /proc/…/schedstat counts nanoseconds, but of threads that live only; what ended ones and waited-for
 * children used stands in /proc/…/stat, in ticks.
 */
function usageOfProcess(pid: number): Usage | undefined {
  return whileItLives(() => {
    let cpu = 0;
    let wait = 0;
    for (const thread of readdirSync(`/proc/${pid}/task`)) {
      const text = whileItLives(() => readFileSync(`/proc/${pid}/task/${thread}/schedstat`, 'utf8')) ?? '0 0';
      const [ran = 0, waited = 0] = text.split(' ').map(Number);
      cpu += ran / 1e9;
      wait += waited / 1e9;
    }
    const ticks = statOf(pid)
      .slice(11, 15)
      .reduce((sum, field) => sum + Number(field), 0);
    const peak = /^VmHWM:\s+(\d+) kB/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1];
    return {
      cpuSeconds: Math.max(cpu, (ticks - roundingTicks) / ticksPerSecond),
      waitSeconds: wait,
      peakMb: Number(peak ?? 0) / 1024,
    };
  });
}

function withDescendants(pid: number): number[] {
  const children = new Map<number, number[]>();
  for (const name of readdirSync('/proc')) {
    if (!/^\d+$/.test(name)) continue;
    const parent = Number(whileItLives(() => statOf(Number(name)))?.[1]);
    children.set(parent, [...(children.get(parent) ?? []), Number(name)]);
  }
  const found = [pid];
  for (const one of found) found.push(...(children.get(one) ?? []));
  return found;
}

/** Fields of /proc/…/stat after the name, from the state on. */
function statOf(pid: number): string[] {
  const text = readFileSync(`/proc/${pid}/stat`, 'utf8');
  return text.slice(text.lastIndexOf(')') + 2).split(' ');
}

/** Undefined when the process ended before it was read. */
function whileItLives<T>(read: () => T): T | undefined {
  try {
    return read();
  } catch (thrown) {
    const code = errorCode(thrown);
    if (code === 'ENOENT' || code === 'ESRCH') return undefined;
    throw thrown;
  }
}
