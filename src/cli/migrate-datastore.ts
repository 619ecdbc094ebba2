import { readFileSync } from 'node:fs';
import { rename, rm, writeFile } from 'node:fs/promises';
import { errorCode, InputError } from '../base/errors.ts';
import { keyText, type Store } from '../datastore/store.ts';
import { type Difference, differences, type Form } from '../migrate/compare.ts';
import { type Dump, readDump } from '../migrate/dump.ts';
import { type DumpFile, formatDump, parseDump } from '../migrate/file.ts';
import { type Imported, importDump } from '../migrate/import.ts';
import { parseResource } from '../model/kinds.ts';
import { apiVersion } from '../model/resource.ts';
import type { Deps } from './apply.ts';
import type { Environment } from './environment.ts';
import { ExitError, exitCode } from './exit.ts';
import { type Format, formatTable, print } from './output.ts';
import { upsert } from './upsert.ts';

const cluster = { type: 'ClusterInformation', name: 'default' } as const;

/** Sets ClusterInformation(default).spec.datastoreReady, and says what came of it. */
export async function setLocked(locked: boolean, deps: Deps): Promise<void> {
  const { outcome } = await writeReady(!locked, deps);
  const state = locked ? 'locked' : 'unlocked';
  process.stdout.write(`the datastore ${outcome === 'unchanged' ? 'was' : 'is'} ${state}\n`);
}

function writeReady(datastoreReady: boolean, deps: Deps) {
  return upsert(
    deps.store,
    cluster,
    (found) => {
      if ((found?.value.spec.datastoreReady !== false) === datastoreReady) return undefined;
      if (found) return { ...found.value, spec: { ...found.value.spec, datastoreReady } };
      const metadata = { name: cluster.name };
      return parseResource(cluster.type, { kind: cluster.type, apiVersion, metadata, spec: { datastoreReady } });
    },
    deps,
  );
}

/** Writes all that the datastore holds. @throws ExitError when it is not locked, or holds what cannot be understood */
export async function exportTo(filename: string, { store }: Deps): Promise<void> {
  const found = await store.get(cluster);
  if (found?.value.spec.datastoreReady !== false)
    throw new ExitError(exitCode.failure, 'the datastore is not locked: margayctl datastore migrate lock comes first');
  const dump = await readDump(store);
  refuseInvalid(dump);
  warnOfOthers(dump);
  const text = formatDump(dump.items);
  if (filename === '-') await written(text);
  else await replaceFile(filename, text);
  process.stderr.write(`${dump.items.length} objects exported\n`);
}

/** What is not understood would be lost. */
function refuseInvalid({ invalid }: Dump): void {
  for (const { error } of invalid) process.stderr.write(`invalid in the datastore: ${error.message}\n`);
  if (invalid.length > 0)
    throw new ExitError(exitCode.failure, `${invalid.length} stored objects are invalid: mend or delete them first`);
}

function warnOfOthers({ others }: Dump): void {
  for (const { plural, namespace, name } of others) {
    const place = namespace === undefined ? name : `${namespace}/${name}`;
    process.stderr.write(`left out, a kind that Margay does not know: ${plural}/${place}\n`);
  }
}

function written(text: string): Promise<void> {
  return new Promise((resolve, reject) => {
    process.stdout.write(text, (failed) => (failed ? reject(failed) : resolve()));
  });
}

/** The file is there whole or not at all; it names pods and addresses, so only its owner reads it. */
async function replaceFile(path: string, text: string): Promise<void> {
  const temporary = `${path}.${process.pid}.tmp`;
  try {
    await writeFile(temporary, text, { mode: 0o600 });
    await rename(temporary, path);
  } catch (cause) {
    await rm(temporary, { force: true });
    throw new InputError('--filename', path, `a file that can be written (${errorCode(cause) ?? 'failed'})`, { cause });
  }
}

/** Locks the datastore and writes the file's objects. @throws ExitError with 1 when something was not taken */
export async function importFrom(
  filename: string,
  overwrite: boolean,
  deps: Deps,
  env: Environment,
  format: Format,
  signal: AbortSignal,
): Promise<void> {
  const file = readDumpFile(filename);
  await writeReady(false, deps);
  const results: Imported[] = [];
  await importDump(deps.store, file.items, { form: formOf(env), overwrite, signal, done: (one) => results.push(one) });
  const told = [...results, ...file.unknown.map(unknownKind)];
  print(format, told, () => importPage(told));
  const refused = told.filter(({ outcome }) => outcome === 'conflict' || outcome === 'failed');
  if (refused.length > 0) throw new ExitError(exitCode.failure, `${refused.length} objects were not imported`);
}

function unknownKind(object: string): Imported {
  return { outcome: 'left', object, reason: 'a kind that Margay does not know' };
}

/** What was not simply written, then how many of each outcome. Pure. */
export function importPage(results: readonly Imported[]): string {
  const lines = results.flatMap((result) => {
    if (result.outcome === 'failed' || (result.outcome === 'left' && !/^Kubernetes' own/.test(result.reason)))
      return [[result.outcome, result.object, '', result.reason, '']];
    if (result.outcome !== 'conflict') return [];
    return result.differences.map((each) => ['conflict', each.object, each.field, each.left ?? '-', each.right ?? '-']);
  });
  const table =
    lines.length === 0
      ? ''
      : formatTable({ columns: ['outcome', 'object', 'field', 'file', 'datastore'], rows: lines });
  const counts = ['created', 'completed', 'replaced', 'unchanged', 'left', 'conflict', 'failed'].flatMap((outcome) => {
    const count = results.filter((result) => result.outcome === outcome).length;
    return count === 0 ? [] : [`${count} ${outcome}`];
  });
  return `${table}${counts.length === 0 ? 'nothing in the file' : counts.join(', ')}\n`;
}

/** @throws ExitError with 1 when there are differences */
export async function checkAgainstFile(filename: string, { store }: Deps, env: Environment, format: Format) {
  const file = readDumpFile(filename);
  const dump = await readDump(store);
  report(differences(file.items, dump.items, formOf(env)), [dump], ['file', 'datastore'], format);
}

/** @throws ExitError with 1 when there are differences */
export async function checkAgainstStore(
  here: Store,
  there: Store,
  env: Environment,
  otherEnv: Environment,
  format: Format,
): Promise<void> {
  const [a, b] = [await readDump(here), await readDump(there)];
  report(differences(a.items, b.items, 'kubernetes'), [a, b], [typeOf(env), typeOf(otherEnv)], format);
}

function report(found: readonly Difference[], dumps: readonly Dump[], sides: readonly string[], format: Format): void {
  const [left = '', right = ''] = sides;
  print(format, found, () => {
    if (found.length === 0) return 'no difference\n';
    const rows = found.map((each) => [each.object, each.field || '-', each.left ?? '-', each.right ?? '-']);
    return formatTable({ columns: ['object', 'field', left, right], rows });
  });
  for (const { key, error } of dumps.flatMap(({ invalid }) => invalid))
    process.stderr.write(`not compared, invalid in the datastore: ${keyText(key)}: ${error.message}\n`);
  for (const dump of dumps) warnOfOthers(dump);
  const invalid = dumps.reduce((sum, dump) => sum + dump.invalid.length, 0);
  if (found.length + invalid > 0) throw new ExitError(exitCode.failure, '');
}

function readDumpFile(filename: string): DumpFile {
  try {
    return parseDump(readFileSync(filename === '-' ? 0 : filename, 'utf8'), filename === '-' ? 'stdin' : filename);
  } catch (cause) {
    const code = errorCode(cause);
    if (code === undefined) throw cause;
    throw new InputError(
      '--filename',
      filename,
      code === 'ENOENT' ? 'a file that exists' : `a readable file (${code})`,
    );
  }
}

function typeOf(env: Environment): string {
  return env['CALICO_DATASTORE_TYPE'] || env['DATASTORE_TYPE'] || 'etcdv3';
}

function formOf(env: Environment): Form {
  return typeOf(env) === 'kubernetes' ? 'kubernetes' : 'etcd';
}
