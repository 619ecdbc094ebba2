import type { Cidr } from '../model/address.ts';
import type { EndpointSlice, Service } from '../model/kinds.ts';
import { type Announcer, type ServiceRanges, serviceKey, servicePrefixes, wholeRanges } from './services.ts';

/**
 * `serviceOriginations` kept up to date: a change of one service or slice costs that service only, so that thousands of
 * them and their churn do not weigh on the speaker.
 */
export class ServiceIndex {
  readonly #services = new Map<string, Service>();
  readonly #slices = new Map<string, EndpointSlice>();
  /** By service, by slice. */
  readonly #slicesOf = new Map<string, Map<string, EndpointSlice>>();
  readonly #prefixes = new Map<string, readonly Cidr[]>();
  /** How many services announce a prefix: several may share an external address. */
  readonly #counts = new Map<Cidr, number>();
  #settings: { readonly ranges: ServiceRanges; readonly announcer: Announcer; readonly key: string } | undefined;
  #sorted: readonly Cidr[] | undefined;

  /** Of the node and its ranges: everything to announce, sorted. The same array as long as nothing changes. */
  originations(ranges: ServiceRanges, announcer: Announcer): readonly Cidr[] {
    const key = JSON.stringify([ranges, announcer]);
    if (key !== this.#settings?.key) {
      this.#settings = { ranges, announcer, key };
      this.#sorted = undefined;
      for (const service of this.#services.keys()) this.#evaluate(service);
    }
    this.#sorted ??= [...new Set([...wholeRanges(ranges, announcer), ...this.#counts.keys()])].sort();
    return this.#sorted;
  }

  /** Each returns whether other prefixes are to be announced now. */
  setService(service: Service): boolean {
    const key = serviceKey(service.metadata.namespace, service.metadata.name);
    this.#services.set(key, service);
    return this.#evaluate(key);
  }

  deleteService(namespace: string | undefined, name: string): boolean {
    const key = serviceKey(namespace, name);
    this.#services.delete(key);
    return this.#evaluate(key);
  }

  setSlice(slice: EndpointSlice): boolean {
    const { namespace, name } = slice.metadata;
    const left = this.#detach(namespace, name, slice.spec.service);
    const key = serviceKey(namespace, slice.spec.service);
    this.#slices.set(serviceKey(namespace, name), slice);
    const siblings = this.#slicesOf.get(key) ?? new Map<string, EndpointSlice>();
    siblings.set(name, slice);
    this.#slicesOf.set(key, siblings);
    return this.#evaluate(key) || left;
  }

  deleteSlice(namespace: string | undefined, name: string): boolean {
    return this.#detach(namespace, name, undefined);
  }

  /** Takes a slice from the service that it was of, unless it stays there. */
  #detach(namespace: string | undefined, name: string, stays: string | undefined): boolean {
    const before = this.#slices.get(serviceKey(namespace, name));
    if (!before || (stays !== undefined && before.spec.service === stays)) return false;
    this.#slices.delete(serviceKey(namespace, name));
    const key = serviceKey(namespace, before.spec.service);
    const siblings = this.#slicesOf.get(key);
    siblings?.delete(name);
    if (siblings?.size === 0) this.#slicesOf.delete(key);
    return this.#evaluate(key);
  }

  #evaluate(key: string): boolean {
    if (!this.#settings) return false;
    const { ranges, announcer } = this.#settings;
    const service = this.#services.get(key);
    const before = this.#prefixes.get(key) ?? [];
    const after = service ? servicePrefixes(service, this.#slicesOf.get(key)?.values() ?? [], ranges, announcer) : [];
    if (after.length > 0) this.#prefixes.set(key, after);
    else this.#prefixes.delete(key);
    let changed = false;
    for (const prefix of after) changed = this.#count(prefix, 1) || changed;
    for (const prefix of before) changed = this.#count(prefix, -1) || changed;
    if (changed) this.#sorted = undefined;
    return changed;
  }

  /** Whether the prefix came or went. */
  #count(prefix: Cidr, by: 1 | -1): boolean {
    const count = (this.#counts.get(prefix) ?? 0) + by;
    if (count > 0) this.#counts.set(prefix, count);
    else this.#counts.delete(prefix);
    return by === 1 ? count === 1 : count === 0;
  }
}
