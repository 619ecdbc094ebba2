import { execFile } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { promisify } from 'node:util';
import { build } from 'esbuild';

export const root = resolve(import.meta.dirname, '../../..');

/** Bundles a TypeScript program into one file, as releases are, runs it in a fresh process and gives its output. */
export async function runBundled(source: string, ...args: string[]): Promise<string> {
  // Below node_modules, so that packages left outside the bundle are found.
  const directory = mkdtempSync(join(root, 'node_modules', '.margay-bundle-'));
  try {
    const entry = join(directory, 'entry.ts');
    const outfile = join(directory, 'bundle.mjs');
    writeFileSync(entry, source);
    await build({ entryPoints: [entry], outfile, bundle: true, platform: 'node', format: 'esm', packages: 'external' });
    const { stdout } = await promisify(execFile)(process.execPath, [outfile, ...args], { timeout: 20_000 });
    return stdout;
  } finally {
    rmSync(directory, { recursive: true });
  }
}
