import { execFile, spawn } from 'node:child_process';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach } from 'vitest';
import { processesOf } from '../../src/lab/processes.ts';
import { ownLab } from '../support/leftovers.ts';
import { until } from '../support/wait.ts';

const root = join(import.meta.dirname, '../..');
export const dist = join(root, 'dist');

export interface Ended {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** Runs a program to its end; a status other than zero is a result like any other. */
export function finish(
  command: string,
  args: readonly string[],
  options: { input?: string; env?: NodeJS.ProcessEnv } = {},
): Promise<Ended> {
  return new Promise((resolve, reject) => {
    const child = spawn(command, args, { env: options.env ?? process.env });
    const out: Buffer[] = [];
    const err: Buffer[] = [];
    child.stdout.on('data', (chunk: Buffer) => out.push(chunk));
    child.stderr.on('data', (chunk: Buffer) => err.push(chunk));
    child.once('error', reject);
    child.once('close', (code) =>
      resolve({ code, stdout: String(Buffer.concat(out)), stderr: String(Buffer.concat(err)) }),
    );
    child.stdin.once('error', (error) => err.push(Buffer.from(error.message)));
    child.stdin.end(options.input ?? '');
  });
}

/** Brings the bundles up to date, as the README's commands do. */
export async function build(): Promise<void> {
  const { code, stderr } = await finish('sh', [join(root, 'scripts/bootstrap.sh'), 'build']);
  if (code !== 0) throw new Error(`bootstrap failed: ${stderr}`);
}

/** `npm run lab -- …` without npm. */
export function lab(...args: string[]): Promise<Ended> {
  return finish(process.execPath, [join(dist, 'lab.js'), ...args]);
}

/** A lab's run that is still going on; `seen` waits for text in its output. */
export function startLab(...args: string[]) {
  const child = spawn(process.execPath, [join(dist, 'lab.js'), ...args]);
  let output = '';
  const collect = (chunk: Buffer) => {
    output += String(chunk);
  };
  child.stdout.on('data', collect);
  child.stderr.on('data', collect);
  const ended = new Promise<number | null>((resolve) => child.once('close', resolve));
  const seen = (text: string) =>
    until(() => output.includes(text), { within: 60_000, what: `"${text}" in: ${output}` });
  return { child, ended, seen, output: () => output };
}

/** A lab name of this test process alone. */
export { ownLab as labName } from '../support/leftovers.ts';

/** Gives out such names, and takes down after each test of the file what was brought up under them. */
export function namesOfLabs(): (letter: string) => string {
  const used: string[] = [];
  afterEach(async () => {
    for (const name of used.splice(0)) await lab('--down', '--name', name);
  });
  return (letter) => {
    const name = ownLab(letter);
    used.push(name);
    return name;
  };
}

export type KernelState = Awaited<ReturnType<typeof kernelState>>;

/** What a lab could leave behind in the kernel and on disk; counters and times are left out. */
export async function kernelState(name: string) {
  const [links, rules4, rules6, sets] = await Promise.all([
    output('ip', ['-o', 'link']),
    output('iptables-save', []),
    output('ip6tables-save', []),
    output('ipset', ['list', '-n']),
  ]);
  const namespaces = existsSync('/run/netns')
    ? readdirSync('/run/netns').filter((entry) => entry.startsWith('margay-'))
    : [];
  return {
    links: links
      .split('\n')
      .map((line) => line.split(':')[1]?.trim().split('@')[0])
      .sort(),
    rules: [rules4, rules6].map((text) => text.replace(/^#.*\n/gm, '').replace(/\[\d+:\d+\]/g, '')),
    sets,
    namespaces: namespaces.filter((entry) => entry.startsWith(`margay-${name}-`)),
    files: existsSync(`/run/margay-lab/${name}`),
    processes: processesOf(name),
    forwarding: readFileSync('/proc/sys/net/ipv4/ip_forward', 'utf8'),
  };
}

function output(command: string, args: readonly string[]): Promise<string> {
  return new Promise((resolve, reject) => {
    execFile(command, args, { maxBuffer: 16 << 20 }, (error, stdout) => (error ? reject(error) : resolve(stdout)));
  });
}
