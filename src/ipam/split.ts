import { InputError } from '../base/errors.ts';
import { bits, type Cidr, cidrOf, cidrParts, ipBytes, ipFromNumber, ipNumber, parseCidr } from '../model/address.ts';
import type { IpPool } from '../model/kinds.ts';
import { blockLengthOf } from './pools.ts';

/* A pool cut into equal smaller ones, which together hold the same addresses and blocks. Pure. */

/** Most pools at once: they are one transaction, and etcd takes 128 writes in it. */
const most = 64;

/**
 * The pools to take the place of one: `split-<name>-<n>`, otherwise like it.
 * @param count a power of two
 * @throws InputError for another count, or one that would cut blocks
 */
export function splitPool(pool: IpPool, count: number): IpPool[] {
  const power = Math.log2(count);
  if (!Number.isInteger(power) || count < 2 || count > most)
    throw new InputError('number', count, `a power of two from 2 to ${most}`);
  const cidr = parseCidr(pool.spec.cidr);
  const length = cidrParts(cidr).length + power;
  const blockLength = blockLengthOf(pool);
  if (length > blockLength)
    throw new InputError(
      'number',
      count,
      `at most ${2 ** (blockLength - cidrParts(cidr).length)}, as blocks are /${blockLength}`,
    );
  return parts(cidr, count, length).map((part, at) => {
    const { labels, annotations, name } = pool.metadata;
    const metadata = { name: childName(name, at), ...(labels && { labels }), ...(annotations && { annotations }) };
    return { ...pool, metadata, spec: { ...pool.spec, cidr: part } };
  });
}

/** Names of objects have at most 253 characters. */
function childName(name: string, at: number): string {
  const ending = `-${at}`;
  return `split-${name.slice(0, 253 - 'split-'.length - ending.length)}${ending}`;
}

function parts(cidr: Cidr, count: number, length: number): Cidr[] {
  const { address, family } = cidrParts(cidr);
  const size = 1n << BigInt(bits(family) - length);
  const first = ipNumber(address);
  return Array.from({ length: count }, (_, at) =>
    cidrOf(ipBytes(ipFromNumber(first + BigInt(at) * size, family)), length),
  );
}
