import { isDeepStrictEqual } from 'node:util';
import { InputError } from '../base/errors.ts';
import type { Entry, Store, Write } from '../datastore/store.ts';
import { splitPool } from '../ipam/split.ts';
import { parseCidr } from '../model/address.ts';
import { type IpPool, parseResource } from '../model/kinds.ts';
import type { Deps } from './apply.ts';
import { ExitError, exitCode } from './exit.ts';

export interface SplitOptions {
  readonly cidr?: string;
  readonly name?: string;
}

/**
 * Puts smaller pools in the place of one; addresses, blocks and handles stay as they are. In one transaction where the
 * store has them; elsewhere a run that broke off is run again.
 * @throws InputError; ExitError when the datastore is not locked, or another pool is in the way
 */
export async function splitIpam(number: string, options: SplitOptions, { store }: Deps): Promise<void> {
  if (!/^\d{1,4}$/.test(number)) throw new InputError('number', number, 'a power of two');
  await requireLocked(store);
  const found = await findPool(options, store);
  const children = splitPool(found.value, Number(number)).map((pool) => parseResource('IPPool', pool));
  const missing = await absent(children, store);
  const writes = missing.map((value): Write => {
    return { op: 'create', key: { type: 'IPPool', name: value.metadata.name }, value };
  });
  const { outcome } = await store.transact([...writes, { op: 'delete', key: found.key, revision: found.revision }]);
  if (outcome !== 'written')
    throw new ExitError(exitCode.failure, 'pools were changed at the same time; look at them and run it again');
  for (const { metadata, spec } of children) process.stdout.write(`IPPool ${metadata.name}: ${spec.cidr}\n`);
  process.stdout.write(`IPPool ${found.value.metadata.name} (${found.value.spec.cidr}) is gone\n`);
}

async function requireLocked(store: Store): Promise<void> {
  const cluster = await store.get({ type: 'ClusterInformation', name: 'default' });
  if (cluster?.value.spec.datastoreReady === false) return;
  throw new ExitError(exitCode.failure, 'the datastore is not locked: margayctl datastore migrate lock comes first');
}

async function findPool({ cidr, name }: SplitOptions, store: Store): Promise<Entry<'IPPool'>> {
  if ((cidr === undefined) === (name === undefined))
    throw new ExitError(exitCode.usage, 'split takes either --cidr or --name');
  const wanted = cidr === undefined ? undefined : parseCidr(cidr, '--cidr');
  const { entries } = await store.list('IPPool');
  const found = entries.find(({ key, value }) =>
    wanted === undefined ? key.name === name : parseCidr(value.spec.cidr) === wanted,
  );
  if (found) return found;
  throw new InputError(cidr === undefined ? '--name' : '--cidr', name ?? cidr, 'a pool that exists');
}

/** Those that an earlier run has not made. @throws ExitError when one of another form has the name */
async function absent(children: readonly IpPool[], store: Store): Promise<readonly IpPool[]> {
  const missing: IpPool[] = [];
  for (const child of children) {
    const { name } = child.metadata;
    const there = await store.get({ type: 'IPPool', name });
    if (there === undefined) missing.push(child);
    else if (!isDeepStrictEqual(there.value.spec, child.spec))
      throw new ExitError(exitCode.failure, `there is an IPPool ${name} already (${there.value.spec.cidr})`);
  }
  return missing;
}
