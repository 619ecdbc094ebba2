import { globSync, readFileSync } from 'node:fs';
import { build, type Metafile } from 'esbuild';
import { expect, test } from 'vitest';
import { inParts } from '../../../scripts/bundle.ts';
import { programs } from '../../../scripts/image/program.ts';

async function bundled(): Promise<Metafile> {
  return (
    await build({ ...inParts, entryPoints: ['./src/cli/margay.ts'], outdir: 'dist', write: false, metafile: true })
  ).metafile;
}

/** The npm packages that Node loads with a source's part, before any of its code runs. */
function packagesOf({ outputs }: Metafile, source: string): readonly string[] {
  const found = new Set<string>();
  const entry = Object.keys(outputs).find((path) => outputs[path]?.entryPoint === source);
  const waiting = [entry ?? expect.fail(`no part begins with ${source}`)];
  const seen = new Set(waiting);
  for (let path = waiting.pop(); path !== undefined; path = waiting.pop()) {
    for (const loaded of outputs[path]?.imports ?? []) {
      if (loaded.kind !== 'import-statement') continue;
      if (loaded.external) found.add(loaded.path);
      else if (!seen.has(loaded.path)) waiting.push(loaded.path);
      seen.add(loaded.path);
    }
  }
  return [...found].filter((name) => !name.startsWith('node:')).sort();
}

test('a speaker alone loads no client of a datastore, and no metrics before they are wanted', async () => {
  const metafile = await bundled();
  expect(packagesOf(metafile, 'src/cli/margay.ts')).toEqual([]);
  expect(packagesOf(metafile, 'src/cli/bgp-file.ts')).toEqual(['koffi', 'pino', 'yaml', 'zod']);
  expect(packagesOf(metafile, 'src/bgp/metrics.ts')).toContain('prom-client');
  expect(packagesOf(metafile, 'src/cli/bgp.ts')).toContain('etcd3');
});

test('the image has the program of every thread: without that of etcd felix did not get far', () => {
  const sources = globSync('src/**/*.ts', { cwd: `${import.meta.dirname}/../../..` });
  const texts = sources.map((file) => readFileSync(`${import.meta.dirname}/../../../${file}`, 'utf8'));
  const threads = texts.flatMap((text) => text.match(/(?<=workerProgram\(import\.meta\.url, ')[\w-]+(?=\.js')/g) ?? []);
  expect(threads.sort()).toEqual(['bfd-worker', 'etcd-worker']);
  for (const thread of threads) expect(programs).toContain(thread);
});
