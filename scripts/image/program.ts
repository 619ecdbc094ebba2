import {
  chmodSync,
  copyFileSync,
  cpSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { dirname, join, relative } from 'node:path';
import { pathToFileURL } from 'node:url';
import { felixHeap } from '../../src/cli/heap.ts';
import { alone, inParts, whole } from '../bundle.ts';

/*
 * Our part of the image: `program.ts DIRECTORY` puts the built programs there, the packages that package-lock.json names
 * for running them, the pinned Node, and Calico's commands.
 */

/** Where everything of ours is in the image. */
const home = 'opt/margay';
const node = `/${home}/node_modules/.bin/node`;

/** Of dist/: what runs on nodes and in the cluster, so neither the lab nor benchmarks. */
export const programs = [whole, inParts, alone]
  .flatMap(({ entryPoints }) => Object.keys(entryPoints))
  .filter((name) => !/^(lab|lab-pods|bench)$/.test(name));

/** The commands of Calico's images, so that its manifests start with ours. */
export const calicoCommands = [
  '/opt/cni/bin/install',
  '/opt/cni/bin/calico-ipam',
  '/usr/bin/calico-ipam',
  '/bin/calico-node',
  '/usr/bin/calico',
  '/usr/bin/check-status',
  '/usr/bin/kube-controllers',
  '/usr/sbin/start_runit',
];

/** Adds the parts of a program that the bundler shares between its commands, with those that they load themselves. */
function partsOf(dist: string, program: string, found: Set<string>): void {
  for (const [, part = ''] of readFileSync(join(dist, program), 'utf8').matchAll(/["']\.\/(part-\w+\.js)["']/g)) {
    if (found.has(part)) continue;
    found.add(part);
    partsOf(dist, part, found);
  }
}

/** Of the packages, what nothing reads at run time. */
const unread = /\.(d\.[cm]?ts|map|md|markdown|flow|tsbuildinfo)$/;

interface Locked {
  readonly dev?: boolean;
}

/** Paths below the checkout of the packages that are needed to run, as the lock file has them and npm installed them. */
function packagesOf(checkout: string): string[] {
  const lock = JSON.parse(readFileSync(join(checkout, 'package-lock.json'), 'utf8')) as {
    readonly packages: Readonly<Record<string, Locked>>;
  };
  const wanted = Object.entries(lock.packages).filter(([path, { dev = false }]) => path !== '' && !dev);
  // Those for other machines are not installed.
  return wanted.map(([path]) => path).filter((path) => existsSync(join(checkout, path)));
}

function copyPackage(checkout: string, path: string, to: string): void {
  const from = join(checkout, path);
  if (/^node_modules\/node-linux-/.test(path)) {
    for (const file of ['bin/node', 'LICENSE', 'package.json']) {
      mkdirSync(dirname(join(to, path, file)), { recursive: true });
      if (existsSync(join(from, file))) copyFileSync(join(from, file), join(to, path, file));
    }
    mkdirSync(join(to, 'node_modules/.bin'), { recursive: true });
    symlinkSync(relative('node_modules/.bin', join(path, 'bin/node')), join(to, 'node_modules/.bin/node'));
    return;
  }
  const own = (file: string) => file === from || !relative(from, file).split('/').includes('node_modules');
  cpSync(from, join(to, path), { recursive: true, filter: (file) => own(file) && !unread.test(file) });
}

/** A program in the image that starts another with more arguments. */
function script(root: string, path: string, lines: readonly string[]): void {
  const file = join(root, path);
  mkdirSync(dirname(file), { recursive: true });
  writeFileSync(file, `${['#!/bin/sh', ...lines].join('\n')}\n`);
  chmodSync(file, 0o755);
}

/** Puts everything below `root`. @param checkout with node_modules and dist as scripts/bootstrap.sh leaves them */
function place(checkout: string, root: string): void {
  const to = join(root, home);
  mkdirSync(join(to, 'dist'), { recursive: true });
  for (const path of packagesOf(checkout)) copyPackage(checkout, path, to);
  const dist = join(checkout, 'dist');
  const bundles = new Set(programs.map((name) => `${name}.js`));
  for (const name of Object.keys(inParts.entryPoints)) partsOf(dist, `${name}.js`, bundles);
  const files = [...bundles].flatMap((name) => [name, `${name}.map`]);
  for (const name of [...files, 'margay-cni']) copyFileSync(join(dist, name), join(to, 'dist', name));
  for (const name of ['package.json', 'LICENSE']) copyFileSync(join(checkout, name), join(to, name));
  for (const path of calicoCommands) script(root, path, [`exec ${node} /${home}/dist/calico.js ${path} "$@"`]);
  // For people: kubectl exec … -- margayctl status
  for (const program of ['margay', 'margayctl'])
    script(root, `/usr/bin/${program}`, [`exec ${node} /${home}/dist/${program}.js "$@"`]);
  // Without arguments, as Calico's manifests start its images, the environment tells what to run.
  script(root, `${home}/entrypoint`, [
    `[ $# -gt 0 ] || exec ${node} /${home}/dist/calico.js`,
    `[ "$1" != felix ] || exec ${node} ${felixHeap.join(' ')} /${home}/dist/margay.js "$@"`,
    `exec ${node} /${home}/dist/margay.js "$@"`,
  ]);
  settle(to);
}

/** Permissions that no umask has a part in. */
function settle(path: string): void {
  for (const entry of readdirSync(path, { withFileTypes: true })) {
    const inner = join(path, entry.name);
    if (entry.isSymbolicLink()) continue;
    if (entry.isDirectory()) settle(inner);
    else chmodSync(inner, executable(inner) ? 0o755 : 0o644);
  }
  chmodSync(path, 0o755);
}

function executable(file: string): boolean {
  return /\/(bin\/node|entrypoint|dist\/(margay|margayctl|calico)\.js|dist\/margay-cni)$/.test(file);
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? '').href) {
  const [, , root] = process.argv;
  if (root === undefined) throw new TypeError('program.ts: into which directory?');
  process.umask(0o022);
  place(join(import.meta.dirname, '../..'), root);
}
