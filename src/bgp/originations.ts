import { type Cidr, cidrParts, contains, hostCidr, ipFromNumber, ipNumber, parseCidr } from '../model/address.ts';
import type { Block } from '../model/ipam.ts';
import type { Objects } from './objects.ts';

/** This node's blocks, and single addresses that it uses out of others' blocks, inside pools that are exported. */
export function originations({ pools, blocks }: Pick<Objects, 'pools' | 'blocks'>, nodename: string): Cidr[] {
  const exportedPools = [...pools.values()]
    .filter(({ spec }) => !spec.disableBGPExport)
    .map(({ spec }) => parseCidr(spec.cidr));
  const found: Cidr[] = [];
  for (const block of blocks.values()) {
    if (block.deleted || !exportedPools.some((pool) => contains(pool, block.cidr))) continue;
    if (block.affinity === `host:${nodename}`) found.push(block.cidr);
    else found.push(...borrowed(block, nodename));
  }
  return found.sort();
}

function borrowed(block: Block, nodename: string): Cidr[] {
  const { address, family } = cidrParts(block.cidr);
  return block.allocations.flatMap((index, ordinal): Cidr[] => {
    const attribute = index === null ? undefined : block.attributes?.[index];
    if (attribute?.secondary?.['node'] !== nodename || attribute.releasedAt !== undefined) return [];
    return [hostCidr(ipFromNumber(ipNumber(address) + BigInt(ordinal), family))];
  });
}
