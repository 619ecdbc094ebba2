import type { Key, Write } from '../datastore/store.ts';
import type { AssignRequest, Assignment as Held } from '../ipam/allocator.ts';
import type { Link, Netlink } from '../kernel/types.ts';
import type { Family, Ip } from '../model/address.ts';
import type { WorkloadEndpoint } from '../model/kinds.ts';

/* What the CNI handler needs of the parts around it; ipam, kernel and felix fit these. */

export type Assignment = Pick<Held, 'address' | 'block' | 'pool'>;

/** As IPAM's own, told no more of what it gave than is used here. */
export interface AddressRequest extends Omit<AssignRequest, 'use' | 'extra'> {
  /** Writes that belong to the same transaction, such as the workload endpoint's. */
  readonly extra?: (addresses: readonly Assignment[]) => readonly Write[];
}

export interface AddressPool {
  /**
   * One address of each family, in one transaction with `extra`; node and time are added to `attributes`.
   * @throws WriteConflictError when a write of `extra` does not fit what is stored; nothing was written then
   */
  assign(request: AddressRequest, signal: AbortSignal): Promise<readonly Assignment[]>;
  /** Frees what the handle holds; nothing held is success. */
  release(request: { readonly handle: string }): Promise<readonly Ip[]>;
  byHandle(handle: string): Promise<readonly Assignment[]>;
  /** IDs of a network's containers that hold an address, where blocks in the datastore do not tell. */
  containers?(network: string): Promise<readonly string[]>;
}

/** What felix is told of an endpoint that is being written. */
export interface Announcement {
  /** It is stored. @param value as written. @param revision of the transaction */
  confirm(value: WorkloadEndpoint, revision: string): void;
  /** It is not stored, or must go again. */
  withdraw(): void;
}

export interface Felix {
  /**
   * An endpoint of this node is about to be written: felix need not wait for the datastore to tell of it.
   * @param value without addresses, which are not certain yet
   * @param families of which it will have addresses
   * @returns undefined when felix knows the endpoint already
   */
  announce(
    key: Key<'WorkloadEndpoint'>,
    value: WorkloadEndpoint,
    families: readonly Family[],
  ): Announcement | undefined;
  /** A device was made; felix need not wait for the kernel to tell of it. */
  deviceMade(link: Link): void;
  /**
   * Waits until the chains, settings and routes of an endpoint stand in the kernel.
   * @param endpoint `keyText` of its key
   * @param revision of the stored object, or a later one
   */
  whenProgrammed(
    endpoint: string,
    revision: string,
    timeoutMs: number,
    signal: AbortSignal,
  ): Promise<'programmed' | 'timeout'>;
  /** Waits until nothing of an endpoint is left in the kernel. */
  whenRemoved(endpoint: string, timeoutMs: number, signal: AbortSignal): Promise<'removed' | 'timeout'>;
}

/** A pod's own network namespace. */
export interface PodNamespace {
  /** Opened when it is first asked for. @throws CniError, KernelError */
  readonly netlink: Netlink;
  /** `net.ipv6.conf.all.disable_ipv6` and its like: some runtimes switch IPv6 off. */
  enableIpv6(): void;
  close(): void;
}

/** The namespace at a path. @throws CniError with code 3 when there is none, or when it is the agent's own */
export type OpenPod = (netns: string) => PodNamespace;
