import type { Cidr } from './address.ts';

/* IPAM objects in Calico's own JSON shapes (etcd form). Sequence numbers exceed 2^53 and are bigint throughout. */

export interface AllocationAttribute {
  readonly handle_id?: string | null;
  readonly secondary?: Readonly<Record<string, string>> | null;
  /** RFC 3339, whole seconds, UTC; set while a released address cools down. */
  readonly releasedAt?: string;
}

/** `/calico/ipam/v2/assignment/ipv4/block/10.65.3.64-26` */
export interface Block {
  readonly cidr: Cidr;
  /** `host:<node>` or `virtual:<name>`; absent or null when nobody owns the block. */
  readonly affinity?: string | null;
  readonly affinity_claim_time?: string | null;
  /** Ordinal → index into `attributes`, or null when free. */
  readonly allocations: readonly (number | null)[];
  /** Free ordinals, first in first out. */
  readonly unallocated: readonly number[];
  readonly attributes: readonly AllocationAttribute[] | null;
  readonly sequenceNumber: bigint;
  readonly sequenceNumberForAllocation: Readonly<Record<string, bigint>>;
  readonly deleted: boolean;
}

/** `/calico/ipam/v2/host/<node>/ipv4/block/10.65.3.64-26` */
export interface BlockAffinity {
  /** The empty text, found in old data, counts as confirmed. */
  readonly state: 'pending' | 'confirmed' | 'pendingDeletion' | '';
  readonly deleted: boolean;
}

/** `/calico/ipam/v2/handle/<id>`: how many addresses of which block. Counts may overestimate, never the reverse. */
export interface Handle {
  readonly block: Readonly<Record<string, number>>;
  readonly deleted: boolean;
}

/** `/calico/ipam/v2/config` */
export interface IpamConfig {
  readonly strict_affinity?: boolean;
  readonly auto_allocate_blocks?: boolean;
  /** 0 or absent: 20. */
  readonly maxBlocksPerHost?: number;
  /** How long a released address is not used again. */
  readonly ipCooldownSeconds?: number;
}

/** Owner of the blocks that services' addresses come from: as it stands in a block's affinity. */
export const loadBalancer = 'virtual:load-balancer';

/** What owns a block: a node by its name, or something that is none, `virtual:<name>`. No node's name has a colon. */
export function ownerParts(owner: string): { readonly type: 'host' | 'virtual'; readonly name: string } {
  return owner.startsWith('virtual:')
    ? { type: 'virtual', name: owner.slice('virtual:'.length) }
    : { type: 'host', name: owner };
}
