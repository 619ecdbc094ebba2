import { Backoff } from '../base/backoff.ts';
import { type Clock, pause } from '../base/clock.ts';
import type { Log } from '../base/log.ts';
import { keyText, type Store, type Write } from '../datastore/store.ts';
import type { Family } from '../model/address.ts';
import type { AllocationAttribute, Block } from '../model/ipam.ts';
import type { Assignment, AssignRequest } from './allocator.ts';
import type { Member } from './batches.ts';
import { allocate, touched } from './block.ts';
import type { Source, Supply } from './supply.ts';

/*
 * Several requests for addresses in one transaction: they wait for the same blocks, so one after the other each would
 * cost a round trip to the datastore. Whatever is particular to one of them, a handle that exists or a write of its own
 * that comes too late, is left to the way of a single request.
 */

export type AddressMember = Member<AssignRequest, Assignment[]>;

export interface TogetherOptions {
  readonly store: Store;
  readonly clock: Clock;
  readonly log: Log;
  readonly supply: Supply;
  /** A block of each family for a request. @throws PoolExhaustedError, NoPoolError */
  sources(request: AssignRequest): Promise<readonly Source[]>;
  /** An address of a source, as the caller is told. */
  assignment(source: Source, taken: { readonly address: Assignment['address'] }): Assignment;
  attribute(request: AssignRequest): AllocationAttribute;
  handle(request: AssignRequest, assignments: readonly Assignment[]): Write;
  /** The way of one request. */
  single(request: AssignRequest, signal: AbortSignal): Promise<Assignment[]>;
}

/** Below etcd's limit of 128 operations in a transaction (`--max-txn-ops`). */
const mostWrites = 100;
const attempts = 20;

interface Part {
  readonly member: AddressMember;
  readonly assignments: Assignment[];
  /** Its handle first. */
  readonly writes: readonly Write[];
}

/** Settles every member. */
export async function assignTogether(members: readonly AddressMember[], options: TogetherOptions): Promise<void> {
  const { clock, log } = options;
  const backoff = new Backoff(1, 100);
  let left = stillWanted(members);
  const alone: AddressMember[] = [];
  for (let round = 1; left.length > 1 && round <= attempts; round++) {
    const outcome = await tryTogether(left, options);
    if (outcome.odd) alone.push(outcome.odd);
    left = stillWanted(left).filter((member) => !alone.includes(member));
    if (!outcome.conflict) continue;
    const retryMs = backoff.next();
    log.debug({ round, requests: left.length, retryMs }, 'address transaction met another change');
    await pause(clock, retryMs);
  }
  for (const member of [...left, ...alone]) if (!member.settled) await settle(member, options);
}

function stillWanted(members: readonly AddressMember[]): AddressMember[] {
  for (const member of members) if (!member.settled && member.signal.aborted) member.reject(member.signal.reason);
  return members.filter(({ settled }) => !settled);
}

async function settle(member: AddressMember, { single }: TogetherOptions): Promise<void> {
  try {
    member.resolve(await single(member.request, member.signal));
  } catch (thrown) {
    member.reject(thrown);
  }
}

/** One transaction for as many as the blocks have addresses for. @returns `odd`: whose own write does not fit */
async function tryTogether(
  members: readonly AddressMember[],
  options: TogetherOptions,
): Promise<{ readonly conflict: boolean; readonly odd?: AddressMember }> {
  const [first] = members;
  if (first === undefined) return { conflict: false };
  const { supply, store } = options;
  const sources = await options.sources(first.request);
  const { parts, blocks } = portions(members, sources, options);
  if (parts.length === 0) return refused(members.find(({ settled }) => !settled));
  const updates = sources.map((source, at) => {
    const value = touched(blocks[at] ?? source.block);
    return { op: 'update', key: source.entry.key, value, revision: source.entry.revision } as const;
  });
  const outcome = await store.transact([...updates, ...parts.flatMap(({ writes }) => writes)]).catch((thrown) => {
    supply.reset();
    throw thrown;
  });
  if (outcome.outcome === 'written') {
    for (const [at, { key, value }] of updates.entries())
      supply.note({ key, value, revision: outcome.revisions[at] ?? '' });
    let at = updates.length;
    for (const { member, assignments, writes } of parts) {
      member.request.onWritten?.(outcome.revisions.slice(at + 1, at + writes.length));
      at += writes.length;
      member.resolve(assignments);
    }
    return { conflict: false };
  }
  const stale = sources[outcome.failed];
  if (stale) await supply.reload(stale.entry.value.cidr);
  return stale ? { conflict: true } : refused(ownerOf(parts, outcome.failed - updates.length));
}

function refused(odd: AddressMember | undefined) {
  return odd ? { conflict: false, odd } : { conflict: false };
}

/** What each of the members gets, as far as there are addresses; those whose keys another has wait for the next. */
function portions(members: readonly AddressMember[], sources: readonly Source[], options: TogetherOptions) {
  const parts: Part[] = [];
  const keys = new Set<string>();
  let blocks: readonly Block[] = sources.map(({ block }) => block);
  let writes = sources.length;
  for (const member of members) {
    const taken = takeOne(member.request, sources, blocks, options);
    if (taken === undefined) break;
    try {
      const own = [
        options.handle(member.request, taken.assignments),
        ...(member.request.extra?.(taken.assignments) ?? []),
      ];
      if (own.some(({ key }) => keys.has(keyText(key)))) continue;
      if (writes + own.length > mostWrites) break;
      for (const { key } of own) keys.add(keyText(key));
      writes += own.length;
      parts.push({ member, assignments: taken.assignments, writes: own });
      ({ blocks } = taken);
    } catch (thrown) {
      member.reject(thrown);
    }
  }
  return { parts, blocks };
}

/** One address of each block; undefined when one has none left. */
function takeOne(
  request: AssignRequest,
  sources: readonly Source[],
  blocks: readonly Block[],
  { attribute, assignment }: TogetherOptions,
): { readonly blocks: readonly Block[]; readonly assignments: Assignment[] } | undefined {
  const next: Block[] = [];
  const assignments: Assignment[] = [];
  for (const [at, source] of sources.entries()) {
    const taken = allocate(blocks[at] ?? source.block, attribute(request), source.reserved);
    if (taken === undefined) return undefined;
    next.push(taken.block);
    assignments.push(assignment(source, taken));
  }
  return { blocks: next, assignments };
}

function ownerOf(parts: readonly Part[], failed: number): AddressMember | undefined {
  let at = failed;
  for (const { member, writes } of parts) {
    if (at < writes.length) return member;
    at -= writes.length;
  }
  return undefined;
}

/** What requests must have in common to be served together. */
export function batchKey(families: readonly Family[], { pools, use, namespaceLabels }: AssignRequest): string {
  return JSON.stringify([families, pools ?? null, use ?? null, namespaceLabels ?? null]);
}
