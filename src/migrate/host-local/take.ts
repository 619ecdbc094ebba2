import { Backoff } from '../../base/backoff.ts';
import { pause } from '../../base/clock.ts';
import type { Entry, Write } from '../../datastore/store.ts';
import { claimBlock, type Scene } from '../../ipam/affinity.ts';
import { allocate, attributeOf, ordinalOf, touched } from '../../ipam/block.ts';
import { ContentionError } from '../../ipam/errors.ts';
import { increment } from '../../ipam/handle.ts';
import { goTime } from '../../ipam/time.ts';
import type { Cidr, Ip } from '../../model/address.ts';
import type { AllocationAttribute, Block } from '../../model/ipam.ts';
import type { PlannedAddress } from './plan.ts';

/* Addresses that live pods have already, entered into IPAM by compare-and-swap. */

const attempts = 50;

/** Somebody else has what is to be taken over. */
export class TakenError extends Error {
  override readonly name = 'TakenError';
}

/** Makes a block the node's own. @throws TakenError when it is another's */
export async function takeBlock(scene: Scene, node: string, cidr: Cidr): Promise<void> {
  if ((await claimBlock(scene, node, cidr)) === undefined)
    throw new TakenError(`block ${cidr} belongs to another node`);
}

/**
 * Enters an address under its handle, both in one transaction where the store has them. One that the handle holds
 * already stays as it is.
 * @throws TakenError, StoreUnavailableError
 */
export async function takeAddress(
  scene: Scene,
  node: string,
  planned: PlannedAddress,
  signal: AbortSignal,
): Promise<void> {
  const { store, clock, log } = scene;
  const backoff = new Backoff(2, 200);
  for (let attempt = 1; attempt <= attempts; attempt++) {
    signal.throwIfAborted();
    const block = await store.get({ type: 'Block', cidr: planned.block });
    if (block === undefined) throw new TakenError(`block ${planned.block} is gone`);
    const holder = holderOf(block.value, planned.address);
    if (holder === planned.handle) return;
    if (holder !== undefined) throw new TakenError(`${planned.address} is held by ${holder || 'nobody named'}`);
    const handle = await store.get({ type: 'Handle', id: planned.handle });
    const { outcome } = await store.transact(
      writesFor(block, handle, planned, attributeFor(planned, node, clock.wall())),
    );
    if (outcome === 'written') return;
    const retryMs = backoff.next();
    log.debug({ address: planned.address, attempt, retryMs }, 'taking over an address met another change');
    await pause(clock, retryMs, signal);
  }
  throw new ContentionError(`${planned.address} could not be taken over in ${attempts} attempts`);
}

/** The handle comes first, so that no address is ever without one. */
function writesFor(
  block: Entry<'Block'>,
  handle: Entry<'Handle'> | undefined,
  { address, block: cidr, handle: id }: PlannedAddress,
  attribute: AllocationAttribute,
): Write[] {
  const key = { type: 'Handle', id } as const;
  const value = increment(handle?.value, cidr);
  return [
    handle ? { op: 'update', key, value, revision: handle.revision } : { op: 'create', key, value },
    {
      op: 'update',
      key: block.key,
      value: touched(withAddress(block.value, address, attribute)),
      revision: block.revision,
    },
  ];
}

function attributeFor({ handle, namespace, pod }: PlannedAddress, node: string, now: Date): AllocationAttribute {
  const known = namespace !== undefined && pod !== undefined ? { namespace, node, pod } : { node };
  return { handle_id: handle, secondary: { ...known, timestamp: goTime(now) } };
}

/** The block with a certain free address given out. Pure. @throws TypeError for one that is not free in it */
export function withAddress(block: Block, address: Ip, attribute: AllocationAttribute): Block {
  const ordinal = ordinalOf(block, address);
  if (ordinal === undefined || !block.unallocated.includes(ordinal)) throw new TypeError(`${address} is not free`);
  const first = [ordinal, ...block.unallocated.filter((each) => each !== ordinal)];
  const taken = allocate({ ...block, unallocated: first }, attribute);
  if (taken === undefined) throw new TypeError(`block ${block.cidr} has no free address`);
  return taken.block;
}

/** Handle that holds an address, empty for one without name; undefined when it is free. */
function holderOf(block: Block, address: Ip): string | undefined {
  const ordinal = ordinalOf(block, address);
  const attribute = ordinal === undefined ? undefined : attributeOf(block, ordinal);
  return attribute && (attribute.handle_id ?? '');
}
