import { keyText } from '../datastore/store.ts';
import { claimBlock, releaseAffinity } from '../ipam/affinity.ts';
import { Ipam } from '../ipam/allocator.ts';
import { type Held, handleName, indexOf, type Lists, ownerOf, readLists } from '../ipam/audit-index.ts';
import { ContentionError, HolderMismatchError } from '../ipam/errors.ts';
import { type Cidr, type Ip, parseCidr, parseIp } from '../model/address.ts';
import type { Deps } from './apply.ts';
import { ExitError, exitCode } from './exit.ts';
import { type Format, print } from './output.ts';

interface Force {
  /** Also what an endpoint uses. */
  readonly force: boolean;
}

/**
 * Frees one address, as it was assigned when it was looked up; one that was assigned anew since is left alone.
 * @throws ExitError when nobody holds it, another handle does, or an endpoint uses it and that is not forced
 */
export async function releaseAddress(
  { ip, handle, force }: Force & { readonly ip: string; readonly handle?: string },
  deps: Deps,
  format: Format,
): Promise<void> {
  const address = parseIp(ip, '--ip');
  const lists = await readLists(deps.store);
  const held = indexOf(lists).held.filter((each) => each.address === address);
  const [holder] = held;
  if (holder === undefined) throw new ExitError(exitCode.failure, `nobody holds ${address}`);
  if (!force) refuseInUse(held, lists);
  const { sequence } = holder;
  const request = {
    address,
    ...(handle !== undefined && { handle }),
    ...(sequence !== undefined && { sequence }),
  };
  tell(await expected(() => ipamOf(deps).releaseAddresses([request])), format);
}

/**
 * Frees all that a handle holds, and takes the handle away.
 * @throws ExitError when there is no such handle, or an endpoint uses one of its addresses and that is not forced
 */
export async function releaseHandle(
  { handle, force }: Force & { readonly handle: string },
  deps: Deps,
  format: Format,
): Promise<void> {
  const lists = await readLists(deps.store);
  const known = lists.handles.entries.some(({ key }) => key.id === handle);
  if (!known) throw new ExitError(exitCode.failure, `there is no handle ${handle}`);
  const held = indexOf(lists).held.filter((each) => each.handle && handleName(each.handle) === handleName(handle));
  if (!force) refuseInUse(held, lists);
  tell(await expected(() => ipamOf(deps).release({ handle })), format, `handle ${handle} held no address; it is gone`);
}

/** Ends a node's ownership of a block: an empty block goes with it, one in use stays without owner. */
export async function releaseOwnership(named: { block: string; node: string }, deps: Deps): Promise<void> {
  const { cidr, node } = parseOwnership(named);
  const { store } = deps;
  const block = await store.get({ type: 'Block', cidr });
  const affinity = await store.get({ type: 'BlockAffinity', host: node, cidr });
  const owns = block !== undefined && ownerOf(block.value) === node;
  if (!owns && affinity === undefined) throw new ExitError(exitCode.failure, `${node} has no affinity to ${cidr}`);
  // A release begins at the affinity, so one that is missing is made first.
  if (affinity === undefined) await expected(() => claimBlock(deps, node, cidr));
  await expected(() => releaseAffinity(deps, node, cidr));
  process.stdout.write(`${cidr}: released by ${node}\n`);
}

/** Makes a block a node's own, or finishes that. @throws ExitError when there is no such block, or another's */
export async function claimOwnership(named: { block: string; node: string }, deps: Deps): Promise<void> {
  const { cidr, node } = parseOwnership(named);
  const block = await deps.store.get({ type: 'Block', cidr });
  if (block === undefined) throw new ExitError(exitCode.failure, `there is no block ${cidr}`);
  if (ownerOf(block.value) !== node)
    throw new ExitError(
      exitCode.failure,
      `block ${cidr} belongs to ${block.value.affinity || 'nobody'}, not to ${node}`,
    );
  const claimed = await expected(() => claimBlock(deps, node, cidr));
  if (claimed === undefined) throw new ExitError(exitCode.failure, `block ${cidr} was given to another meanwhile`);
  process.stdout.write(`${cidr}: claimed by ${node}\n`);
}

function parseOwnership({ block, node }: { block: string; node: string }): { cidr: Cidr; node: string } {
  return { cidr: parseCidr(block, '--block'), node };
}

/** @throws ExitError when an endpoint uses one of the addresses, or one that cannot be read may */
function refuseInUse(held: readonly Held[], lists: Lists): void {
  const { users } = indexOf(lists);
  for (const { address } of held) {
    const [user] = users.get(address) ?? [];
    if (user) throw refusal(`${address} is used by ${user.name} on ${user.node}`);
  }
  const [unread] = lists.endpoints.invalid;
  if (unread && held.length > 0) throw refusal(`${keyText(unread.key)} cannot be read and may use it`);
}

function refusal(reason: string): ExitError {
  return new ExitError(exitCode.failure, `${reason}; --force frees it still`);
}

/** No node's own blocks are meant, so the name stands for none. */
function ipamOf({ store, clock, log }: Deps): Ipam {
  return new Ipam({ store, clock, log, node: 'margayctl' });
}

async function expected<T>(action: () => Promise<T>): Promise<T> {
  try {
    return await action();
  } catch (thrown) {
    if (thrown instanceof HolderMismatchError || thrown instanceof ContentionError)
      throw new ExitError(exitCode.failure, thrown.message, { cause: thrown });
    throw thrown;
  }
}

function tell(released: readonly Ip[], format: Format, none = 'nothing was held any more'): void {
  print(format, { released }, () =>
    released.length === 0 ? `${none}\n` : released.map((address) => `${address}: released\n`).join(''),
  );
}
