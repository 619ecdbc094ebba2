import { type ChildProcess, spawn } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { build } from 'esbuild';
import { root } from '../kernel/bundle.ts';
import type { RealNode } from './support.ts';

/** Felix as a program of its own, see felix-process.ts, in a node's namespace. */
export class FelixProgram {
  #child: ChildProcess | undefined;

  private constructor(
    private readonly folders: readonly [string, string],
    private readonly command: readonly string[],
  ) {}

  /** @param pods name → address, each with the device cali<name> */
  static async build(n: RealNode, backend: string, pods: Readonly<Record<string, string>>): Promise<FelixProgram> {
    const folder = mkdtempSync(join(root, 'node_modules', '.margay-bundle-'));
    const runDir = mkdtempSync(join(tmpdir(), 'felix-'));
    const outfile = join(folder, 'felix.mjs');
    const entry = join(import.meta.dirname, 'felix-process.ts');
    await build({ entryPoints: [entry], outfile, bundle: true, platform: 'node', format: 'esm', packages: 'external' });
    const args = Object.entries(pods).map(([name, address]) => `${name}=${address}`);
    const command = [`--net=${n.namespace.path}`, process.execPath, outfile, runDir, backend, ...args];
    return new FelixProgram([folder, runDir], command);
  }

  /** @returns when it says that all pods stand, unless it ends before */
  launch(env: Readonly<Record<string, string>> = {}): { readonly standing: Promise<void> } {
    const child = spawn('nsenter', this.command, {
      stdio: ['ignore', 'pipe', 'inherit'],
      env: { ...process.env, ...env },
    });
    this.#child = child;
    const standing = new Promise<void>((resolve) =>
      child.stdout.on('data', (data: Buffer) => {
        if (data.toString().includes('programmed')) resolve();
      }),
    );
    return { standing };
  }

  /** SIGKILL, and its end. */
  async kill(): Promise<void> {
    const child = this.#child;
    if (!child || child.exitCode !== null || child.signalCode !== null) return;
    const gone = new Promise<void>((resolve) => child.once('exit', () => resolve()));
    child.kill('SIGKILL');
    await gone;
  }

  async dispose(): Promise<void> {
    await this.kill();
    for (const path of this.folders) rmSync(path, { recursive: true, force: true });
  }
}
