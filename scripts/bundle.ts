import { readFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { join, relative } from 'node:path';
import { pathToFileURL } from 'node:url';
import { type BuildOptions, build, type Plugin, transform } from 'esbuild';

/*
 * `bundle.ts DIRECTORY` bundles the programs into a directory as deep below the checkout as dist/, so that the paths in
 * source maps hold after a move. docs/decisions/0053 says why Node's modules and some packages are treated as they are.
 */

const root = join(import.meta.dirname, '..');

/** Packages that become part of a bundle. All others stay outside, and are found in node_modules at run time. */
const packagesWithin = new Set(['commander']);

const packages: Plugin = {
  name: 'packages',
  setup({ onResolve, onLoad }) {
    onResolve({ filter: /^@?[a-z]/ }, ({ path, kind }) =>
      kind === 'entry-point' || packagesWithin.has(path) ? undefined : { path, external: true },
    );
    // Without comments, which are most of their text, and which Node would read at every start.
    onLoad({ filter: /\/node_modules\/.*\.js$/ }, async ({ path }) => {
      const { code } = await transform(await readFile(path, 'utf8'), { minifyWhitespace: true });
      return { contents: code };
    });
  },
};

/** A module's text that gives what is asked of one of Node's own. Its default is one that looks when something is asked. */
function builtin(name: string, theirs: object): string {
  const all = `process.getBuiltinModule('${name}')`;
  const plain = typeof theirs === 'object' && theirs !== process;
  const exported = (each: string) =>
    `const node_${each} = /* @__PURE__ */ (() => ${all}.${each})(); export { node_${each} as ${each} };`;
  return [
    `export default /* @__PURE__ */ ${plain ? `new Proxy({}, { get: (_, name) => ${all}[name] })` : `(() => ${all})()`};`,
    ...Object.keys(theirs)
      .filter((each) => each !== 'default')
      .map(exported),
  ].join('\n');
}

/**
 * Takes from Node's own modules by `process.getBuiltinModule`, and only what is used. An import statement reads every
 * property of such a module, and some load a lot when they are read: with node:http comes undici, 60 ms.
 */
const builtins: Plugin = {
  name: 'builtins',
  setup({ onResolve, onLoad }) {
    onResolve({ filter: /^node:/ }, ({ path, importer, kind }) =>
      // A module for each importer, so that it becomes no part of its own.
      kind === 'import-statement'
        ? {
            path: `${path} for ${relative(root, importer)}`,
            namespace: 'builtin',
            sideEffects: false,
            pluginData: path,
          }
        : { path, external: true },
    );
    onLoad({ filter: /./, namespace: 'builtin' }, ({ pluginData: name }: { pluginData: string }) => ({
      contents: builtin(name, createRequire(import.meta.url)(name)),
    }));
  },
};

/** Where `margayctl` goes on, by the source that it imports. */
export const handedTo: Readonly<Record<string, string>> = {
  './margayctl.ts': './margayctl-all.js',
  './explain-apart.ts': './margayctl-offline.js',
};

const handingOver: Plugin = {
  name: 'handing over',
  setup({ onResolve }) {
    onResolve({ filter: /^\./ }, ({ path, kind }) => {
      const other = kind === 'dynamic-import' ? handedTo[path] : undefined;
      return other === undefined ? undefined : { path: other, external: true };
    });
  },
};

const shared = {
  absWorkingDir: root,
  bundle: true,
  platform: 'node',
  format: 'esm',
  target: 'node24',
  sourcemap: 'linked',
  logLevel: 'warning',
  banner: { js: '#!/usr/bin/env node' },
  plugins: [builtins, packages],
} satisfies BuildOptions;

/** Whole programs and threads. */
export const whole = {
  ...shared,
  entryPoints: {
    calico: './src/cli/calico.ts',
    lab: './src/lab/main.ts',
    'lab-pods': './src/lab/pod-server.ts',
    bench: './bench/main.ts',
    'bfd-worker': './src/bgp/bfd/worker.ts',
    'etcd-worker': './src/datastore/aside/worker.ts',
  },
} satisfies BuildOptions;

/** In parts, so that each command loads only what it needs. */
export const inParts = {
  ...shared,
  entryPoints: {
    margay: './src/cli/margay.ts',
    'margayctl-all': './src/cli/margayctl.ts',
    'margayctl-offline': './src/cli/explain-apart.ts',
  },
  splitting: true,
  chunkNames: 'part-[hash]',
} satisfies BuildOptions;

/** What a person waits for: in one file, as Node takes a millisecond for each. */
export const alone = {
  ...shared,
  entryPoints: { margayctl: './src/cli/ctl.ts' },
  plugins: [handingOver, builtins, packages],
} satisfies BuildOptions;

if (import.meta.url === pathToFileURL(process.argv[1] ?? '').href) {
  const [, , outdir] = process.argv;
  if (outdir === undefined) throw new TypeError('bundle.ts: into which directory?');
  await Promise.all([whole, inParts, alone].map((options) => build({ ...options, outdir })));
}
