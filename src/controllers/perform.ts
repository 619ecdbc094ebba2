import type { Clock } from '../base/clock.ts';
import type { Log } from '../base/log.ts';
import type { Key, KeyOf, Store, Type } from '../datastore/store.ts';
import { claimBlock, releaseAffinity } from '../ipam/affinity.ts';
import { Ipam } from '../ipam/allocator.ts';
import { ownerOf } from '../ipam/audit-index.ts';
import { ContentionError, HolderMismatchError } from '../ipam/errors.ts';
import { hostCidr } from '../model/address.ts';
import { endpointName } from '../model/endpoint-name.ts';
import type { Action } from './action.ts';

/** `void`: what the decision was based on is no longer so, and the next pass decides anew. */
export type Performed = 'done' | 'void';

export interface PerformDeps {
  /** Where Calico's objects are. */
  readonly store: Store;
  /** Where nodes come and go; the same store where Kubernetes is the datastore. */
  readonly cluster: Store;
  readonly clock: Clock;
  readonly log: Log;
}

/** No node's own blocks are meant, so the name stands for none. */
const nobody = 'margay-controllers';

/** Carries out decisions, each only if what it was decided by is still so. */
export class Performer {
  readonly #ipam: Ipam;

  constructor(private readonly deps: PerformDeps) {
    const { store, clock, log } = deps;
    this.#ipam = new Ipam({ store, clock, log, node: nobody });
  }

  /** @throws StoreUnavailableError, InputError for a value that the datastore refuses */
  async perform(action: Action): Promise<Performed> {
    const { store, cluster } = this.deps;
    switch (action.do) {
      case 'create': {
        const { outcome } = await store.create(inferred(action.key), action.value);
        return outcome === 'written' ? 'done' : 'void';
      }
      case 'update': {
        const { outcome } = await store.update(inferred(action.key), action.value, action.revision);
        return outcome === 'written' ? 'done' : 'void';
      }
      case 'delete': {
        if (action.unlessNode !== undefined && (await hasNode(cluster, action.unlessNode))) return 'void';
        if (action.unlessOriginal && (await cluster.get(inferred(action.key))) !== undefined) return 'void';
        const { outcome } = await store.delete(inferred(action.key), action.revision);
        return outcome === 'written' ? 'done' : 'void';
      }
      case 'releaseAddress':
        return this.#releaseAddress(action);
      case 'releaseAffinity':
        return this.#releaseAffinity(action);
    }
  }

  async #releaseAddress(action: Extract<Action, { do: 'releaseAddress' }>): Promise<Performed> {
    const { address, handle, sequence, unlessNode } = action;
    if (unlessNode !== undefined && (await hasNode(this.deps.store, unlessNode))) return 'void';
    if (await this.#isUsed(action)) return 'void';
    const request = { address, ...(handle !== undefined && { handle }), ...(sequence !== undefined && { sequence }) };
    const freed = await unlessTaken(() => this.#ipam.releaseAddresses([request]));
    return freed !== undefined && freed.length > 0 ? 'done' : 'void';
  }

  /** Asks for the very endpoint or node that the address was given to, a moment before it is freed. */
  async #isUsed({ address, holder }: Extract<Action, { do: 'releaseAddress' }>): Promise<boolean> {
    const { store } = this.deps;
    const { node, namespace, pod } = holder;
    if (node === undefined) return false;
    if (pod !== undefined && namespace !== undefined) {
      const name = endpointName(node, pod, 'eth0');
      const endpoint = await store.get({ type: 'WorkloadEndpoint', namespace, name });
      return endpoint?.value.spec.ipNetworks.includes(hostCidr(address)) ?? false;
    }
    const found = await store.get({ type: 'Node', name: node });
    return found !== undefined && JSON.stringify(found.value.spec).includes(`"${address}"`);
  }

  async #releaseAffinity(action: Extract<Action, { do: 'releaseAffinity' }>): Promise<Performed> {
    const { host, cidr, unlessNode } = action;
    const { store } = this.deps;
    if (await hasNode(store, unlessNode)) return 'void';
    const affinity = await store.get({ type: 'BlockAffinity', host, cidr });
    const block = affinity ?? (await store.get({ type: 'Block', cidr }));
    if (block === undefined) return 'void';
    const released = await unlessTaken(async () => {
      // A release begins at the affinity, so one that is missing is made first.
      if (affinity === undefined && 'cidr' in block.value && ownerOf(block.value) === host)
        await claimBlock(this.deps, host, cidr);
      return releaseAffinity(this.deps, host, cidr);
    });
    return released ? 'done' : 'void';
  }
}

/** A key of which only the union is known. */
function inferred(key: Key): KeyOf<Type> {
  return key as KeyOf<Type>;
}

/** One that cannot be read is there. */
async function hasNode(store: Store, name: string): Promise<boolean> {
  return (await store.get({ type: 'Node', name })) !== undefined;
}

/** The result, or undefined when the address or block was given to somebody else meanwhile. */
async function unlessTaken<T>(release: () => Promise<T>): Promise<T | undefined> {
  try {
    return await release();
  } catch (thrown) {
    if (thrown instanceof HolderMismatchError || thrown instanceof ContentionError) return undefined;
    throw thrown;
  }
}
