import { existsSync, mkdirSync, mkdtempSync, renameSync, rmSync } from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { buildSync } from 'esbuild';

const koffi = createRequire(import.meta.url).resolve('koffi');

/** Programs that the tests of one run start, each made once, in the folder that the run's end removes (../setup.ts). */
const folder = join(tmpdir(), 'programs');

/** One file of a program beside this one, such as `speaker-main.ts`, and beside it the one of its BFD thread. */
export function bundled(entry: string): string {
  const made = join(folder, basename(entry, '.ts'));
  const file = join(made, 'program.mjs');
  if (existsSync(file)) return file;
  mkdirSync(folder, { recursive: true });
  // Other files' tests may make the same at this moment: whose folder is whole first counts.
  const own = mkdtempSync(`${made}-`);
  bundleOne(join(import.meta.dirname, entry), join(own, 'program.mjs'));
  bundleOne(join(import.meta.dirname, '../../../src/bgp/bfd/worker.ts'), join(own, 'bfd-worker.js'));
  try {
    renameSync(own, made);
  } catch (thrown) {
    if (!existsSync(file)) throw thrown;
    rmSync(own, { recursive: true });
  }
  return file;
}

function bundleOne(entry: string, outfile: string): void {
  buildSync({
    entryPoints: [entry],
    outfile,
    bundle: true,
    platform: 'node',
    format: 'esm',
    // A native module: loaded from where it is installed.
    alias: { koffi },
    external: [koffi],
    banner: { js: "import { createRequire } from 'node:module'; const require = createRequire(import.meta.url);" },
  });
}
