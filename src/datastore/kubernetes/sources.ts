import { createHash } from 'node:crypto';
import { isKind, type Kind, kinds } from '../../model/kinds.ts';
import { formatJson } from '../json.ts';
import type { Entry, Type } from '../store.ts';
import { customSource } from './custom.ts';
import { affinitySource, blockSource, configSource, handleSource, ipamConfigs } from './ipam.ts';
import { nativeSources } from './native.ts';
import { nodeSource } from './node.ts';
import { podSource } from './pod.ts';
import { type ApiObject, type CalicoGroup, calicoGroup, v3Group } from './resources.ts';
import type { Reading, Source } from './source.ts';
import { v3IpamSources, v3Source } from './v3.ts';

/** Kinds that only Kubernetes' own objects stand for. */
const notCustom = new Set<Type>(['Node', 'WorkloadEndpoint', 'Profile', 'Service', 'EndpointSlice']);

/** All that the store knows: which objects stand for which types. */
export class Sources {
  readonly #all: readonly Source[];

  /**
   * @param own only what Kubernetes itself has, Pods without an address too; nothing by definitions of Calico's
   * @param group of Calico's objects
   */
  constructor(
    interfacePrefix: string,
    own = false,
    readonly group: CalicoGroup = calicoGroup,
  ) {
    const kubernetes = [nodeSource, podSource(interfacePrefix, own), ...nativeSources];
    this.#all = own ? kubernetes : [...(group === v3Group ? v3Sources() : v1Sources()), ...kubernetes];
  }

  of(types: readonly Type[]): readonly Source[] {
    return this.#all.filter(({ type }) => types.includes(type));
  }

  /** Whether a resource of Calico's group is read here. */
  has(plural: string): boolean {
    return this.#all.some(({ resource }) => resource.group === this.group && resource.plural === plural);
  }
}

function customKinds(): Kind[] {
  return Object.keys(kinds)
    .filter(isKind)
    .filter((kind) => !notCustom.has(kind));
}

function v1Sources(): Source[] {
  const custom = customKinds().map((kind) =>
    kind === 'IPAMConfiguration' ? customSource(kind, ipamConfigs) : customSource(kind),
  );
  return [...custom, blockSource, affinitySource, handleSource, configSource];
}

function v3Sources(): Source[] {
  return [...customKinds().map(v3Source), ...v3IpamSources];
}

/** What an object is to the store. */
export function readObject(source: Source, object: ApiObject): Reading {
  const key = source.keyOf(object);
  if (key === undefined) return { is: 'none' };
  try {
    const value = source.read(object, key);
    if (value === undefined) return { is: 'gone', key };
    const entry = { key, value, revision: object.metadata.resourceVersion ?? '' } as Entry;
    return { is: 'set', entry: source.digest ? digested(entry) : entry };
  } catch (thrown) {
    const error = thrown instanceof Error ? thrown : new Error(String(thrown));
    return { is: 'invalid', entry: { key, error, value: object } };
  }
}

/** `<resourceVersion>.<digest of the value>`; the digest says whether anything changed that matters here. */
function digested(entry: Entry): Entry {
  const { metadata, ...rest } = entry.value as { readonly metadata: Readonly<Record<string, unknown>> };
  const { resourceVersion: _, ...own } = metadata;
  const digest = createHash('sha1').update(formatJson({ own, rest })).digest('hex').slice(0, 16);
  const revision = `${entry.revision}.${digest}`;
  return { ...entry, revision, value: { ...rest, metadata: { ...own, resourceVersion: revision } } } as Entry;
}

/** Whether two revisions say the same of what matters: the digests, where there are some. */
export function sameRevision(a: string, b: string): boolean {
  const [left, right] = [a, b].map((text) => text.slice(text.indexOf('.') + 1));
  return left === right;
}
