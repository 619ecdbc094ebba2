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

/** The text of a file, or of standard input for `-`. @throws InputError when it is missing, not a file or too long */
export async function readInput(file: string): Promise<string> {
  if (file === '-') return readStandardInput();
  try {
    const { size } = statSync(file);
    if (size > largestManifest) throw new InputError(file, `${size} octets`, `at most ${largestManifest} octets`);
    return readFileSync(file, 'utf8');
  } catch (cause) {
    const code = errorCode(cause);
    if (code === undefined) throw cause;
    throw new InputError('--filename', file, code === 'ENOENT' ? 'a file that exists' : `a readable file (${code})`);
  }
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
  return Buffer.concat(chunks).toString('utf8');
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
