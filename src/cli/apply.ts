import { isUtf8 } from 'node:buffer';
import { readFileSync, statSync } from 'node:fs';
import { isDeepStrictEqual } from 'node:util';
import type { Clock } from '../base/clock.ts';
import { errorCode, InputError } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import type { Entry, Store, Type, Value } from '../datastore/store.ts';
import type { Kind } from '../model/kinds.ts';
import type { Resource } from '../model/resource.ts';
import { largestManifest, type Manifest } from './documents.ts';
import { type Upserted, upsert } from './upsert.ts';

/** The text of a file, or of standard input for `-`. @throws InputError when it is missing, no file, no text or too long */
export async function readInput(file: string): Promise<string> {
  if (file === '-') return readStandardInput();
  try {
    const { size } = statSync(file);
    if (size > largestManifest) throw new InputError(file, `${size} octets`, `at most ${largestManifest} octets`);
    return textOf(readFileSync(file), file);
  } catch (cause) {
    const code = errorCode(cause);
    if (code === undefined || cause instanceof InputError) throw cause;
    throw new InputError('--filename', file, wanted[code] ?? `a readable file (${code})`);
  }
}

const wanted: Readonly<Record<string, string>> = {
  ENOENT: 'a file that exists',
  EISDIR: 'a file, not a directory',
  EACCES: 'a file that you may read',
};

/** YAML 1.2 §5.2 is UTF-8 in all that Kubernetes' tools write. @throws InputError for octets that are none */
function textOf(octets: Buffer, file: string): string {
  if (!isUtf8(octets)) throw new InputError(file, 'octets that are no UTF-8', 'a text: YAML or JSON');
  return octets.toString('utf8');
}

async function readStandardInput(): Promise<string> {
  const chunks: Buffer[] = [];
  let size = 0;
  for await (const chunk of process.stdin) {
    chunks.push(chunk as Buffer);
    size += (chunk as Buffer).length;
    if (size > largestManifest)
      throw new InputError('standard input', `more than ${size} octets`, `at most ${largestManifest} octets`);
  }
  return textOf(Buffer.concat(chunks), 'standard input');
}

export interface Deps {
  readonly store: Store;
  readonly clock: Clock;
  readonly log: Log;
}

/** Creates or updates one resource; what the datastore keeps of its metadata (uid, creation time) stays. */
export function applyOne(manifest: Manifest, deps: Deps): Promise<Upserted> {
  const value = manifest.value as Resource;
  const change = (current: Entry<Type> | undefined): Value<Type> | undefined => {
    if (!current) return manifest.value;
    const before = current.value as Resource;
    const { uid, creationTimestamp } = before.metadata;
    const kept = { ...(uid ? { uid } : {}), ...(creationTimestamp ? { creationTimestamp } : {}) };
    const { resourceVersion: _stored, ...beforeMetadata } = before.metadata;
    const { resourceVersion: _given, ...metadata } = value.metadata;
    const next = { ...value, metadata: { ...metadata, ...kept } };
    return isDeepStrictEqual({ ...before, metadata: beforeMetadata }, next) ? undefined : (next as Value<Type>);
  };
  return upsert<Type>(deps.store, manifest.key, change, deps);
}

/** True when it was there. */
export async function deleteOne(
  key: { type: Kind; name: string; namespace?: string },
  { store }: Deps,
): Promise<boolean> {
  const { outcome } = await store.delete(key as Parameters<Store['delete']>[0]);
  return outcome === 'written';
}
