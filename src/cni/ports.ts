import type { Key, Write } from '../datastore/store.ts';
import type { Link, Netlink } from '../kernel/types.ts';
import type { Cidr, Family, Ip } from '../model/address.ts';
import type { WorkloadEndpoint } from '../model/kinds.ts';

/* What the CNI handler needs of the parts around it; ipam, kernel and felix fit these. */

export interface Assignment {
  readonly address: Ip;
  readonly block: Cidr;
  readonly pool: string;
}

export interface AddressPool {
  /**
   * One address of each family, in one transaction with `extra`; node and time are added to `attributes`.
   * @throws WriteConflictError when a write of `extra` does not fit what is stored; nothing was written then
   */
  assign(
    request: {
      readonly handle: string;
      readonly families: readonly Family[];
      readonly attributes: Readonly<Record<string, string>>;
      readonly pools?: readonly string[];
      /** These very addresses, at most one of each family. */
      readonly addresses?: readonly Ip[];
      /** Of the pod's namespace; without them, pools that select namespaces are not for it. */
      readonly namespaceLabels?: Readonly<Record<string, string>>;
      readonly extra?: (addresses: readonly Assignment[]) => readonly Write[];
      /** Told the revisions of `extra`, in its order, before `assign` resolves. */
      readonly onWritten?: (revisions: readonly (string | undefined)[]) => void;
    },
    signal: AbortSignal,
  ): Promise<readonly Assignment[]>;
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
