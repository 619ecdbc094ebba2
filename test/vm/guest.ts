import { spawn } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { cpio } from './cpio.ts';
import { initrdFile, kernelFile } from './kernel.ts';

export const qemu = 'qemu-system-x86_64';

export interface GuestRun {
  /** Shell text, run as root with the host's files read-only and a /run of its own. */
  readonly command: string;
  readonly timeoutMs: number;
  readonly signal: AbortSignal;
  onLine(line: string): void;
}

/** `not booted`: the command never began. `died`: it never ended. */
export type GuestEnd =
  | { readonly how: 'ended'; readonly status: number; readonly bootSeconds: number }
  | { readonly how: 'not booted' | 'timeout' | 'died'; readonly console: string };

/** An emulated machine may need this long when the real one is busy. */
const bootMs = 120_000;

/** Boots a guest, runs one command in it, and gives its output line by line. */
export async function runGuest({ command, timeoutMs, signal, onLine }: GuestRun): Promise<GuestEnd> {
  const folder = mkdtempSync(join(tmpdir(), 'margay-guest-'));
  const consoleFile = join(folder, 'console');
  const initrd = join(folder, 'initrd');
  const timeout = AbortSignal.timeout(timeoutMs);
  const unbooted = new AbortController();
  const bootTimer = setTimeout(() => unbooted.abort(), bootMs);
  const began = performance.now();
  try {
    const own = cpio([{ path: 'command', data: Buffer.from(command) }]);
    writeFileSync(initrd, Buffer.concat([readFileSync(initrdFile), own]));
    const stop = AbortSignal.any([signal, timeout, unbooted.signal]);
    const child = spawn(qemu, options(initrd, consoleFile), { stdio: ['ignore', 'pipe', 'pipe'], signal: stop });
    const complaints: string[] = [];
    child.stderr.on('data', (text) => complaints.push(String(text)));
    const exited = new Promise<void>((done) => {
      child.on('error', (error) => complaints.push(error.message));
      child.on('close', () => done());
    });
    let status: number | undefined;
    let bootSeconds: number | undefined;
    for await (const line of createInterface({ input: child.stdout })) {
      const end = /^margay-guest: exit (\d+)/.exec(line);
      if (end) status = Number(end[1]);
      else if (bootSeconds !== undefined) onLine(line);
      else if (line.startsWith('margay-guest: begin')) {
        clearTimeout(bootTimer);
        bootSeconds = (performance.now() - began) / 1000;
      }
    }
    await exited;
    if (status !== undefined && bootSeconds !== undefined) return { how: 'ended', status, bootSeconds };
    const shown = existsSync(consoleFile) ? readFileSync(consoleFile, 'utf8') : '';
    const said = [...complaints, shown].join('\n');
    const late = timeout.aborted ? 'timeout' : 'died';
    return { how: bootSeconds === undefined && !signal.aborted ? 'not booted' : late, console: said };
  } finally {
    clearTimeout(bootTimer);
    rmSync(folder, { recursive: true, force: true });
  }
}

function options(initrd: string, consoleFile: string): string[] {
  const accelerator = hasKvm()
    ? ['-accel', 'kvm', '-cpu', 'host']
    : ['-accel', 'tcg,thread=multi,tb-size=512', '-cpu', 'max,la57=off'];
  // On a busy host the emulated timer is late for the check at boot.
  const timers = 'no_timer_check nowatchdog';
  const settings = `console=ttyS0 quiet panic=-1 reboot=t nokaslr mitigations=off random.trust_cpu=on ${timers}`;
  return [
    ...accelerator,
    ...['-machine', 'pc,usb=off', '-smp', '2', '-m', '1024', '-nodefaults', '-no-user-config', '-no-reboot'],
    ...['-display', 'none', '-kernel', kernelFile, '-initrd', initrd, '-append', settings],
    ...['-serial', `file:${consoleFile}`, '-serial', 'stdio'],
    ...['-fsdev', 'local,id=host,path=/,security_model=none,readonly=on,multidevs=remap'],
    ...['-device', 'virtio-9p-pci,fsdev=host,mount_tag=host'],
  ];
}

/** /dev/kvm alone does not tell: some hosts have one in which a usual kernel does not boot. */
function hasKvm(): boolean {
  return existsSync('/dev/kvm') && /^flags\s*:.*\b(vmx|svm)\b/m.test(readFileSync('/proc/cpuinfo', 'utf8'));
}
