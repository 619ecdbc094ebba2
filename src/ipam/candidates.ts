import { createHash } from 'node:crypto';
import { bits, type Cidr, cidrOf, cidrParts, ipBytes, ipFromNumber, ipNumber } from '../model/address.ts';
import { blockCount, type UsablePool } from './pools.ts';

/**
 * The blocks of a pool that are not in `used`, each once, beginning at a place that depends on the node, so that nodes
 * that start together seldom reach for the same block.
 */
export function* freeBlocks(pool: UsablePool, node: string, used: ReadonlySet<Cidr>): Generator<Cidr, void> {
  const count = blockCount(pool);
  const size = 1n << BigInt(bits(pool.family) - pool.blockLength);
  const base = ipNumber(cidrParts(pool.cidr).address);
  const start = createHash('sha256').update(node).digest().readBigUInt64BE() % count;
  for (let step = 0n; step < count; step++) {
    const address = ipFromNumber(base + ((start + step) % count) * size, pool.family);
    const cidr = cidrOf(ipBytes(address), pool.blockLength);
    if (!used.has(cidr)) yield cidr;
  }
}
