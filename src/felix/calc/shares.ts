import { addressAt, attributeOf } from '../../ipam/block.ts';
import { type Cidr, hostCidr } from '../../model/address.ts';
import type { Block } from '../../model/ipam.ts';
import { type Range, rangeOf } from './tunnels.ts';

/** Who has what of a block: its owner all, and the nodes that borrowed from it single addresses. */
export interface Shares {
  readonly parts: readonly { readonly destination: Cidr; readonly range: Range; readonly node: string }[];
}

/** `host:<node>` owns the block; an address whose attributes name another node is that node's. */
export function sharesOf(cidr: Cidr, block: Block): Shares {
  const owner = block.affinity?.startsWith('host:') ? block.affinity.slice(5) : undefined;
  const part = (destination: Cidr, node: string) => ({ destination, range: rangeOf(destination), node });
  const parts = owner === undefined ? [] : [part(cidr, owner)];
  for (const [ordinal, index] of block.allocations.entries()) {
    if (index === null) continue;
    const attribute = attributeOf(block, ordinal);
    const node = attribute?.secondary?.['node'];
    if (node === undefined || node === owner || attribute?.releasedAt !== undefined) continue;
    parts.push(part(hostCidr(addressAt(block, ordinal)), node));
  }
  return { parts };
}

/** Nodes that have something of the block. */
export function nodesOf(shares: Shares | undefined): ReadonlySet<string> {
  return new Set(shares?.parts.map(({ node }) => node));
}
