import type { Entry, InvalidEntry, Store, Type } from '../datastore/store.ts';
import { type Cidr, cidrOf, cidrParts, contains, type Ip, ipBytes, parseCidr } from '../model/address.ts';
import type { Block } from '../model/ipam.ts';
import type { Node } from '../model/kinds.ts';
import { addressAt, attributeOf } from './block.ts';

/* What the store's lists say about addresses, arranged for looking up. Pure. */

export interface Page<T extends Type> {
  readonly entries: readonly Entry<T>[];
  readonly invalid: readonly InvalidEntry[];
}

/** All that an audit looks at. */
export interface Lists {
  readonly blocks: Page<'Block'>;
  readonly affinities: Page<'BlockAffinity'>;
  readonly handles: Page<'Handle'>;
  readonly endpoints: Page<'WorkloadEndpoint'>;
  readonly nodes: Page<'Node'>;
  readonly pools: Page<'IPPool'>;
  readonly reservations: Page<'IPReservation'>;
}

/** An address that a block says is taken; one that cools down after its release is not. */
export interface Held {
  readonly address: Ip;
  readonly block: Cidr;
  /** Node that owns the block. */
  readonly owner?: string;
  readonly handle?: string;
  /** What was stored beside the address: `node`, `namespace`, `pod`, `type`, `timestamp`. */
  readonly attributes: Readonly<Record<string, string>>;
  /** `sequenceNumberForAllocation` of the assignment. */
  readonly sequence?: bigint;
}

/** An endpoint that uses an address. */
export interface User {
  /** `namespace/pod`, or the endpoint's own name where no pod is meant. */
  readonly name: string;
  readonly namespace: string;
  readonly pod?: string;
  readonly node: string;
  readonly containerId?: string;
}

export interface Index {
  readonly held: readonly Held[];
  readonly users: ReadonlyMap<Ip, readonly User[]>;
  readonly nodes: ReadonlyMap<string, Node>;
  readonly blocks: ReadonlyMap<Cidr, Block>;
}

/**
 * What the audit asks for many times, from one reading of the datastore. Objects that cannot be read are in none of
 * it.
 */
export function indexOf(lists: Lists): Index {
  return {
    held: lists.blocks.entries.flatMap(({ value }) => heldIn(value)),
    users: usersOf(lists.endpoints.entries),
    nodes: new Map(lists.nodes.entries.map(({ key, value }) => [key.name, value])),
    blocks: new Map(lists.blocks.entries.map(({ key, value }) => [key.cidr, value])),
  };
}

/** Node that owns a block; undefined when nobody does, or something that is no node. */
export function ownerOf({ affinity }: Block): string | undefined {
  return affinity?.startsWith('host:') ? affinity.slice('host:'.length) : undefined;
}

/** What is held in a block, by address. */
export function heldIn(block: Block): Held[] {
  const owner = ownerOf(block);
  return block.allocations.flatMap((_, ordinal) => {
    const attribute = attributeOf(block, ordinal);
    if (attribute === undefined || attribute.releasedAt !== undefined) return [];
    const { handle_id: handle, secondary } = attribute;
    const sequence = block.sequenceNumberForAllocation[ordinal];
    return {
      address: addressAt(block, ordinal),
      block: block.cidr,
      ...(owner !== undefined && { owner }),
      ...(handle && { handle }),
      attributes: secondary ?? {},
      ...(sequence !== undefined && { sequence }),
    };
  });
}

/** A handle as it is looked up: up to the first carriage return. */
export function handleName(handle: string): string {
  return handle.split('\r', 1)[0] ?? handle;
}

function usersOf(endpoints: Page<'WorkloadEndpoint'>['entries']): Map<Ip, User[]> {
  const users = new Map<Ip, User[]>();
  for (const { key, value } of endpoints) {
    const { pod, node, containerID: containerId, ipNetworks } = value.spec;
    const namespace = key.namespace ?? '';
    const name = `${namespace}/${pod ?? key.name}`;
    const user = { name, namespace, node, ...(pod && { pod }), ...(containerId && { containerId }) };
    for (const address of new Set(ipNetworks.map((text) => cidrParts(parseCidr(text)).address)))
      users.set(address, [...(users.get(address) ?? []), user]);
  }
  return users;
}

/** Finds the prefix of a set that covers an address, by one look-up for each length there is. */
export class Cover {
  readonly #cidrs: ReadonlySet<Cidr>;
  readonly #lengths: readonly number[];

  constructor(cidrs: Iterable<Cidr>) {
    this.#cidrs = new Set(cidrs);
    this.#lengths = [...new Set([...this.#cidrs].map((cidr) => cidrParts(cidr).length))].sort((a, b) => b - a);
  }

  /** The longest prefix that covers the address. */
  find(address: Ip): Cidr | undefined {
    const bytes = ipBytes(address);
    for (const length of this.#lengths) {
      if (length > bytes.length * 8) continue;
      const cidr = cidrOf(bytes, length);
      if (this.#cidrs.has(cidr)) return cidr;
    }
    return undefined;
  }

  /** Whether one of the prefixes lies in `outer`. */
  someWithin(outer: Cidr): boolean {
    for (const cidr of this.#cidrs) if (contains(outer, cidr)) return true;
    return false;
  }
}

/** The lists of one moment, each read as of the one before; where the driver has no such order, of nearly one. */
export async function readLists(store: Store): Promise<Lists> {
  const blocks = await store.list('Block');
  const affinities = await store.list('BlockAffinity', { revision: blocks.revision });
  const handles = await store.list('Handle', { revision: affinities.revision });
  const endpoints = await store.list('WorkloadEndpoint', { revision: handles.revision });
  const nodes = await store.list('Node', { revision: endpoints.revision });
  const pools = await store.list('IPPool', { revision: nodes.revision });
  const reservations = await store.list('IPReservation', { revision: pools.revision });
  return { blocks, affinities, handles, endpoints, nodes, pools, reservations };
}
