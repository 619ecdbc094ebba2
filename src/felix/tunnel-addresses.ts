import { Backoff } from '../base/backoff.ts';
import type { Clock } from '../base/clock.ts';
import { explain, InputError } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import { Trigger } from '../base/trigger.ts';
import type { Entry, Store, Write } from '../datastore/store.ts';
import type { Update } from '../datastore/update.ts';
import type { Assignment, Ipam } from '../ipam/allocator.ts';
import { type Family, familyOf, type Ip, parseCidr } from '../model/address.ts';
import type { IpPool, Node, ResourceOf } from '../model/kinds.ts';
import { parseSelector } from '../model/selector.ts';
import { lacksOf, poolMode, tunnelsFor } from './calc/tunnels.ts';

/** What is asked of address management. */
export type TunnelIpam = Pick<Ipam, 'assign' | 'byHandle' | 'release'>;

export interface TunnelAddressOptions {
  readonly store: Store;
  readonly ipam: TunnelIpam;
  readonly node: string;
  readonly families: readonly Family[];
  /** False: no such tunnels whatever the pools say. */
  readonly enabled: (kind: 'vxlan' | 'ipip') => boolean;
  readonly clock: Clock;
  readonly log: Log;
}

type Spec = Node['spec'];
type ClusterInformation = ResourceOf<'ClusterInformation'>;

/** A tunnel device's address: Calico's names of its handle and attribute, and the field of the Node. */
interface Purpose {
  readonly kind: 'vxlan' | 'ipip';
  readonly family: Family;
  readonly handle: string;
  readonly type: string;
  read(spec: Spec): string | undefined;
  write(spec: Spec, address: Ip | undefined): Spec;
}

const purposes: readonly Purpose[] = [
  {
    ...{ kind: 'ipip', family: 4, handle: 'ipip-tunnel-addr-', type: 'ipipTunnelAddress' },
    read: ({ bgp }) => bgp?.ipv4IPIPTunnelAddr,
    write({ bgp: { ipv4IPIPTunnelAddr: _, ...bgp } = {}, ...others }, address) {
      const now = { ...bgp, ...(address !== undefined && { ipv4IPIPTunnelAddr: address }) };
      return { ...others, ...(Object.keys(now).length > 0 && { bgp: now }) };
    },
  },
  {
    ...{ kind: 'vxlan', family: 4, handle: 'vxlan-tunnel-addr-', type: 'vxlanTunnelAddress' },
    read: ({ ipv4VXLANTunnelAddr }) => ipv4VXLANTunnelAddr,
    write: ({ ipv4VXLANTunnelAddr: _, ...others }, address) => ({
      ...others,
      ...(address !== undefined && { ipv4VXLANTunnelAddr: address }),
    }),
  },
  {
    ...{ kind: 'vxlan', family: 6, handle: 'vxlan-v6-tunnel-addr-', type: 'vxlanV6TunnelAddress' },
    read: ({ ipv6VXLANTunnelAddr }) => ipv6VXLANTunnelAddr,
    write: ({ ipv6VXLANTunnelAddr: _, ...others }, address) => ({
      ...others,
      ...(address !== undefined && { ipv6VXLANTunnelAddr: address }),
    }),
  },
];

/**
 * Keeps an address for each of the node's tunnel devices: taken from a pool with such encapsulation that allows tunnels
 * and selects the node, held by a handle such as `vxlan-tunnel-addr-<node>`, and written to the Node in the same
 * transaction. Without such a pool the address is given back.
 */
export class TunnelAddresses {
  readonly #pools = new Map<string, IpPool>();
  readonly #changed: Trigger;
  #node: Node | undefined;
  /** Nodes whose kernel has no IPIP: pools may name VXLAN as a fallback. */
  readonly #lacking = new Set<string>();
  #inSync = false;
  /** While the datastore is moved to another, nothing is written. */
  #locked = false;

  constructor(private readonly options: TunnelAddressOptions) {
    this.#changed = new Trigger(options.clock);
  }

  /** Takes a syncer's update; its types must include IPPool, Node and ClusterInformation. */
  consume(update: Update): void {
    if (update.op === 'connection' || update.op === 'listed') return;
    if (update.op === 'inSync') this.#inSync = true;
    else for (const event of update.events) if (event.op !== 'invalid') this.#take(event);
    if (this.#inSync) this.#changed.fire();
  }

  async run(signal: AbortSignal): Promise<void> {
    const { families, log } = this.options;
    const own = purposes.filter(({ family }) => families.includes(family));
    const backoff = new Backoff(100, 30_000);
    let retryMs: number | undefined;
    let last = '';
    while (!signal.aborted) {
      await this.#changed.wait(retryMs, signal);
      if (signal.aborted) return;
      const wishes = JSON.stringify(own.map((purpose) => this.#facts(purpose)));
      if (wishes === last && retryMs === undefined) continue;
      if (this.#locked) {
        // Its end comes as a change; what failed before is tried again then.
        last = '';
        retryMs = undefined;
        continue;
      }
      try {
        for (const purpose of own) await this.#ensure(purpose, signal);
        // As it was before: what changed meanwhile, our own write too, is looked at again.
        last = wishes;
        retryMs = undefined;
        backoff.reset();
      } catch (thrown) {
        if (signal.aborted) return;
        retryMs = backoff.next();
        log.warn(
          { error: explain(thrown), retryMs },
          'the addresses of the tunnel devices are not settled; will retry',
        );
      }
    }
  }

  #take(event: Exclude<Extract<Update, { op: 'events' }>['events'][number], { op: 'invalid' }>): void {
    const key = event.op === 'set' ? event.entry.key : event.key;
    const value = event.op === 'set' ? event.entry.value : undefined;
    if (key.type === 'IPPool') {
      if (!value) this.#pools.delete(key.name);
      else if (understood(key.name, value as IpPool)) this.#pools.set(key.name, value as IpPool);
    } else if (key.type === 'Node') {
      const found = value as Node | undefined;
      if (found && lacksOf(found.metadata).has('ipip')) this.#lacking.add(key.name);
      else this.#lacking.delete(key.name);
      if (key.name === this.options.node) this.#node = found;
    } else if (key.type === 'ClusterInformation' && key.name === 'default')
      this.#locked = (value as ClusterInformation | undefined)?.spec.datastoreReady === false;
  }

  #facts(purpose: Purpose): unknown {
    return [this.#fitting(purpose), this.#node && purpose.read(this.#node.spec)];
  }

  /** Names of the pools that the address may come from, by name. */
  #fitting({ kind, family }: Purpose): string[] {
    if (!this.options.enabled(kind)) return [];
    const lacking = new Set(family === 4 && this.#lacking.size > 0 ? (['ipip'] as const) : []);
    const labels = this.#node?.metadata.labels ?? {};
    return [...this.#pools.values()]
      .filter((pool) => {
        const { metadata, spec } = pool;
        if (familyOf(parseCidr(spec.cidr)) !== family) return false;
        const mode = poolMode(`IPPool(${metadata.name})`, pool);
        if (!tunnelsFor(mode, lacking).has(kind)) return false;
        if (spec.disabled || !spec.allowedUses.includes('Tunnel')) return false;
        const selector = parseSelector(spec.nodeSelector, `IPPool(${metadata.name}).spec.nodeSelector`);
        return selector.matches(labels);
      })
      .map(({ metadata }) => metadata.name)
      .sort();
  }

  async #ensure(purpose: Purpose, signal: AbortSignal): Promise<void> {
    const { store, ipam, node } = this.options;
    const found = await store.get({ type: 'Node', name: node });
    // The node's own start-up has yet to write it; its event comes back here.
    if (!found) return;
    const handle = `${purpose.handle}${node}`;
    const pools = this.#fitting(purpose);
    const held = (await ipam.byHandle(handle)).filter(({ address }) => familyOf(address) === purpose.family);
    const said = purpose.read(found.value.spec);
    const kept = held.find(({ address }) => address === said) ?? held[0];
    if (kept && pools.includes(kept.pool)) return this.#write(found, purpose, kept);
    if (held.length > 0) await ipam.release({ handle }, [withAddress(found, purpose, undefined)]);
    else if (said !== undefined) await this.#write(found, purpose, undefined);
    if (pools.length > 0) await this.#assign(purpose, handle, pools, signal);
  }

  async #assign(purpose: Purpose, handle: string, pools: readonly string[], signal: AbortSignal): Promise<void> {
    const { store, ipam, node, log } = this.options;
    const found = await store.get({ type: 'Node', name: node });
    if (!found) return;
    const [assigned] = await ipam.assign(
      {
        handle,
        families: [purpose.family],
        attributes: { type: purpose.type },
        pools,
        use: 'Tunnel',
        extra: ([assignment]) => [withAddress(found, purpose, assignment?.address)],
      },
      signal,
    );
    log.info(
      { kind: purpose.kind, address: assigned?.address, pool: assigned?.pool },
      'the tunnel device has an address',
    );
  }

  async #write(found: Entry<'Node'>, purpose: Purpose, held: Assignment | undefined): Promise<void> {
    if (purpose.read(found.value.spec) === held?.address) return;
    const { outcome } = await this.options.store.transact([withAddress(found, purpose, held?.address)]);
    if (outcome !== 'written') throw new Error('the Node resource changed meanwhile');
  }
}

/** A pool that is not understood keeps its last good form; the calculation of routes says what is wrong with it. */
function understood(name: string, pool: IpPool): boolean {
  try {
    poolMode(`IPPool(${name})`, pool);
    return true;
  } catch (thrown) {
    if (thrown instanceof InputError) return false;
    throw thrown;
  }
}

/** The write that makes the Node say so, if it is still what was read. */
function withAddress({ key, value, revision }: Entry<'Node'>, purpose: Purpose, address: Ip | undefined): Write {
  return { op: 'update', key, value: { ...value, spec: purpose.write(value.spec, address) }, revision };
}
