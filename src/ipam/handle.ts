import type { Cidr } from '../model/address.ts';
import type { Handle } from '../model/ipam.ts';

/* How many addresses of which block a handle holds. Counts may be too high after a crash, never too low. */

/** The handle after `count` more addresses of the block. */
export function increment(handle: Handle | undefined, block: Cidr, count = 1): Handle {
  const before = handle ?? { block: {}, deleted: false };
  return { ...before, block: { ...before.block, [block]: (before.block[block] ?? 0) + count } };
}

/** The handle after `count` fewer; undefined when it holds nothing any more. */
export function decrement(handle: Handle, block: Cidr, count = 1): Handle | undefined {
  const { [block]: before = 0, ...others } = handle.block;
  const left = before - count;
  const counts = left > 0 ? { ...others, [block]: left } : others;
  return Object.keys(counts).length === 0 ? undefined : { ...handle, block: counts };
}
