import type { Write } from '../datastore/store.ts';
import type { Netlink } from '../kernel/types.ts';
import type { Cidr, Family, Ip } from '../model/address.ts';

/* What the CNI handler needs of the parts around it; ipam, kernel and felix fit these. */

export interface Assignment {
  readonly address: Ip;
  readonly block: Cidr;
  readonly pool: string;
}

export interface AddressPool {
  /** One address of each family; with `extra` in the same transaction. */
  assign(
    request: {
      readonly handle: string;
      readonly families: readonly Family[];
      readonly attributes: Readonly<Record<string, string>>;
      readonly pools?: readonly string[];
      readonly extra?: (addresses: readonly Assignment[]) => Write[];
    },
    signal: AbortSignal,
  ): Promise<readonly Assignment[]>;
  /** Frees what the handle holds; nothing held is success. */
  release(request: { readonly handle: string }): Promise<readonly Ip[]>;
  byHandle(handle: string): Promise<readonly Assignment[]>;
}

/** A workload endpoint as felix knows it. */
export interface EndpointRef {
  readonly namespace: string;
  /** Name of the WorkloadEndpoint resource. */
  readonly name: string;
  readonly interfaceName: string;
}

export interface Felix {
  /**
   * Resolves true once the endpoint, as of `revision` or later, has its routes and policy in the kernel, false when
   * the time ran out or the signal aborted.
   */
  whenProgrammed(endpoint: EndpointRef, revision: string, timeoutMs: number, signal: AbortSignal): Promise<boolean>;
  /** Resolves true once nothing of the endpoint is left in the kernel, false when the time ran out. */
  whenRemoved(endpoint: EndpointRef, timeoutMs: number, signal: AbortSignal): Promise<boolean>;
}

/** A pod's own network namespace, open. */
export interface PodNamespace {
  readonly netlink: Netlink;
  /** `net.ipv6.conf.all.disable_ipv6` and its like: some runtimes switch IPv6 off. */
  enableIpv6(): void;
  close(): void;
}

/** Opens the namespace at a path. @throws CniError with code 3 when there is none, or when it is the agent's own */
export type OpenPod = (netns: string) => PodNamespace;
