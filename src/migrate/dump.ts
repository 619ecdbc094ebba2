import {
  type InvalidEntry,
  type Key,
  keyText,
  type Other,
  type Store,
  type Type,
  type Value,
} from '../datastore/store.ts';
import { loadBalancer } from '../model/ipam.ts';
import { isKind, type Kind, kinds } from '../model/kinds.ts';
import { kubernetesName } from '../model/kubernetes.ts';
import type { Metadata, Resource } from '../model/resource.ts';

/* All that a datastore holds of Calico's model, as plain objects that another datastore can take. */

export interface Item {
  readonly key: Key;
  readonly value: Value<Type>;
}

/** What was read of a datastore, and what of it could not be understood. */
export interface Dump {
  readonly items: readonly Item[];
  readonly invalid: readonly InvalidEntry[];
  /** Objects of kinds that are not known here. */
  readonly others: readonly Other[];
}

/** What others refer to comes first: pools, tiers before policies, nodes before what is said of one node. */
const first: readonly Kind[] = ['IPPool', 'BGPPeer', 'BGPFilter', 'Tier', 'Node'];
const last: readonly Type[] = ['BlockAffinity', 'Block', 'Handle', 'IpamConfig', 'WorkloadEndpoint'];

/** Every type in the order in which it is written. */
export const types: readonly Type[] = [
  ...first,
  ...Object.keys(kinds)
    .filter(isKind)
    .filter((kind) => !first.includes(kind) && !last.includes(kind)),
  ...last,
];

/** Reads everything, all lists at one revision where the driver can. @throws GoneError, StoreUnavailableError */
export async function readDump(store: Store): Promise<Dump> {
  const items: Item[] = [];
  const invalid: InvalidEntry[] = [];
  let revision: string | undefined;
  for (const type of types) {
    const listing = await store.list<Type>(type, revision === undefined ? {} : { revision });
    revision = listing.revision;
    for (const { key, value } of listing.entries) items.push(itemOf(key, value));
    invalid.push(...listing.invalid);
    if (type !== 'BlockAffinity') continue;
    const services = await store.list(type, { revision, host: loadBalancer });
    for (const { key, value } of services.entries) items.push(itemOf(key, value));
    invalid.push(...services.invalid);
  }
  return { items, invalid, others: (await store.others?.()) ?? [] };
}

/** A value without what belongs to the datastore it was read from. */
export function itemOf(key: Key, value: Value<Type>): Item {
  if (!isKind(key.type)) return { key, value };
  const resource = value as Resource;
  const { labels, annotations, name, namespace } = resource.metadata;
  const metadata: Metadata = {
    name,
    ...(namespace !== undefined && { namespace }),
    ...(labels && Object.keys(labels).length > 0 && { labels }),
    ...(annotations && Object.keys(annotations).length > 0 && { annotations }),
  };
  // Keys of old policies carry the tier's name, which is no part of the policy's.
  const own = { type: key.type, name, ...(namespace !== undefined && { namespace }) } as Key;
  return { key: own, value: { ...resource, metadata } as Value<Type> };
}

/** Items by their keys' text; of two with one name the first counts. */
export function byKey(items: readonly Item[]): ReadonlyMap<string, Item> {
  const found = new Map<string, Item>();
  for (const item of items) if (!found.has(keyText(item.key))) found.set(keyText(item.key), item);
  return found;
}

/** Whether, with the Kubernetes API as the datastore, an object of Kubernetes' own stands for a key. */
export function isKubernetesOwn(key: Key): boolean {
  switch (key.type) {
    case 'Profile':
    case 'Service':
    case 'EndpointSlice':
      return true;
    case 'NetworkPolicy':
    case 'GlobalNetworkPolicy':
      return kubernetesName(key.type, key.name) !== undefined;
    default:
      return false;
  }
}
