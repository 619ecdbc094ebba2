import { type Cidr, cidrParts, contains, hostCidr, ipFromNumber, ipNumber, parseCidr } from '../model/address.ts';
import type { Block } from '../model/ipam.ts';
import type { Objects } from './objects.ts';

/** This node's blocks, and single addresses that it uses out of others' blocks, inside pools that are exported. */
export function originations({ pools, blocks }: Pick<Objects, 'pools' | 'blocks'>): Cidr[] {
  const exportedPools = [...pools.values()]
    .filter(({ spec }) => !spec.disableBGPExport)
    .map(({ spec }) => parseCidr(spec.cidr));
  return [...blocks].flatMap(([block, own]) => (exportedPools.some((pool) => contains(pool, block)) ? own : [])).sort();
}

/** What a node announces of a block: all of its own, of others' the single addresses that it uses. */
export function ownPartOf(block: Block, nodename: string): readonly Cidr[] {
  if (block.deleted) return [];
  return block.affinity === `host:${nodename}` ? [block.cidr] : borrowed(block, nodename);
}

function borrowed(block: Block, nodename: string): Cidr[] {
  const { address, family } = cidrParts(block.cidr);
  return block.allocations.flatMap((index, ordinal): Cidr[] => {
    const attribute = index === null ? undefined : block.attributes?.[index];
    if (attribute?.secondary?.['node'] !== nodename || attribute.releasedAt !== undefined) return [];
    return [hostCidr(ipFromNumber(ipNumber(address) + BigInt(ordinal), family))];
  });
}
