import { mkdir, open, readFile, rename, rm } from 'node:fs/promises';
import { dirname } from 'node:path';
import { errorCode, InputError } from '../../base/errors.ts';
import type { Cidr, Ip } from '../../model/address.ts';
import type { Takeover } from './pair.ts';

/*
 * What apply did on this node and how it was before. It is written before each step, so that after a crash it names at
 * least what was done; rollback undoes all it names, done or not.
 */

export interface EndpointRecord {
  readonly namespace: string;
  readonly name: string;
  /** Apply made it; otherwise it only named container and MAC in it. */
  readonly created: boolean;
}

export interface MigrationRecord {
  readonly version: 1;
  readonly node: string;
  readonly endpoints: readonly EndpointRecord[];
  readonly takeovers: readonly Takeover[];
  /** Blocks that were claimed. */
  readonly blocks: readonly Cidr[];
  readonly addresses: readonly { readonly address: Ip; readonly handle: string }[];
  /** Pools that were made. */
  readonly pools: readonly string[];
}

export function emptyRecord(node: string): MigrationRecord {
  return { version: 1, node, endpoints: [], takeovers: [], blocks: [], addresses: [], pools: [] };
}

/** @returns undefined when there is none. @throws InputError for one that cannot be read, or of another node */
export async function readRecord(path: string, node: string): Promise<MigrationRecord | undefined> {
  let text: string;
  try {
    text = await readFile(path, 'utf8');
  } catch (thrown) {
    if (errorCode(thrown) === 'ENOENT') return undefined;
    throw new InputError('--record', path, `a file that can be read (${errorCode(thrown)})`, { cause: thrown });
  }
  const found = parseRecord(text, path);
  if (found.node !== node) throw new InputError(`${path}: node`, found.node, node);
  return found;
}

function parseRecord(text: string, path: string): MigrationRecord {
  try {
    const found = JSON.parse(text) as Partial<MigrationRecord>;
    const lists = [found.endpoints, found.takeovers, found.blocks, found.addresses, found.pools];
    if (found.version === 1 && typeof found.node === 'string' && lists.every(Array.isArray))
      return found as MigrationRecord;
  } catch (cause) {
    if (!(cause instanceof SyntaxError)) throw cause;
    throw new InputError(path, text.slice(0, 60), 'the record of an apply', { cause });
  }
  throw new InputError(path, text.slice(0, 60), 'the record of an apply');
}

/** On the disk when it resolves: the step after it may be the last of this machine. */
export async function writeRecord(path: string, record: MigrationRecord): Promise<void> {
  const temporary = `${path}.${process.pid}.tmp`;
  try {
    await mkdir(dirname(path), { recursive: true, mode: 0o755 });
    const file = await open(temporary, 'w', 0o600);
    try {
      await file.writeFile(`${JSON.stringify(record, null, 2)}\n`);
      await file.sync();
    } finally {
      await file.close();
    }
    await rename(temporary, path);
  } catch (cause) {
    await rm(temporary, { force: true });
    throw new InputError('--record', path, `a file that can be written (${errorCode(cause)})`, { cause });
  }
}

export async function removeRecord(path: string): Promise<void> {
  await rm(path, { force: true });
}
