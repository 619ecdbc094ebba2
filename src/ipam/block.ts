import { bits, type Cidr, cidrParts, contains, type Ip, ipFromNumber, ipNumber } from '../model/address.ts';
import { type AllocationAttribute, type Block, ownerParts } from '../model/ipam.ts';
import type { ReservedOrdinals } from './reserved.ts';
import { rfc3339, unixNano } from './time.ts';

/*
 * The bookkeeping inside one block. Everything here is pure and gives the block as it should be written next: changes
 * raise `sequenceNumber` by one per write, and an allocation remembers the number before that.
 */

/** Calico for Windows keeps its own addresses under this handle; they don't make a block used. */
export const windowsReserved = 'windows-reserved-ipam-handle';

/** Addresses in a block. */
export function sizeOf(cidr: Cidr): number {
  const { length, family } = cidrParts(cidr);
  return 2 ** (bits(family) - length);
}

/** A block that nothing is allocated from. */
export function newBlock(cidr: Cidr, node: string, now: Date): Block {
  const size = sizeOf(cidr);
  return {
    cidr,
    affinity: affinityOf(node),
    affinity_claim_time: rfc3339(now),
    allocations: Array.from({ length: size }, () => null),
    unallocated: Array.from({ length: size }, (_, at) => at),
    attributes: null,
    sequenceNumber: unixNano(now),
    sequenceNumberForAllocation: {},
    deleted: false,
  };
}

/** @param owner a node's name, or `virtual:<name>` */
export function affinityOf(owner: string): string {
  const { type, name } = ownerParts(owner);
  return `${type}:${name}`;
}

/** @param ordinal index into the block's `allocations`: 0 is its first address. Not checked against its size. */
export function addressAt(block: Block, ordinal: number): Ip {
  const { address, family } = cidrParts(block.cidr);
  return ipFromNumber(ipNumber(address) + BigInt(ordinal), family);
}

/** Undefined when the address lies outside the block. */
export function ordinalOf(block: Block, address: Ip): number | undefined {
  if (!contains(block.cidr, address)) return undefined;
  return Number(ipNumber(address) - ipNumber(cidrParts(block.cidr).address));
}

/** Handles compare up to the first carriage return. */
export function sameHandle(a: string | null | undefined, b: string): boolean {
  return a !== null && a !== undefined && cut(a) === cut(b);
}

function cut(handle: string): string {
  const end = handle.indexOf('\r');
  return end < 0 ? handle : handle.slice(0, end);
}

/** The attribute of an allocated ordinal. */
export function attributeOf(block: Block, ordinal: number): AllocationAttribute | undefined {
  const index = block.allocations[ordinal];
  return index === null || index === undefined ? undefined : block.attributes?.[index];
}

/** Ordinals that a handle holds, ascending; released ones that cool down belong to nobody. */
export function ordinalsOf(block: Block, handle: string): number[] {
  return block.allocations.flatMap((_, ordinal) => {
    const attribute = attributeOf(block, ordinal);
    return attribute && attribute.releasedAt === undefined && sameHandle(attribute.handle_id, handle) ? [ordinal] : [];
  });
}

/** Whether the block may be given up: nothing in it is held, nor cools down. */
export function isEmpty(block: Block): boolean {
  return block.allocations.every(
    (index, ordinal) => index === null || sameHandle(attributeOf(block, ordinal)?.handle_id, windowsReserved),
  );
}

/** The block with the next write's sequence number. */
export function touched(block: Block): Block {
  return { ...block, sequenceNumber: block.sequenceNumber + 1n };
}

/** The block after an allocation; its sequence number stays: raise it once per write with `touched`. */
export interface Taken {
  readonly block: Block;
  readonly address: Ip;
}

/** Whether `allocate` would find an address. */
export function hasFree({ unallocated }: Block, reserved?: ReservedOrdinals): boolean {
  return reserved === undefined ? unallocated.length > 0 : unallocated.some((ordinal) => !reserved(ordinal));
}

/** Takes the address that has been free the longest, none of the reserved. Undefined when there is none. */
export function allocate(block: Block, attribute: AllocationAttribute, reserved?: ReservedOrdinals): Taken | undefined {
  const { unallocated } = block;
  const ordinal = reserved === undefined ? unallocated[0] : unallocated.find((each) => !reserved(each));
  return ordinal === undefined ? undefined : taken(block, ordinal, attribute);
}

/** Takes one address, reserved or not. Undefined when it is not free, or not of this block. */
export function allocateAt(block: Block, address: Ip, attribute: AllocationAttribute): Taken | undefined {
  const ordinal = ordinalOf(block, address);
  if (ordinal === undefined || !block.unallocated.includes(ordinal)) return undefined;
  return taken(block, ordinal, attribute);
}

function taken(block: Block, ordinal: number, attribute: AllocationAttribute): Taken {
  const { attributes, index } = withAttribute(block.attributes ?? [], attribute);
  const next = {
    ...block,
    allocations: block.allocations.with(ordinal, index),
    unallocated: block.unallocated.toSpliced(block.unallocated.indexOf(ordinal), 1),
    attributes,
    sequenceNumberForAllocation: { ...block.sequenceNumberForAllocation, [ordinal]: block.sequenceNumber },
  };
  return { block: next, address: addressAt(block, ordinal) };
}

/** Marks ordinals as released at `now`; `collect` frees them when they have cooled down. Free ones stay free. */
export function release(block: Block, ordinals: readonly number[], now: Date): Block {
  const held = ordinals.filter((ordinal) => typeof block.allocations[ordinal] === 'number');
  if (held.length === 0) return block;
  const { attributes, index } = withAttribute(block.attributes ?? [], { releasedAt: rfc3339(now) });
  const allocations = [...block.allocations];
  for (const ordinal of held) allocations[ordinal] = index;
  return { ...block, allocations, attributes };
}

/**
 * Frees what was released more than `cooldownSeconds` ago (at once for 0): the ordinals join the end of the queue, and
 * attributes that nothing refers to any more are left out.
 */
export function collect(block: Block, now: Date, cooldownSeconds: number): Block {
  const attributes = block.attributes ?? [];
  if (attributes.every(({ releasedAt }) => releasedAt === undefined)) return block;
  const cooled = attributes.map(({ releasedAt }) => hasCooled(releasedAt, now, cooldownSeconds));
  const freed = block.allocations.flatMap((index, ordinal) => (index !== null && cooled[index] ? [ordinal] : []));
  if (freed.length === 0) return block;
  const allocations = [...block.allocations];
  const sequences = { ...block.sequenceNumberForAllocation };
  for (const ordinal of freed) {
    allocations[ordinal] = null;
    delete sequences[ordinal];
  }
  return {
    ...block,
    ...compacted(allocations, attributes),
    unallocated: [...block.unallocated, ...freed],
    sequenceNumberForAllocation: sequences,
  };
}

function hasCooled(releasedAt: string | undefined, now: Date, cooldownSeconds: number): boolean {
  if (releasedAt === undefined) return false;
  const at = Date.parse(releasedAt);
  // A stamp that no clock wrote would keep its addresses for ever.
  return cooldownSeconds === 0 || Number.isNaN(at) || at < now.getTime() - cooldownSeconds * 1000;
}

function compacted(allocations: readonly (number | null)[], attributes: readonly AllocationAttribute[]) {
  const used = new Set(allocations);
  const moved = new Map<number, number>();
  const kept = attributes.filter((_, index) => {
    if (used.has(index)) moved.set(index, moved.size);
    return used.has(index);
  });
  return {
    allocations: allocations.map((index) => (index === null ? null : (moved.get(index) ?? null))),
    attributes: kept,
  };
}

/** Cheaper by far than a comparison of whatever the two may be: a block has hundreds. */
function sameAttribute(a: AllocationAttribute, b: AllocationAttribute): boolean {
  if (a.handle_id !== b.handle_id || a.releasedAt !== b.releasedAt) return false;
  if (!a.secondary || !b.secondary) return a.secondary === b.secondary;
  const fields = Object.entries(a.secondary);
  const { secondary } = b;
  return (
    fields.length === Object.keys(secondary).length &&
    fields.every(([name, value]) => Object.hasOwn(secondary, name) && secondary[name] === value)
  );
}

/** An equal attribute is used again, so that one pod's addresses share theirs. */
function withAttribute(attributes: readonly AllocationAttribute[], wanted: AllocationAttribute) {
  const index = attributes.findIndex((attribute) => sameAttribute(attribute, wanted));
  return index >= 0 ? { attributes, index } : { attributes: [...attributes, wanted], index: attributes.length };
}
