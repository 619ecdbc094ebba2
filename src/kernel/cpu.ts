import { readFileSync } from 'node:fs';

/** USER_HZ, in which the kernel tells times of processes on every machine that Node runs on. */
const ticksPerSecond = 100;
/** Of the fields behind the program's name: cutime and cstime. proc_pid_stat(5). */
const childFields = [13, 14] as const;

/**
 * Milliseconds of processor time that this thread and the programs that the process has run and seen ending have had. It
 * tells what work costs whatever else the machine is busy with; programs count to a hundredth of a second.
 */
export function cpuMilliseconds(): number {
  const { user, system } = process.threadCpuUsage();
  return (user + system) / 1000 + childMilliseconds(readFileSync('/proc/self/stat', 'latin1'));
}

/** What ended programs had, of /proc/PID/stat. The name in parentheses may hold anything. */
export function childMilliseconds(stat: string): number {
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  const ticks = childFields.reduce((sum, at) => sum + Number(fields[at]), 0);
  return (ticks * 1000) / ticksPerSecond;
}
