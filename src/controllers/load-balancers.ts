import type { Clock } from '../base/clock.ts';
import { explain, InputError } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import { GoneError, type Store, StoreUnavailableError } from '../datastore/store.ts';
import { Ipam } from '../ipam/allocator.ts';
import { type Held, heldIn } from '../ipam/audit-index.ts';
import { familyOf, type Ip } from '../model/address.ts';
import { type Block, loadBalancer } from '../model/ipam.ts';
import type { IpPool, Service } from '../model/kinds.ts';
import { namespacePrefix } from '../model/selector.ts';
import type { ControllerMetrics } from './metrics.ts';
import { handleOf, isManaged, planService, type ServicePlan } from './service-addresses.ts';
import type { Settings } from './settings.ts';
import type { View } from './view.ts';

/*
 * Services of type LoadBalancer get addresses of the pools that allow this use, under a handle of their own, in blocks
 * whose owner is no node; the addresses stand in the Service's status, whence the speakers announce them. What a service
 * no longer has a right to is freed after its status no longer says it.
 */

export interface LoadBalancersDeps {
  /** Where addresses are. */
  readonly store: Store;
  /** Kubernetes. */
  readonly cluster: Store;
  readonly clock: Clock;
  readonly log: Log;
  readonly metrics: ControllerMetrics;
}

/** An address of a service, as its block says. */
interface Holding {
  readonly address: Ip;
  readonly handle: string;
  readonly namespace: string;
  readonly service: string;
}

export class LoadBalancers {
  readonly #ipam: Ipam;
  #told = new Map<string, string>();

  constructor(private readonly deps: LoadBalancersDeps) {
    const { store, clock, log } = deps;
    this.#ipam = new Ipam({ store, clock, log, node: loadBalancer });
  }

  /**
   * One look at every service and at every address that services hold.
   * @param store the datastore's pools
   * @param services as Kubernetes has them
   * @param thorough looks for addresses in all blocks, not only in those of services
   * @param stop whether nothing more shall be written
   * @returns whether all is as it should be; false: try again
   * @throws StoreUnavailableError, GoneError
   */
  async pass(
    store: View,
    services: View,
    assignIps: Settings['assignIps'],
    thorough: boolean,
    stop: () => boolean,
    signal: AbortSignal,
  ): Promise<boolean> {
    const all = [...store.of('IPPool').values()].map(({ value }) => value);
    const pools = all.filter(({ spec }) => spec.allowedUses.includes('LoadBalancer'));
    if (pools.length === 0 && !thorough) return true;
    const holdings = Map.groupBy(await this.#holdings(thorough), ({ handle }) => handle);
    if (pools.length === 0 && holdings.size === 0) return true;
    let settled = true;
    const seen = new Set<string>();
    for (const { value } of services.of('Service').values()) {
      if (stop() || signal.aborted) return true;
      const handle = handleOf(value);
      seen.add(handle);
      const held = (holdings.get(handle) ?? []).map(({ address }) => address);
      const done = await this.#settle(value, held, isManaged(value, assignIps), pools, signal);
      settled = settled && done;
    }
    // A service that cannot be read may be whose these are.
    if (services.hasUnreadable('Service')) return settled;
    for (const [handle, ofOne] of holdings) {
      if (stop() || signal.aborted) return true;
      if (!seen.has(handle)) await this.#releaseGone(ofOne);
    }
    return settled;
  }

  /** What services hold, by the blocks that are theirs, or by all. */
  async #holdings(thorough: boolean): Promise<Holding[]> {
    const { store } = this.deps;
    const blocks: Block[] = [];
    if (thorough) blocks.push(...(await store.list('Block')).entries.map(({ value }) => value));
    else
      for (const { key } of (await store.list('BlockAffinity', { host: loadBalancer })).entries) {
        const block = await store.get({ type: 'Block', cidr: key.cidr });
        if (block) blocks.push(block.value);
      }
    return blocks.flatMap(heldIn).flatMap(holdingOf);
  }

  async #settle(
    service: Service,
    held: readonly Ip[],
    managed: boolean,
    pools: readonly IpPool[],
    signal: AbortSignal,
  ): Promise<boolean> {
    const place = placeOf(service);
    const name = `${place.namespace}/${place.name}`;
    try {
      if (!managed) {
        if (held.length > 0) await this.#giveUp(service, held);
        this.#told.delete(name);
        return true;
      }
      if (pools.length === 0) return true;
      const plan = await this.#plan(service, held, pools);
      const { given, problem } = await this.#assign(service, plan, pools, signal);
      const all = [...plan.keep, ...given].sort((a, b) => familyOf(a) - familyOf(b));
      const written = await this.#tell(service, all);
      if (written) await this.#release(service, plan.release, 'no longer asked for');
      if (problem === undefined) this.#told.delete(name);
      else this.#complain(name, problem);
      return written;
    } catch (thrown) {
      if (thrown instanceof StoreUnavailableError || thrown instanceof GoneError) throw thrown;
      this.#complain(name, explain(thrown));
      // What its annotations ask is refused until they change.
      return thrown instanceof InputError;
    }
  }

  /** A service that seems to lack an address is looked up by its handle, which knows of every block. */
  async #plan(service: Service, held: readonly Ip[], pools: readonly IpPool[]): Promise<ServicePlan> {
    const plan = planService(service, held, pools);
    if (plan.assign === undefined) return plan;
    const all = await this.#ipam.byHandle(handleOf(service));
    return planService(
      service,
      all.map(({ address }) => address),
      pools,
    );
  }

  /** What could not be had waits for a change of pools, services or reservations, or for the next audit. */
  async #assign(
    service: Service,
    { assign }: ServicePlan,
    pools: readonly IpPool[],
    signal: AbortSignal,
  ): Promise<{ readonly given: readonly Ip[]; readonly problem?: string }> {
    if (assign === undefined) return { given: [] };
    const { name, namespace = '' } = service.metadata;
    const attributes = { service: name, namespace, type: service.spec.type };
    const own = { handle: handleOf(service), attributes, use: 'LoadBalancer' } as const;
    try {
      const namespaceLabels = pools.some(selectsNamespaces) && (await this.#labelsOf(namespace));
      const request = { ...assign, ...own, ...(namespaceLabels && { namespaceLabels }) };
      const assigned = await this.#ipam.assign(request, signal);
      const given = assigned.map(({ address }) => address);
      this.#act('assignService', `${namespace}/${name}`, { addresses: given });
      return { given };
    } catch (thrown) {
      if (signal.aborted || thrown instanceof StoreUnavailableError) throw thrown;
      this.deps.metrics.acted('assignService', 'failed');
      return { given: [], problem: explain(thrown) };
    }
  }

  /** Of a namespace, as the profile tells them that is made of it; none of one that is gone. */
  async #labelsOf(namespace: string): Promise<Readonly<Record<string, string>>> {
    const found = await this.deps.cluster.get({ type: 'Profile', name: `kns.${namespace}` });
    const labels = Object.entries(found?.value.spec.labelsToApply ?? {});
    return Object.fromEntries(labels.map(([key, value]) => [key.slice(namespacePrefix.length), value]));
  }

  /** Whether its status says these addresses. */
  async #tell(service: Service, all: readonly Ip[]): Promise<boolean> {
    const { loadBalancerIPs } = service.spec;
    if (loadBalancerIPs.length === all.length && all.every((address) => loadBalancerIPs.includes(address))) return true;
    return (await this.#write(service, { all })) !== 'conflict';
  }

  async #giveUp(service: Service, held: readonly Ip[]): Promise<void> {
    const stands = held.some((address) => service.spec.loadBalancerIPs.includes(address));
    if (stands && (await this.#write(service, { without: held })) === 'conflict') return;
    await this.#release(service, held, 'the service gets its addresses elsewhere');
  }

  async #write(service: Service, change: { readonly all: readonly Ip[] } | { readonly without: readonly Ip[] }) {
    const { cluster } = this.deps;
    if (!cluster.writeServiceAddresses) throw new TypeError('services are written where Kubernetes is');
    return cluster.writeServiceAddresses(placeOf(service), change);
  }

  async #release(service: Service, addresses: readonly Ip[], detail: string): Promise<void> {
    if (addresses.length === 0) return;
    const handle = handleOf(service);
    await this.#ipam.releaseAddresses(addresses.map((address) => ({ address, handle })));
    const { namespace, name } = placeOf(service);
    this.#act('releaseService', `${namespace}/${name}`, { addresses, detail });
  }

  /** A service is asked for once more before what it had is another's: a new one of its name has a handle of its own. */
  async #releaseGone([first, ...others]: readonly Holding[]): Promise<void> {
    if (first === undefined) return;
    const { namespace, service: name, handle } = first;
    const found = await this.deps.cluster.get({ type: 'Service', namespace, name });
    if (found !== undefined && handleOf(found.value) === handle) return;
    await this.#ipam.release({ handle });
    const addresses = [first, ...others].map(({ address }) => address);
    this.#act('releaseService', `${namespace}/${name}`, { addresses, detail: 'the service is gone' });
  }

  #act(why: 'assignService' | 'releaseService', subject: string, facts: object): void {
    this.deps.metrics.acted(why, 'done');
    this.deps.log.info({ action: why, subject, why, ...facts }, 'done');
  }

  /** Once, until it changes. */
  #complain(service: string, problem: string): void {
    if (this.#told.get(service) === problem) return;
    this.#told.set(service, problem);
    this.deps.log.warn({ service, reason: problem }, 'no address for a service of type LoadBalancer');
  }
}

/** `all()` is any namespace. */
function selectsNamespaces({ spec: { namespaceSelector = '' } }: IpPool): boolean {
  return !['', 'all()'].includes(namespaceSelector.trim());
}

function placeOf({ metadata }: Service): { readonly namespace: string; readonly name: string } {
  return { namespace: metadata.namespace ?? '', name: metadata.name };
}

function holdingOf({ address, handle, attributes }: Held): Holding[] {
  const { service, namespace } = attributes;
  if (handle === undefined || !handle.startsWith('lb-') || !service || !namespace) return [];
  return [{ address, handle, namespace, service }];
}
