import { Backoff } from '../base/backoff.ts';
import type { Clock } from '../base/clock.ts';
import { explain } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import { Trigger } from '../base/trigger.ts';
import type { Entry, Store, Write } from '../datastore/store.ts';
import type { Update } from '../datastore/update.ts';
import type { Assignment, Ipam } from '../ipam/allocator.ts';
import { type Family, familyOf, type Ip, parseCidr } from '../model/address.ts';
import type { IpPool, Node } from '../model/kinds.ts';
import { parseSelector } from '../model/selector.ts';

/** What is asked of address management. */
export type TunnelIpam = Pick<Ipam, 'assign' | 'byHandle' | 'release'>;

export interface TunnelAddressOptions {
  readonly store: Store;
  readonly ipam: TunnelIpam;
  readonly node: string;
  readonly families: readonly Family[];
  /** False: no VXLAN whatever the pools say. */
  readonly enabled: () => boolean;
  readonly clock: Clock;
  readonly log: Log;
}

/** Calico's names of each family's handle, attribute and field. */
const names = {
  4: { handle: 'vxlan-tunnel-addr-', type: 'vxlanTunnelAddress', field: 'ipv4VXLANTunnelAddr' },
  6: { handle: 'vxlan-v6-tunnel-addr-', type: 'vxlanV6TunnelAddress', field: 'ipv6VXLANTunnelAddr' },
} as const;

/**
 * Keeps an address for the node's VXLAN device of each family: taken from a pool with VXLAN that allows tunnels and
 * selects the node, held by the handle `vxlan-tunnel-addr-<node>`, and written to the Node in the same transaction.
 * Without such a pool the address is given back.
 */
export class TunnelAddresses {
  readonly #pools = new Map<string, IpPool>();
  readonly #changed: Trigger;
  #node: Node | undefined;
  #inSync = false;

  constructor(private readonly options: TunnelAddressOptions) {
    this.#changed = new Trigger(options.clock);
  }

  /** Takes a syncer's update; its types must include IPPool and Node. */
  consume(update: Update): void {
    if (update.op === 'connection') return;
    if (update.op === 'inSync') this.#inSync = true;
    else for (const event of update.events) if (event.op !== 'invalid') this.#take(event);
    if (this.#inSync) this.#changed.fire();
  }

  async run(signal: AbortSignal): Promise<void> {
    const { families, log } = this.options;
    const backoff = new Backoff(100, 30_000);
    let retryMs: number | undefined;
    let last = '';
    while (!signal.aborted) {
      await this.#changed.wait(retryMs, signal);
      if (signal.aborted) return;
      const wishes = JSON.stringify([this.options.enabled(), families.map((family) => this.#facts(family))]);
      if (wishes === last && retryMs === undefined) continue;
      try {
        for (const family of families) await this.#ensure(family, signal);
        // As it was before: what changed meanwhile, our own write too, is looked at again.
        last = wishes;
        retryMs = undefined;
        backoff.reset();
      } catch (thrown) {
        if (signal.aborted) return;
        retryMs = backoff.next();
        log.warn({ error: explain(thrown), retryMs }, 'the address of the VXLAN device is not settled; will retry');
      }
    }
  }

  #take(event: Exclude<Extract<Update, { op: 'events' }>['events'][number], { op: 'invalid' }>): void {
    const key = event.op === 'set' ? event.entry.key : event.key;
    const value = event.op === 'set' ? event.entry.value : undefined;
    if (key.type === 'IPPool') {
      if (value) this.#pools.set(key.name, value as IpPool);
      else this.#pools.delete(key.name);
    } else if (key.type === 'Node' && key.name === this.options.node) this.#node = value as Node | undefined;
  }

  #facts(family: Family): unknown {
    return [this.#fitting(family), this.#node?.spec[names[family].field]];
  }

  /** Names of the pools that the address may come from, by name. */
  #fitting(family: Family): string[] {
    if (!this.options.enabled()) return [];
    const labels = this.#node?.metadata.labels ?? {};
    return [...this.#pools.values()]
      .filter(({ metadata, spec }) => {
        if (familyOf(parseCidr(spec.cidr)) !== family || spec.vxlanMode === 'Never') return false;
        if (spec.disabled || !spec.allowedUses.includes('Tunnel')) return false;
        const selector = parseSelector(spec.nodeSelector, `IPPool(${metadata.name}).spec.nodeSelector`);
        return selector.matches(labels);
      })
      .map(({ metadata }) => metadata.name)
      .sort();
  }

  async #ensure(family: Family, signal: AbortSignal): Promise<void> {
    const { store, ipam, node } = this.options;
    const found = await store.get({ type: 'Node', name: node });
    // The node's own start-up has yet to write it; its event comes back here.
    if (!found) return;
    const { field, handle: prefix } = names[family];
    const handle = `${prefix}${node}`;
    const pools = this.#fitting(family);
    const held = (await ipam.byHandle(handle)).filter(({ address }) => familyOf(address) === family);
    const kept = held.find(({ address }) => address === found.value.spec[field]) ?? held[0];
    if (kept && pools.includes(kept.pool)) return this.#write(found, family, kept);
    if (held.length > 0) await ipam.release({ handle }, [withAddress(found, family, undefined)]);
    else if (found.value.spec[field] !== undefined) await this.#write(found, family, undefined);
    if (pools.length > 0) await this.#assign(family, handle, pools, signal);
  }

  async #assign(family: Family, handle: string, pools: readonly string[], signal: AbortSignal): Promise<void> {
    const { store, ipam, node, log } = this.options;
    const found = await store.get({ type: 'Node', name: node });
    if (!found) return;
    const [assigned] = await ipam.assign(
      {
        handle,
        families: [family],
        attributes: { type: names[family].type },
        pools,
        use: 'Tunnel',
        extra: ([assignment]) => [withAddress(found, family, assignment?.address)],
      },
      signal,
    );
    log.info({ address: assigned?.address, pool: assigned?.pool }, 'the VXLAN device has an address');
  }

  async #write(found: Entry<'Node'>, family: Family, held: Assignment | undefined): Promise<void> {
    if (found.value.spec[names[family].field] === held?.address) return;
    const { outcome } = await this.options.store.transact([withAddress(found, family, held?.address)]);
    if (outcome !== 'written') throw new Error('the Node resource changed meanwhile');
  }
}

/** The write that makes the Node say so, if it is still what was read. */
function withAddress({ key, value, revision }: Entry<'Node'>, family: Family, address: Ip | undefined): Write {
  const { [names[family].field]: _, ...others } = value.spec;
  const spec = { ...others, ...(address !== undefined && { [names[family].field]: address }) };
  return { op: 'update', key, value: { ...value, spec }, revision };
}
