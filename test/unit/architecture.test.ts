import { readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { expect, test } from 'vitest';

/*
 * The layers of docs/architecture.md, held by reading every import in src/. A folder may import itself and what stands
 * in its row; pure folders and files may touch no socket, file, process or logger.
 */

const below: Readonly<Record<string, readonly string[]>> = {
  base: [],
  model: ['base'],
  datastore: ['model', 'base'],
  kernel: ['model', 'base'],
  ipam: ['datastore', 'model', 'base'],
  policy: ['ipam', 'datastore', 'kernel', 'model', 'base'],
  bgp: ['ipam', 'datastore', 'kernel', 'model', 'base'],
  controllers: ['ipam', 'datastore', 'model', 'base'],
  cni: ['ipam', 'datastore', 'kernel', 'model', 'base'],
  migrate: ['cni', 'ipam', 'datastore', 'kernel', 'model', 'base'],
  felix: ['policy', 'ipam', 'datastore', 'kernel', 'model', 'base'],
  cli: [
    'lab',
    'controllers',
    'migrate',
    'felix',
    'bgp',
    'cni',
    'policy',
    'ipam',
    'datastore',
    'kernel',
    'model',
    'base',
  ],
  lab: [
    'cli',
    'controllers',
    'migrate',
    'felix',
    'bgp',
    'cni',
    'policy',
    'ipam',
    'datastore',
    'kernel',
    'model',
    'base',
  ],
};

/** Pure by design: data in, data out. */
const pure = [
  /^model\//,
  /^policy\//,
  /^bgp\/wire\//,
  /^bgp\/(fsm|mrt|collision|rib|decision|filters|groups|config)\.ts$/,
  /^bgp\/bfd\/(packet|fsm|timing|session|engine)\.ts$/,
  /^felix\/calc\//,
  /^ipam\/block\.ts$/,
  /^migrate\/(compare|file|rename)\.ts$/,
  /^migrate\/host-local\/(facts|plan)\.ts$/,
  /^controllers\/(action|collection|copying|decide|nodes|settings)\.ts$/,
];
const effects =
  /^(node:(fs|net|http|child_process|dgram|worker_threads|os|timers)(\/.*)?|koffi|pino|prom-client|etcd3)$/;

const root = path.resolve(import.meta.dirname, '../../src');
const files = readdirSync(root, { recursive: true, encoding: 'utf8' }).filter((file) => file.endsWith('.ts'));

function importsOf(file: string): string[] {
  const text = readFileSync(path.join(root, file), 'utf8');
  return [...text.matchAll(/^\s*(?:import|export)\s[^;]*?from\s+'([^']+)'|import\('([^']+)'\)/gm)].map(
    (match) => match[1] ?? match[2] ?? '',
  );
}

test('there are sources to check', () => expect(files.length).toBeGreaterThan(20));

test('imports point down the layers only', () => {
  const upward: string[] = [];
  for (const file of files) {
    const layer = file.split('/')[0] ?? '';
    for (const target of importsOf(file).filter((name) => name.startsWith('.'))) {
      const resolved = path.relative(root, path.resolve(root, path.dirname(file), target)).split('/')[0] ?? '';
      if (resolved !== layer && !below[layer]?.includes(resolved)) upward.push(`${file} imports ${target}`);
    }
  }
  expect(upward).toEqual([]);
});

test('pure parts touch nothing outside', () => {
  const impure: string[] = [];
  for (const file of files.filter((name) => pure.some((pattern) => pattern.test(name)))) {
    for (const target of importsOf(file)) if (effects.test(target)) impure.push(`${file} imports ${target}`);
  }
  expect(impure).toEqual([]);
});
