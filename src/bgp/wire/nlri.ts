import { type Reader, Writer } from '../../base/bytes.ts';
import { bits, type Cidr, cidrOf, cidrParts, type Family, ipBytes, octets } from '../../model/address.ts';
import { subcodes, WireError } from './errors.ts';

/** Prefixes of one family as they stand on the wire, checked. */
export interface PrefixBlock {
  readonly family: Family;
  readonly octets: Uint8Array;
}

/** Octets that hold `length` bits. */
export function octetsFor(length: number): number {
  return (length + 7) >> 3;
}

/**
 * Takes the rest of `r` as NLRI: each a length in bits, then the fewest octets that hold it. RFC 4271 §4.3, 4760 §5.
 * @throws WireError 3/10, always a reset: where the next prefix begins is no longer known. RFC 7606 §5.3
 */
export function readPrefixes(r: Reader, family: Family, field: string): PrefixBlock {
  const most = bits(family);
  const block = r.bytes(r.left, field);
  let at = 0;
  while (at < block.length) {
    const length = block[at] ?? 0;
    if (length > most) throw badNetwork(field, `length ${length} > ${most}`);
    at += 1 + octetsFor(length);
  }
  if (at > block.length) throw badNetwork(field, `${at} octets wanted, ${block.length} there`);
  return { family, octets: block };
}

function badNetwork(field: string, detail: string): WireError {
  return new WireError('update', subcodes.update.badNetwork, 'reset', field, detail);
}

/** Calls `visit` with where each prefix's octets begin, and its length in bits. */
export function eachPrefix(block: PrefixBlock, visit: (octets: Uint8Array, at: number, length: number) => void): void {
  for (let at = 0; at < block.octets.length; ) {
    const length = block.octets[at] ?? 0;
    visit(block.octets, at + 1, length);
    at += 1 + octetsFor(length);
  }
}

/** The prefixes of a block as text, host bits cleared. */
export function cidrsOf(block: PrefixBlock): Cidr[] {
  const found: Cidr[] = [];
  eachPrefix(block, (source, at, length) => {
    const address = new Uint8Array(octets(block.family));
    address.set(source.subarray(at, at + octetsFor(length)));
    found.push(cidrOf(address, length));
  });
  return found;
}

/** The inverse of `cidrsOf`. */
export function blockOf(family: Family, cidrs: readonly Cidr[]): PrefixBlock {
  const w = new Writer(cidrs.length * 8);
  for (const cidr of cidrs) {
    const { address, length } = cidrParts(cidr);
    w.u8(length);
    w.bytes(ipBytes(address).subarray(0, octetsFor(length)));
  }
  return { family, octets: w.finish() };
}
