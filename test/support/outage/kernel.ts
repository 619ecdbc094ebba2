import { execFile } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { promisify } from 'node:util';

const run = promisify(execFile);

/** What a node's forwarding and policy are made of. Counters, times and the seeds of sets are no part of it. */
const looks: Readonly<Record<string, readonly string[]>> = {
  routes: ['ip', '-4', 'route', 'show', 'table', 'all'],
  routes6: ['ip', '-6', 'route', 'show', 'table', 'all'],
  rules: ['iptables-save'],
  rules6: ['ip6tables-save'],
  sets: ['ipset', 'save'],
  links: ['ip', '-br', 'link'],
};

/** The kernel's own, which come a second after a device: duplicate address detection. */
const kernelsOwn = /(fe80|ff00)::.* proto kernel/;

/** All lines that a node's kernel holds, each with its kind before it, in an order that compares. */
export async function kernelLines(netns: string): Promise<string[]> {
  const found = await Promise.all(
    Object.entries(looks).map(async ([name, command]) => {
      const { stdout } = await run('nsenter', [`--net=${netns}`, ...command], { maxBuffer: 16 << 20 });
      const lines = stdout.split('\n').filter((line) => line !== '' && !line.startsWith('#') && !kernelsOwn.test(line));
      const plain = lines.map((line) => line.replace(/\[\d+:\d+\]/g, '').replace(/ initval \S+/g, ''));
      return (name.startsWith('rules') ? plain : plain.sort()).map((line) => `${name}: ${line.trimEnd()}`);
    }),
  );
  return found.flat();
}

/** Datagrams that came to a namespace and found their socket's buffer full: they were forwarded, and nobody read them. */
export async function unread(netns: string): Promise<number> {
  const { stdout } = await run('nsenter', [`--net=${netns}`, 'cat', '/proc/thread-self/net/snmp']);
  const [names = [], values = []] = stdout
    .split('\n')
    .filter((line) => line.startsWith('Udp:'))
    .map((line) => line.split(/\s+/));
  return Number(values[names.indexOf('RcvbufErrors')]);
}

/** Processor time that the processes which are a felix have taken, in seconds. proc(5), stat: utime and stime at 100 a second. */
export function felixSeconds(pids: readonly number[]): number {
  return pids
    .map((pid) => ({ pid, command: readFileSync(`/proc/${pid}/cmdline`, 'utf8').split('\0') }))
    .filter(({ command }) => command.includes('felix') && command.some((word) => word.endsWith('margay.js')))
    .reduce((sum, { pid }) => sum + ticksOf(pid) / 100, 0);
}

function ticksOf(pid: number): number {
  const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  return Number(fields[11]) + Number(fields[12]);
}
