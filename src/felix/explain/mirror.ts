import { type Event, type Key, keyText, type Type } from '../../datastore/store.ts';
import type { Update } from '../../datastore/update.ts';
import { cidrParts, type Ip, parseCidr } from '../../model/address.ts';
import type { EndpointSlice, Service, WorkloadEndpoint } from '../../model/kinds.ts';
import type { End, ServiceEnd } from '../../policy/ends.ts';
import { addressesOfHost } from '../../policy/path.ts';
import { serviceEndpointsOf } from '../../policy/service.ts';
import { addressesOf as serviceAddresses } from '../../policy/service-question.ts';

/** Kinds that verdicts depend on. */
export const verdictTypes = [
  'WorkloadEndpoint',
  'Profile',
  'Tier',
  'NetworkPolicy',
  'GlobalNetworkPolicy',
  'NetworkSet',
  'GlobalNetworkSet',
  'Node',
  'EndpointSlice',
  'Service',
  'HostEndpoint',
  'IPPool',
  'FelixConfiguration',
] as const satisfies readonly Type[];

const kept: ReadonlySet<Type> = new Set(verdictTypes);

/**
 * Where an object of which there are many is found: `pod shop/web`, `service shop/db` (its slices, too), `at 10.0.0.1`,
 * `in shop`; the others are in `all`.
 */
type Place = string;

/**
 * The stored objects as felix heard of them, found by what a question about two ends asks: of tens of thousands some
 * dozens count.
 */
export class ClusterMirror {
  readonly #events = new Map<string, Event>();
  /** Where only one object is, which is the rule, its key alone. */
  readonly #byPlace = new Map<Place, string | Set<string>>();

  #complete = false;

  /** Whether everything that is stored has been heard of once. */
  get complete(): boolean {
    return this.#complete;
  }

  consume(update: Update): void {
    if (update.op === 'events') for (const event of update.events) this.#apply(event);
    else if (update.op === 'inSync') this.#complete = true;
  }

  /** What a verdict between the ends depends on, and perhaps more; of a service, which endpoints it has. */
  about(...ends: readonly (End | ServiceEnd)[]): Event[] {
    const found = new Set(this.#at('all'));
    const take = (place: Place) => {
      for (const key of this.#at(place)) found.add(key);
    };
    for (const end of ends) {
      if ('pod' in end) take(`pod ${end.namespace}/${end.pod}`);
      if ('service' in end) take(`service ${end.namespace}/${end.service}`);
    }
    const pods = () => this.#of(found).flatMap((event) => endpointIn(event) ?? []);
    const addresses = new Set(pods().flatMap(addressesOf));
    for (const end of ends) {
      if ('address' in end) addresses.add(end.address);
      if ('host' in end) for (const address of addressesOfHost(this.#of(found), end.host)) addresses.add(address);
    }
    for (const address of addresses) take(`at ${address}`);
    for (const { metadata } of pods()) take(`in ${metadata.namespace}`);
    for (const { metadata } of this.#of(found).flatMap((event) => serviceIn(event) ?? []))
      take(`service ${metadata.namespace}/${metadata.name}`);
    return this.#of(found);
  }

  /** The pod that has the address; of two, the one that was heard of last. */
  podAt(address: Ip): { readonly namespace: string; readonly pod: string } | undefined {
    const last = this.#of(this.#at(`at ${address}`)).findLast((event) => endpointIn(event));
    const found = last && endpointIn(last);
    if (!found) return undefined;
    return { namespace: found.metadata.namespace ?? '', pod: found.spec.pod ?? found.metadata.name };
  }

  /** How many objects of each kind there are. */
  counts(): ReadonlyMap<Key['type'], number> {
    const counts = new Map<Key['type'], number>();
    for (const event of this.#events.values()) {
      const { type } = event.op === 'delete' ? event.key : event.entry.key;
      counts.set(type, (counts.get(type) ?? 0) + 1);
    }
    return counts;
  }

  #of(keys: Iterable<string>): Event[] {
    return [...keys].flatMap((key) => this.#events.get(key) ?? []);
  }

  #at(place: Place): Iterable<string> {
    const there = this.#byPlace.get(place);
    return typeof there === 'string' ? [there] : (there ?? []);
  }

  #apply(event: Event): void {
    const key = event.op === 'delete' ? event.key : event.entry.key;
    if (!kept.has(key.type)) return;
    const text = keyText(key);
    const before = this.#events.get(text);
    if (before) for (const place of placesOf(before, key)) this.#leave(place, text);
    this.#events.delete(text);
    if (event.op === 'delete') return;
    this.#events.set(text, event);
    for (const place of placesOf(event, key)) {
      const there = this.#byPlace.get(place);
      if (there === undefined) this.#byPlace.set(place, text);
      else if (typeof there !== 'string') there.add(text);
      else this.#byPlace.set(place, new Set([there, text]));
    }
  }

  #leave(place: Place, key: string): void {
    const there = this.#byPlace.get(place);
    if (typeof there === 'object') there.delete(key);
    if (there === key || (typeof there === 'object' && there.size === 0)) this.#byPlace.delete(place);
  }
}

function placesOf(event: Event, key: Key): Place[] {
  if (key.type === 'NetworkPolicy') return [`in ${key.namespace}`];
  const pod = endpointIn(event);
  if (pod) {
    const { namespace, name } = pod.metadata;
    return [`pod ${namespace}/${pod.spec.pod ?? name}`, ...addressesOf(pod).map((address) => `at ${address}`)];
  }
  const service = serviceIn(event);
  if (service) {
    const { namespace, name } = service.metadata;
    return [`service ${namespace}/${name}`, ...new Set(serviceAddresses(service).map((address) => `at ${address}`))];
  }
  if (key.type !== 'EndpointSlice' || event.op !== 'set') return ['all'];
  const slice = event.entry.value as EndpointSlice;
  const { facts } = serviceEndpointsOf(slice);
  return [
    `service ${slice.metadata.namespace}/${slice.spec.service ?? ''}`,
    ...new Set(facts.addresses.map((cidr) => `at ${cidrParts(cidr).address}`)),
  ];
}

function serviceIn(event: Event): Service | undefined {
  const is = event.op === 'set' && event.entry.key.type === 'Service';
  return is ? (event.entry.value as Service) : undefined;
}

function endpointIn(event: Event): WorkloadEndpoint | undefined {
  const is = event.op === 'set' && event.entry.key.type === 'WorkloadEndpoint';
  return is ? (event.entry.value as WorkloadEndpoint) : undefined;
}

function addressesOf({ spec }: WorkloadEndpoint): Ip[] {
  return spec.ipNetworks.map((net) => cidrParts(parseCidr(net)).address);
}
