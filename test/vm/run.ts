import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { build } from 'esbuild';
import { qemu, runGuest } from './guest.ts';
import { cache, prepare, prepared, root } from './kernel.ts';

/*
 * npm run test:vm: what needs a kernel that this machine may not have. The suite is bundled into one file and run by
 * node:test in a guest (vitest would load its hundreds of files over 9p with an emulated processor). Exits with 0 when
 * everything passed, and also when no guest can boot here, which is said with the reason; else with 1.
 */

const timeoutMs = 900_000;
/** An emulated machine does not always come up on a busy one; a suite that began is not begun again. */
const boots = 3;
/** Lines of the guest's console that are shown when it fails. */
const consoleLines = 30;

const reason = lacking();
if (reason !== undefined) process.stdout.write(`vm: NOT RUN: ${reason}\n`);
else process.exitCode = (await runSuite()) ? 0 : 1;

/** Why no guest can boot here; what can be made is made. */
function lacking(): string | undefined {
  if (process.arch !== 'x64') return `the guest is an x86_64 machine, and this is ${process.arch}`;
  for (const [program, ...words] of [
    [qemu, '--version'],
    ['/bin/busybox', 'true'],
  ] as const) {
    const { error } = spawnSync(program, words, { stdio: 'ignore' });
    if (error) return `${program} is missing (apt-get install qemu-system-x86 busybox-static)`;
  }
  if (prepared()) return undefined;
  try {
    mkdirSync(cache, { recursive: true });
    prepare();
    return undefined;
  } catch (thrown) {
    return `there is no kernel for the guest: ${thrown instanceof Error ? thrown.message : String(thrown)}`;
  }
}

async function runSuite(): Promise<boolean> {
  const began = performance.now();
  const seconds = () => `${((performance.now() - began) / 1000).toFixed(1)} s`;
  // Below the project, so that the one package that is left outside the bundle is found.
  const folder = mkdtempSync(join(cache, 'run-'));
  const stop = new AbortController();
  for (const name of ['SIGINT', 'SIGTERM'] as const) process.once(name, () => stop.abort());
  try {
    const suite = join(folder, 'suite.mjs');
    await bundle(suite);
    const command = commandOf(suite);
    const onLine = (line: string) => process.stdout.write(`vm: ${line.trimEnd()}\n`);
    const run = () => runGuest({ command, timeoutMs, signal: stop.signal, onLine });
    let end = await run();
    for (let again = 1; end.how === 'not booted' && again < boots; again++) {
      process.stdout.write(`vm: the guest did not boot (${end.console.trim().split('\n')[0]}); once more\n`);
      end = await run();
    }
    if (end.how === 'ended') {
      const verdict = end.status === 0 ? 'passed' : 'FAILED';
      process.stdout.write(`vm: ${verdict} in ${seconds()}, of which ${end.bootSeconds.toFixed(1)} s to boot\n`);
    } else {
      const tail = end.console.trim().split('\n').slice(-consoleLines).join('\n');
      const verdict = end.how === 'not booted' ? 'NOT RUN' : 'FAILED';
      process.stdout.write(`vm: ${verdict}: the guest: ${end.how} after ${seconds()}; its console:\n${tail}\n`);
    }
    return end.how === 'not booted' || (end.how === 'ended' && end.status === 0);
  } finally {
    rmSync(folder, { recursive: true });
  }
}

async function bundle(outfile: string): Promise<void> {
  await build({
    entryPoints: [join(root, 'test/vm/suite/ipip.ts')],
    outfile,
    bundle: true,
    platform: 'node',
    format: 'esm',
    target: 'node24',
    logLevel: 'warning',
    // It loads a file of its own beside it.
    external: ['koffi'],
    banner: {
      js: "import { createRequire as requireOf } from 'node:module'; const require = requireOf(import.meta.url);",
    },
  });
}

function commandOf(suite: string): string {
  const environment = {
    PATH: '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin',
    HOME: '/run/tmp',
    TMPDIR: '/run/tmp',
    LANG: 'C.UTF-8',
    NO_COLOR: '1',
    XTABLES_LOCKFILE: '/run/xtables.lock',
  };
  const settings = Object.entries(environment).map(([name, value]) => `${name}=${value}`);
  const words = ['env', '-i', ...settings, process.execPath, '--test-reporter=spec', suite];
  return `cd / && exec ${words.map((word) => `'${word.replaceAll("'", "'\\''")}'`).join(' ')}\n`;
}
