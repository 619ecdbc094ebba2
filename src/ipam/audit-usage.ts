import { bits, type Cidr, cidrParts, contains, type Ip, parseCidr } from '../model/address.ts';
import type { Block } from '../model/ipam.ts';
import { type Held, heldIn, type Index, type Lists, type User } from './audit-index.ts';
import { attributeOf, ordinalOf, sizeOf } from './block.ts';
import { poolOf } from './pools.ts';
import type { Reserved } from './reserved.ts';
import { reservedBy } from './settings.ts';

/* How full pools and blocks are, and who holds an address. Pure. */

export interface BlockUsage {
  readonly cidr: Cidr;
  /** The pool's name; empty when none covers the block. */
  readonly pool: string;
  /** `host:<node>`; empty for a block without owner. */
  readonly affinity: string;
  readonly total: number;
  readonly used: number;
  /** Of these: held for another node than the block's. */
  readonly borrowed: number;
  /** Released, and not given again yet. */
  readonly cooling: number;
  /** Neither, and kept from automatic use by an IPReservation. */
  readonly reserved: number;
  readonly free: number;
}

export interface PoolUsage {
  readonly pool: string;
  readonly cidr: Cidr;
  readonly disabled: boolean;
  /** Decimal, for an IPv6 pool may hold more than 2^53. */
  readonly total: string;
  readonly used: number;
  readonly borrowed: number;
  readonly cooling: number;
  readonly blocks: number;
  /** Decimal: of what is not in use. */
  readonly reserved: string;
  /** Decimal. */
  readonly free: string;
}

export interface AddressUse {
  readonly address: Ip;
  readonly state: 'held' | 'cooling' | 'free' | 'in no block';
  readonly block?: Cidr;
  readonly affinity?: string;
  readonly pool?: string;
  readonly handle?: string;
  readonly attributes?: Readonly<Record<string, string>>;
  /** Names of the IPReservations that keep it from automatic use. */
  readonly reservedBy?: readonly string[];
  /** RFC 3339: when it was released, of one that cools down. */
  readonly releasedAt?: string;
  /** Endpoints that use it: `namespace/pod on node`. */
  readonly usedBy: readonly string[];
}

/** @param within leaves out the blocks that lie outside it */
export function blockUsage({ blocks, pools, reservations }: Lists, within?: Cidr): BlockUsage[] {
  const reserved = reservedBy(reservations.entries.map(({ value }) => value));
  const known = pools.entries.map(({ value }) => value);
  return blocks.entries
    .filter(({ key }) => within === undefined || contains(within, key.cidr))
    .map(({ value }) => ({ pool: poolOf(known, value.cidr)?.metadata.name ?? '', ...usageOf(value, reserved) }));
}

function usageOf(block: Block, reservations: Reserved): Omit<BlockUsage, 'pool'> {
  const isReserved = reservations.ordinalsOf(block.cidr);
  const reserved = isReserved === undefined ? 0 : block.unallocated.filter(isReserved).length;
  const held = heldIn(block);
  const taken = block.allocations.filter((index) => index !== null).length;
  const total = sizeOf(block.cidr);
  return {
    cidr: block.cidr,
    affinity: block.affinity ?? '',
    total,
    used: held.length,
    borrowed: held.filter(isBorrowed).length,
    cooling: taken - held.length,
    reserved,
    free: total - taken - reserved,
  };
}

function isBorrowed({ owner, attributes: { node } }: Held): boolean {
  return node !== undefined && node !== owner;
}

/** Every pool, and what lies in its blocks. */
export function poolUsage(lists: Lists): PoolUsage[] {
  const blocks = blockUsage(lists);
  const reservations = reservedBy(lists.reservations.entries.map(({ value }) => value));
  return lists.pools.entries.map(({ value: { metadata, spec } }) => {
    const cidr = spec.cidr as Cidr;
    const { length, family } = cidrParts(cidr);
    const total = 1n << BigInt(bits(family) - length);
    const own = blocks.filter(({ pool }) => pool === metadata.name);
    const sum = (field: 'used' | 'borrowed' | 'cooling') => own.reduce((total, each) => total + each[field], 0);
    const [used, cooling] = [sum('used'), sum('cooling')];
    // Outside blocks nothing is in use.
    const inBlocks = own.reduce((all, block) => all + reservations.countIn(block.cidr), 0n);
    const reserved = reservations.countIn(cidr) - inBlocks + BigInt(own.reduce((all, each) => all + each.reserved, 0));
    return {
      ...{ pool: metadata.name, cidr, disabled: spec.disabled, total: `${total}`, used },
      ...{ borrowed: sum('borrowed'), cooling, blocks: own.length, reserved: `${reserved}` },
      free: `${total - BigInt(used + cooling) - reserved}`,
    };
  });
}

/** Who holds and who uses one address. */
export function addressUse(address: Ip, lists: Lists, { held, users, blocks }: Index): AddressUse {
  const usedBy = (users.get(address) ?? []).map(nameOf);
  const block = [...blocks.values()].find(({ cidr }) => contains(cidr, address));
  const pool = poolOf(
    lists.pools.entries.map(({ value }) => value),
    address,
  )?.metadata.name;
  const names = lists.reservations.entries
    .filter(({ value }) => value.spec.reservedCIDRs.some((text) => contains(parseCidr(text), address)))
    .map(({ key }) => key.name);
  const place = {
    address,
    ...(pool !== undefined && { pool }),
    ...(names.length > 0 && { reservedBy: names }),
    usedBy,
  };
  if (block === undefined) return { ...place, state: 'in no block' };
  const within = { ...place, block: block.cidr, ...(block.affinity && { affinity: block.affinity }) };
  const holder = held.find((each) => each.address === address);
  if (holder) {
    const { handle, attributes } = holder;
    return { ...within, state: 'held', ...(handle !== undefined && { handle }), attributes };
  }
  const releasedAt = attributeOf(block, ordinalOf(block, address) ?? -1)?.releasedAt;
  return releasedAt === undefined ? { ...within, state: 'free' } : { ...within, state: 'cooling', releasedAt };
}

function nameOf({ name, node }: User): string {
  return `${name} on ${node}`;
}

/** Addresses in use within a prefix, with who holds them, in the order of their blocks. */
export function heldWithin(within: Cidr, { held, users }: Index): (Held & { readonly usedBy: readonly string[] })[] {
  return held
    .filter(({ address }) => contains(within, address))
    .map((each) => ({ ...each, usedBy: (users.get(each.address) ?? []).map(nameOf) }));
}
