import { execFileSync, spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { type CpioFile, cpio } from './cpio.ts';
import { bootModules, lateModules, type Module, ModuleTree, suiteModules } from './modules.ts';

export const root = resolve(import.meta.dirname, '../..');
/** The guest's kernel and first file system, made once. */
export const cache = join(root, '.cache/guest');
export const kernelFile = join(cache, 'kernel');
export const initrdFile = join(cache, 'initrd');

/** Magic numbers of packed kernels, and what unpacks one stream and leaves what follows. */
const packings = [
  { magic: 'fd377a585a00', command: ['xz', '-dc', '--single-stream'] },
  { magic: '28b52ffd', command: ['zstd', '-dc'] },
] as const;

/** Whether what is there was made of the present sources. */
export function prepared(): boolean {
  return existsSync(join(cache, 'stamp')) && readFileSync(join(cache, 'stamp'), 'utf8') === sources();
}

/**
 * Gets Debian's kernel (its package is unpacked, not installed) and makes of it what the guest boots from. Takes some
 * ten seconds and 70 MB of download. @throws Error with the reason when that is not possible
 */
export function prepare(): void {
  const work = join(cache, `new-${process.pid}`);
  rmSync(join(cache, 'stamp'), { force: true });
  mkdirSync(work, { recursive: true });
  try {
    const packed = download(work);
    execFileSync('dpkg-deb', ['-x', packed, join(work, 'tree')]);
    const boot = join(work, 'tree/boot');
    const image = readdirSync(boot).find((name) => name.startsWith('vmlinuz-'));
    if (image === undefined) throw new Error('the kernel package holds no kernel');
    const release = image.slice('vmlinuz-'.length);
    writeFileSync(join(work, 'kernel'), unpacked(readFileSync(join(boot, image))));
    const modules = new ModuleTree(join(work, 'tree/lib/modules', release));
    writeFileSync(join(work, 'initrd'), cpio(firstFiles(modules)));
    for (const name of ['kernel', 'initrd']) renameSync(join(work, name), join(cache, name));
    writeFileSync(join(cache, 'stamp'), sources());
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
}

/** The package that the newest kernel of this Debian is in. */
function download(work: string): string {
  let name = newestKernel();
  if (name === undefined) {
    apt(['update', '-q']);
    name = newestKernel();
  }
  if (name === undefined) throw new Error('apt knows no package linux-image-amd64');
  apt(['download', '-q', '-o', 'APT::Sandbox::User=root', name], work);
  const found = readdirSync(work).find((file) => file.endsWith('.deb'));
  if (found === undefined) throw new Error(`apt-get has not downloaded ${name}`);
  return join(work, found);
}

/** What the package that always depends on the newest kernel depends on. */
function newestKernel(): string | undefined {
  const { stdout } = spawnSync('apt-cache', ['depends', 'linux-image-amd64'], { encoding: 'utf8' });
  return /Depends: (linux-image-\S+)/.exec(stdout ?? '')?.[1];
}

function apt(words: readonly string[], folder?: string): void {
  const { status, stderr, error } = spawnSync('apt-get', words, { encoding: 'utf8', ...(folder && { cwd: folder }) });
  if (status !== 0) throw new Error(`apt-get ${words[0]} failed: ${error?.message ?? stderr.trim()}`);
}

/** The kernel's ELF file inside a boot image: QEMU starts it without the seconds that unpacking takes in a guest. */
function unpacked(image: Buffer): Buffer {
  for (const { magic, command } of packings) {
    const [program, ...options] = command;
    const pattern = Buffer.from(magic, 'hex');
    for (let at = image.indexOf(pattern); at >= 0; at = image.indexOf(pattern, at + 1)) {
      const { stdout } = spawnSync(program, options, { input: image.subarray(at), maxBuffer: 1 << 30 });
      if (stdout?.subarray(1, 4).toString('latin1') === 'ELF') return stdout;
    }
  }
  return image;
}

function firstFiles(modules: ModuleTree): CpioFile[] {
  const boot = modules.inOrder(bootModules);
  const known = new Set(boot.map(({ name }) => name));
  const fresh = (list: readonly Module[]) => list.filter(({ name }) => !known.has(name) && known.add(name));
  const suite = fresh(modules.inOrder(suiteModules));
  const late = fresh(modules.inOrder(lateModules));
  if (late.length === 0) throw new Error(`the kernel package holds none of: ${lateModules.join(', ')}`);
  const busybox = readFileSync('/bin/busybox');
  if (busybox.includes('/ld-linux')) throw new Error('/bin/busybox is not static (apt-get install busybox-static)');
  const order = (list: readonly Module[]) => Buffer.from(list.map(({ name }) => `${name}\n`).join(''));
  return [
    { path: 'init', data: readFileSync(join(root, 'test/vm/init.sh')), executable: true },
    { path: 'bin/busybox', data: busybox, executable: true },
    ...['proc', 'sys', 'dev', 'root'].map((name) => ({ path: `${name}/.keep`, data: new Uint8Array() })),
    { path: 'modules/boot', data: order(boot) },
    { path: 'modules/suite', data: order(suite) },
    { path: 'modules/late', data: order(late) },
    ...[...boot, ...suite, ...late].map(({ name, data }) => ({ path: `modules/${name}.ko`, data })),
  ];
}

/** What the files are made of, as a text to compare. */
function sources(): string {
  const parts = ['init.sh', 'modules.ts', 'kernel.ts', 'cpio.ts'];
  return parts.map((name) => readFileSync(join(root, 'test/vm', name), 'utf8')).join('\0');
}
