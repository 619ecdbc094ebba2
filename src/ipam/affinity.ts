import { Backoff } from '../base/backoff.ts';
import { type Clock, pause } from '../base/clock.ts';
import type { Log } from '../base/log.ts';
import type { Entry, Store } from '../datastore/store.ts';
import type { Cidr } from '../model/address.ts';
import type { BlockAffinity } from '../model/ipam.ts';
import { affinityOf, isEmpty, newBlock, touched } from './block.ts';
import { ContentionError } from './errors.ts';

/*
 * Which node owns a block: an affinity beside the block says what its node means to do, so that a crash between two
 * writes is seen and mended. The writes and their order are Calico's, for its nodes may claim and release beside us.
 *
 *   claim    affinity pending → block created → affinity confirmed
 *   mend     affinity pending → block touched → affinity confirmed      (the block is ours, the affinity unconfirmed)
 *   release  affinity pendingDeletion → block deleted, or without owner if in use → affinity deleted
 */

export interface Scene {
  readonly store: Store;
  readonly clock: Clock;
  readonly log: Log;
  /** Tries before a block that others keep changing is given up; default 100. */
  readonly attempts?: number;
}

type Step<T> = { readonly done: T } | 'again';

const usualAttempts = 100;

/**
 * Makes a block the node's own.
 * @returns the block, or undefined when another owns it; the node's affinity to it is then gone
 */
export async function claimBlock(scene: Scene, node: string, cidr: Cidr): Promise<Entry<'Block'> | undefined> {
  const { attempts = usualAttempts } = scene;
  const backoff = new Backoff(1, 100);
  for (let attempt = 0; attempt < attempts; attempt++) {
    const step = await tryClaim(scene, node, cidr);
    if (step !== 'again') return step.done;
    const retryMs = backoff.next();
    scene.log.debug({ block: cidr, attempt, retryMs }, 'block claim met another change');
    await pause(scene.clock, retryMs);
  }
  throw new ContentionError(`block ${cidr} could not be claimed in ${attempts} attempts`);
}

async function tryClaim(scene: Scene, node: string, cidr: Cidr): Promise<Step<Entry<'Block'> | undefined>> {
  const { store, clock } = scene;
  const affinity = await pendingAffinity(store, node, cidr);
  if (affinity === undefined) return 'again';
  const block = await store.get({ type: 'Block', cidr });
  if (block === undefined) {
    const pending = await setState(store, affinity, 'pending');
    if (pending === undefined) return 'again';
    const made = await store.create({ type: 'Block', cidr }, newBlock(cidr, node, clock.wall()));
    return made.outcome === 'written' ? confirmed(store, pending, made.entry) : 'again';
  }
  if (block.value.affinity !== affinityOf(node)) {
    const { outcome } = await store.delete(affinity.key, affinity.revision);
    return outcome === 'conflict' ? 'again' : { done: undefined };
  }
  if (isConfirmed(affinity.value)) return { done: block };
  const pending = await setState(store, affinity, 'pending');
  if (pending === undefined) return 'again';
  const mended = await store.update(block.key, touched(block.value), block.revision);
  return mended.outcome === 'written' ? confirmed(store, pending, mended.entry) : 'again';
}

/** The node's affinity: created, moved to pending, or already confirmed. Undefined when it changed underway. */
async function pendingAffinity(store: Store, host: string, cidr: Cidr): Promise<Entry<'BlockAffinity'> | undefined> {
  const key = { type: 'BlockAffinity', host, cidr } as const;
  const made = await store.create(key, { state: 'pending', deleted: false });
  if (made.outcome === 'written') return made.entry;
  const found = await store.get(key);
  if (found === undefined || isConfirmed(found.value)) return found;
  return setState(store, found, 'pending');
}

async function setState(
  store: Store,
  { key, value, revision }: Entry<'BlockAffinity'>,
  state: BlockAffinity['state'],
): Promise<Entry<'BlockAffinity'> | undefined> {
  const done = await store.update(key, { ...value, state }, revision);
  return done.outcome === 'written' ? done.entry : undefined;
}

async function confirmed(
  store: Store,
  pending: Entry<'BlockAffinity'>,
  block: Entry<'Block'>,
): Promise<Step<Entry<'Block'>>> {
  return (await setState(store, pending, 'confirmed')) === undefined ? 'again' : { done: block };
}

/** The empty state of old data means confirmed. */
export function isConfirmed({ state }: BlockAffinity): boolean {
  return state === 'confirmed' || state === '';
}

export interface ReleaseCondition {
  /** Give up the block only when nothing in it is held. */
  readonly onlyEmpty?: boolean;
  /** Give it up only when it was not written since it had this sequence number. */
  readonly sequence?: bigint;
}

/**
 * Ends a host's ownership of a block; addresses in use stay, in a block without owner.
 * @returns whether the block is no longer the host's; false when the condition does not hold
 */
export async function releaseAffinity(
  scene: Scene,
  host: string,
  cidr: Cidr,
  condition: ReleaseCondition = {},
): Promise<boolean> {
  const { attempts = usualAttempts } = scene;
  const backoff = new Backoff(1, 100);
  for (let attempt = 0; attempt < attempts; attempt++) {
    const step = await tryRelease(scene.store, host, cidr, condition);
    if (step !== 'again') return step.done;
    const retryMs = backoff.next();
    scene.log.debug({ block: cidr, host, attempt, retryMs }, 'block release met another change');
    await pause(scene.clock, retryMs);
  }
  throw new ContentionError(`block ${cidr} could not be released in ${attempts} attempts`);
}

async function tryRelease(
  store: Store,
  host: string,
  cidr: Cidr,
  { onlyEmpty = false, sequence }: ReleaseCondition,
): Promise<Step<boolean>> {
  const found = await store.get({ type: 'BlockAffinity', host, cidr });
  if (found === undefined) return { done: true };
  const block = await store.get({ type: 'Block', cidr });
  const owned = block !== undefined && block.value.affinity === affinityOf(host) ? block : undefined;
  if (owned && !allowed(owned, onlyEmpty, sequence)) return restored(store, found);
  const leaving = await setState(store, found, 'pendingDeletion');
  if (leaving === undefined) return 'again';
  if (owned && (await giveUp(store, owned)) === 'conflict') return 'again';
  const { outcome } = await store.delete(leaving.key, leaving.revision);
  return outcome === 'conflict' ? 'again' : { done: true };
}

function allowed({ value }: Entry<'Block'>, onlyEmpty: boolean, sequence: bigint | undefined): boolean {
  return (!onlyEmpty || isEmpty(value)) && (sequence === undefined || value.sequenceNumber === sequence);
}

/** The owner went on using the block: its affinity is as it was before this release, or one that broke off, began. */
async function restored(store: Store, found: Entry<'BlockAffinity'>): Promise<Step<boolean>> {
  if (found.value.state !== 'pendingDeletion') return { done: false };
  return (await setState(store, found, 'confirmed')) === undefined ? 'again' : { done: false };
}

async function giveUp(store: Store, { key, value, revision }: Entry<'Block'>): Promise<'written' | 'conflict'> {
  const { outcome } = isEmpty(value)
    ? await store.delete(key, revision)
    : await store.update(key, touched({ ...value, affinity: null, affinity_claim_time: null }), revision);
  return outcome === 'written' ? 'written' : 'conflict';
}
