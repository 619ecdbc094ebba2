import { CniError } from '../../cni/error.ts';
import type { Store } from '../../datastore/store.ts';
import { releaseAffinity, type Scene } from '../../ipam/affinity.ts';
import { HolderMismatchError } from '../../ipam/errors.ts';
import { KernelError, type Netlink } from '../../kernel/types.ts';
import type { Ip } from '../../model/address.ts';
import { giveBack, type InPod } from './pair.ts';
import type { MigrationRecord } from './record.ts';

/*
 * Undoes what a record names, in the reverse order. What is undone already, or has gone on its own (a pod that ended
 * meanwhile), is success; so it may be run again after any break.
 */

export interface RollingBack {
  readonly scene: Scene;
  readonly host: Netlink;
  readonly inPod: InPod;
  /** Frees addresses of one handle; unknown ones are success. */
  readonly release: (requests: readonly { readonly address: Ip; readonly handle: string }[]) => Promise<unknown>;
  readonly done: (text: string) => void;
  readonly signal: AbortSignal;
}

/** @throws StoreUnavailableError, KernelError; the record then still says what is left */
export async function rollBack(record: MigrationRecord, deps: RollingBack): Promise<void> {
  const { scene, host, inPod, done, signal } = deps;
  for (const name of record.pools) await removePool(scene.store, name, done);
  signal.throwIfAborted();
  for (const takeover of record.takeovers.toReversed()) {
    try {
      giveBack(host, inPod, takeover);
      done(`${takeover.device} is ${takeover.pair.hostDevice} again`);
    } catch (thrown) {
      // Of a pod that ended meanwhile there is neither namespace nor device.
      if (!isGone(thrown)) throw thrown;
      done(`${takeover.device}: its pod has ended`);
    }
  }
  for (const { namespace, name, created } of record.endpoints)
    if (created || !scene.store.atomic) await removeEndpoint(scene.store, namespace, name);
  await freeAddresses(record, deps);
  for (const cidr of record.blocks) {
    const free = await releaseAffinity(scene, record.node, cidr, { onlyEmpty: true });
    done(free ? `block ${cidr} is given up` : `block ${cidr} stays: pods that Margay started have addresses in it`);
  }
}

function isGone(thrown: unknown): boolean {
  return thrown instanceof CniError || (thrown instanceof KernelError && thrown.code === 'ENODEV');
}

/** An address that changed hands since is not ours to free. */
async function freeAddresses({ addresses }: MigrationRecord, { release, scene: { log } }: RollingBack): Promise<void> {
  for (const each of addresses) {
    try {
      await release([each]);
    } catch (thrown) {
      if (!(thrown instanceof HolderMismatchError)) throw thrown;
      log.info({ ...each }, 'the address was given to another since, and stays');
    }
  }
}

async function removePool(store: Store, name: string, done: (text: string) => void): Promise<void> {
  const { outcome } = await store.delete({ type: 'IPPool', name });
  if (outcome === 'written') done(`IPPool ${name} is gone`);
}

async function removeEndpoint(store: Store, namespace: string, name: string): Promise<void> {
  const key = { type: 'WorkloadEndpoint', namespace, name } as const;
  if ((await store.get(key)) !== undefined) await store.delete(key);
}
