import { type Reader, Writer } from '../../base/bytes.ts';
import { bits, type Cidr, cidrOf, cidrParts, type Family, ipBytes, octets } from '../../model/address.ts';
import { subcodes, WireError } from './errors.ts';

/** Prefixes of one family as they stand on the wire, checked. */
export interface PrefixBlock {
  readonly family: Family;
  readonly octets: Uint8Array;
  /** A path identifier of four octets stands before each prefix. RFC 7911 §3. */
  readonly paths?: true;
}

/** Octets that hold `length` bits. */
export function octetsFor(length: number): number {
  return (length + 7) >> 3;
}

/**
 * Takes the rest of `r` as NLRI: each a length in bits, then the fewest octets that hold it. RFC 4271 §4.3, 4760 §5.
 * @throws WireError 3/10, always a reset: where the next prefix begins is no longer known. RFC 7606 §5.3
 */
export function readPrefixes(r: Reader, family: Family, field: string, paths = false): PrefixBlock {
  return prefixBlock(r.bytes(r.left, field), family, field, paths);
}

/** The same of octets that are nothing but NLRI. @throws WireError 3/10 */
export function prefixBlock(block: Uint8Array, family: Family, field: string, paths: boolean): PrefixBlock {
  const most = bits(family);
  let at = 0;
  const skipped = paths ? 4 : 0;
  while (at < block.length) {
    at += skipped;
    const length = block[at] ?? 0;
    if (length > most) throw badNetwork(field, `length ${length} > ${most}`);
    at += 1 + octetsFor(length);
  }
  if (at > block.length) throw badNetwork(field, `${at} octets wanted, ${block.length} there`);
  return paths ? { family, octets: block, paths } : { family, octets: block };
}

function badNetwork(field: string, detail: string): WireError {
  return new WireError('update', subcodes.update.badNetwork, 'reset', field, detail);
}

/** Calls `visit` with where each prefix's octets begin, its length in bits, and its path identifier (0: none). */
export function eachPrefix(
  { octets, paths }: PrefixBlock,
  visit: (octets: Uint8Array, at: number, length: number, pathId: number) => void,
): void {
  for (let at = 0; at < octets.length; ) {
    const pathId = paths ? pathIdAt(octets, at) : 0;
    if (paths) at += 4;
    const length = octets[at] ?? 0;
    visit(octets, at + 1, length, pathId);
    at += 1 + octetsFor(length);
  }
}

/** The path identifier that begins there. */
export function pathIdAt(from: Uint8Array, at: number): number {
  const low = ((from[at + 1] ?? 0) << 16) | ((from[at + 2] ?? 0) << 8) | (from[at + 3] ?? 0);
  return (from[at] ?? 0) * 0x1000000 + low;
}

/** The prefix whose octets begin there, host bits cleared. */
export function prefixAt(family: Family, from: Uint8Array, at: number, length: number): Cidr {
  const address = new Uint8Array(octets(family));
  address.set(from.subarray(at, at + octetsFor(length)));
  return cidrOf(address, length);
}

/** The prefixes of a block as text, host bits cleared. */
export function cidrsOf(block: PrefixBlock): Cidr[] {
  const found: Cidr[] = [];
  eachPrefix(block, (source, at, length) => found.push(prefixAt(block.family, source, at, length)));
  return found;
}

/** A prefix, or one of its paths. RFC 7911. */
export type PathCidr = Cidr | { readonly prefix: Cidr; readonly pathId: number };

/** The prefixes of a block, with their path identifiers where it has any. */
export function pathCidrsOf(block: PrefixBlock): PathCidr[] {
  const prefixes = cidrsOf(block);
  if (!block.paths) return prefixes;
  const pathIds: number[] = [];
  eachPrefix(block, (_octets, _at, _length, pathId) => pathIds.push(pathId));
  return prefixes.map((prefix, i) => ({ prefix, pathId: pathIds[i] ?? 0 }));
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
