import { explain, InputError } from '../base/errors.ts';
import type { Entry, KeyOf, Store, Type, Value } from '../datastore/store.ts';
import type { Node, ResourceOf, WorkloadEndpoint } from '../model/kinds.ts';
import {
  comparable,
  type Difference,
  essenceOf,
  type Form,
  fieldDifferences,
  nameOf,
  nodeFacts,
  sameEssence,
} from './compare.ts';
import { type Item, isKubernetesOwn, types } from './dump.ts';
import { withKubernetesNames } from './rename.ts';

/*
 * Writes a dump into a datastore, object by object. What is there already and says the same is left alone, so an import
 * that broke off is simply run again; what says something else is a conflict, told and not touched.
 */

type ClusterInformation = ResourceOf<'ClusterInformation'>;

export type Imported =
  | { readonly outcome: 'created' | 'completed' | 'replaced' | 'unchanged'; readonly object: string }
  /** Kubernetes' own objects stand for it, or have none for it to be kept in. */
  | { readonly outcome: 'left'; readonly object: string; readonly reason: string }
  | { readonly outcome: 'conflict'; readonly object: string; readonly differences: readonly Difference[] }
  | { readonly outcome: 'failed'; readonly object: string; readonly reason: string };

export interface ImportOptions {
  readonly form: Form;
  /** The file's word counts where both have one. */
  readonly overwrite: boolean;
  readonly signal: AbortSignal;
  /** Told of each object when it is done with. */
  readonly done: (result: Imported) => void;
}

/**
 * Imports all items in the order of `types`.
 * @throws StoreUnavailableError, when what was done so far stands
 */
export async function importDump(store: Store, items: readonly Item[], options: ImportOptions): Promise<void> {
  const named = options.form === 'kubernetes' ? withKubernetesNames(items) : items;
  const taken = new Set(comparable(named, options.form));
  const place = new Map(types.map((type, at) => [type, at]));
  const ordered = named.toSorted((a, b) => (place.get(a.key.type) ?? 0) - (place.get(b.key.type) ?? 0));
  for (const item of ordered) {
    options.signal.throwIfAborted();
    options.done(taken.has(item) ? await importOne(store, item, options) : left(item));
  }
}

function left({ key, ...item }: Item): Imported {
  const reason = isKubernetesOwn(key)
    ? "Kubernetes' own object stands for it"
    : 'the same object as the IPAM settings there';
  return { outcome: 'left', object: nameOf({ key, ...item }), reason };
}

async function importOne(store: Store, item: Item, options: ImportOptions): Promise<Imported> {
  const object = nameOf(item);
  try {
    const key = item.key as KeyOf<Type>;
    const found = await store.get<Type>(key);
    if (found === undefined) return await createOne(store, item, options.form);
    const plan = planOne(item, found, options);
    if (!('value' in plan)) return { ...plan, object };
    const { outcome } = await store.update<Type>(key, plan.value, found.revision);
    if (outcome === 'written') return { outcome: plan.outcome, object };
    return { outcome: 'failed', object, reason: 'somebody else changed it at the same time' };
  } catch (thrown) {
    if (!(thrown instanceof InputError)) throw thrown;
    return { outcome: 'failed', object, reason: explain(thrown) };
  }
}

async function createOne(store: Store, item: Item, form: Form): Promise<Imported> {
  const object = nameOf(item);
  const { type } = item.key;
  if (form === 'kubernetes' && (type === 'Node' || type === 'WorkloadEndpoint'))
    return {
      outcome: 'left',
      object,
      reason: `Kubernetes has no such ${type === 'Node' ? 'Node' : 'Pod with an address'}`,
    };
  const { outcome } = await store.create<Type>(item.key as KeyOf<Type>, item.value);
  if (outcome === 'written') return { outcome: 'created', object };
  return { outcome: 'failed', object, reason: 'somebody else made it at the same time' };
}

type Planned =
  | { readonly outcome: 'unchanged' }
  | { readonly outcome: 'conflict'; readonly differences: readonly Difference[] }
  | { readonly outcome: 'completed' | 'replaced'; readonly value: Value<Type> };

/** What to do about an object that is there. Pure. */
export function planOne(
  item: Item,
  found: Entry<Type>,
  { form, overwrite }: Pick<ImportOptions, 'form' | 'overwrite'>,
): Planned {
  const current: Item = { key: item.key, value: found.value };
  const completed = completion(item, current, form);
  if (completed) return { outcome: 'completed', value: completed };
  if (sameEssence(item, current, form)) return { outcome: 'unchanged' };
  const differences = fieldDifferences(essenceOf(item, form), essenceOf(current, form), nameOf(item));
  if (!overwrite) return { outcome: 'conflict', differences };
  return { outcome: 'replaced', value: replacement(item, current, form) };
}

/**
 * The value for an object that another has made and that lacks what the file knows; undefined where nothing is lacking,
 * or the two contradict each other.
 */
function completion({ key, value }: Item, current: Item, form: Form): Value<Type> | undefined {
  if (key.type === 'ClusterInformation')
    return clusterOf(value as ClusterInformation, current.value as ClusterInformation);
  if (form !== 'kubernetes') return undefined;
  if (key.type === 'Node') return completedNode(value as Node, current.value as Node);
  if (key.type === 'WorkloadEndpoint')
    return completedEndpoint(value as WorkloadEndpoint, current.value as WorkloadEndpoint);
  return undefined;
}

/** The cluster's identity is the file's; whether it is locked, and its form of datastore, are the target's. */
function clusterOf(value: ClusterInformation, current: ClusterInformation): ClusterInformation | undefined {
  const { clusterGUID, calicoVersion } = value.spec;
  const spec = {
    ...current.spec,
    ...(clusterGUID !== undefined && { clusterGUID }),
    ...(calicoVersion !== undefined && { calicoVersion }),
  };
  const same = spec.clusterGUID === current.spec.clusterGUID && spec.calicoVersion === current.spec.calicoVersion;
  return same ? undefined : { ...current, spec };
}

/** A Kubernetes Node with what its annotations lack. */
function completedNode(value: Node, current: Node): Node | undefined {
  const [wanted, had] = [nodeFacts(value), nodeFacts(current)] as [Facts, Facts];
  if (contradicts(wanted, had) || !lacks(wanted, had)) return undefined;
  return withFacts(current, wanted);
}

function completedEndpoint(value: WorkloadEndpoint, current: WorkloadEndpoint): WorkloadEndpoint | undefined {
  const { containerID, mac } = value.spec;
  const same = value.spec.ipNetworks.join() === current.spec.ipNetworks.join() && value.spec.node === current.spec.node;
  const lacking = (containerID && !current.spec.containerID) || (mac && !current.spec.mac);
  if (!same || !lacking) return undefined;
  return {
    ...current,
    spec: { ...(containerID && { containerID }), ...(mac && { mac }), ...withoutEmpty(current.spec) },
  };
}

function withoutEmpty<T extends object>(value: T): T {
  return Object.fromEntries(Object.entries(value).filter(([, field]) => field !== '')) as T;
}

interface Facts {
  readonly [field: string]: unknown;
}

function leaves(facts: Facts, path = ''): [string, unknown][] {
  return Object.entries(facts).flatMap(([name, value]) =>
    typeof value === 'object' && value !== null ? leaves(value as Facts, `${path}${name}.`) : [[path + name, value]],
  );
}

function contradicts(wanted: Facts, had: Facts): boolean {
  const there = new Map(leaves(had));
  return leaves(wanted).some(([path, value]) => there.has(path) && there.get(path) !== value);
}

function lacks(wanted: Facts, had: Facts): boolean {
  const there = new Map(leaves(had));
  return leaves(wanted).some(([path]) => !there.has(path));
}

function withFacts(current: Node, { bgp, ...others }: Facts): Node {
  const merged = { ...current.spec, ...others, bgp: { ...current.spec.bgp, ...(bgp as object | undefined) } };
  return { ...current, spec: merged as Node['spec'] };
}

function replacement(item: Item, current: Item, form: Form): Value<Type> {
  if (form !== 'kubernetes') return withIdentity(item, current);
  if (item.key.type === 'Node') return withFacts(current.value as Node, nodeFacts(item.value as Node) as Facts);
  if (item.key.type === 'WorkloadEndpoint') {
    const { ipNetworks, containerID, mac } = (item.value as WorkloadEndpoint).spec;
    const there = current.value as WorkloadEndpoint;
    const spec = { ...there.spec, ipNetworks, ...(containerID && { containerID }), ...(mac && { mac }) };
    return { ...there, spec };
  }
  return withIdentity(item, current);
}

/** The file's value as the object that is there: its uid and creation time stay. */
function withIdentity({ value }: Item, current: Item): Value<Type> {
  if (!('metadata' in value) || !('metadata' in current.value)) return value;
  const { uid, creationTimestamp } = current.value.metadata;
  const kept = { ...(uid && { uid }), ...(creationTimestamp && { creationTimestamp }) };
  return { ...value, metadata: { ...value.metadata, ...kept } };
}
