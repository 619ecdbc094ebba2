import type { Store } from '../datastore/store.ts';
import { attributeOf, ordinalOf, sameHandle } from '../ipam/block.ts';
import { AddressTakenError, WriteConflictError } from '../ipam/errors.ts';
import { blockOf } from '../ipam/pools.ts';
import { familyOf, hostCidr, type Ip } from '../model/address.ts';
import type { AddRequest } from './add.ts';
import type { Working } from './context.ts';
import type { AddressPool, Assignment } from './ports.ts';

/*
 * Addresses that a pod's annotation gives it past IPAM (`ipAddrsNoIpam`): nothing is taken of a pool and nothing given
 * back, and several pods may have the same. What IPAM holds for somebody else is refused, though Calico's plugin lets a
 * pod have it: it would draw the other's traffic.
 */

/** The same context; for a pod with such addresses, its `ipam` answers with them. */
export function withAddressesOf(context: Working, { facts }: AddRequest): Working {
  const addresses = facts?.bareAddresses;
  return addresses ? { ...context, ipam: new BareAddresses(context.ipam, context.store, addresses) } : context;
}

class BareAddresses implements AddressPool {
  constructor(
    private readonly ipam: AddressPool,
    private readonly store: Store,
    private readonly addresses: readonly Ip[],
  ) {}

  /** Writes the endpoint alone. @throws AddressTakenError, WriteConflictError, StoreUnavailableError */
  async assign(
    { handle, families, extra, onWritten }: Parameters<AddressPool['assign']>[0],
    signal: AbortSignal,
  ): Promise<readonly Assignment[]> {
    const assigned = this.#assignments().filter(({ address }) => families.includes(familyOf(address)));
    for (const { address } of assigned) await this.#requireFree(address, handle);
    signal.throwIfAborted();
    const writes = extra?.(assigned) ?? [];
    const outcome = await this.store.transact(writes);
    if (outcome.outcome === 'written') {
      onWritten?.(outcome.revisions);
      return assigned;
    }
    const failed = writes[outcome.failed];
    throw failed ? new WriteConflictError(failed) : new TypeError('a conflict of no write');
  }

  /** What an earlier container of the pod had of a pool; such an address is held by nobody. */
  release(request: { readonly handle: string }): Promise<readonly Ip[]> {
    return this.ipam.release(request);
  }

  async byHandle(): Promise<readonly Assignment[]> {
    return this.#assignments();
  }

  #assignments(): Assignment[] {
    const assignments = this.addresses.map((address) => ({ address, block: hostCidr(address), pool: '' }));
    return assignments.sort((a, b) => familyOf(a.address) - familyOf(b.address));
  }

  async #requireFree(address: Ip, handle: string): Promise<void> {
    const { entries } = await this.store.list('IPPool');
    const cidr = blockOf(
      entries.map(({ value }) => value),
      address,
    );
    const block = cidr && (await this.store.get({ type: 'Block', cidr }))?.value;
    const holder = block && attributeOf(block, ordinalOf(block, address) ?? -1);
    if (holder === undefined || holder.releasedAt !== undefined || sameHandle(holder.handle_id, handle)) return;
    throw new AddressTakenError(address, `it is held by ${holder.handle_id ?? 'nobody that its block names'}`);
  }
}
