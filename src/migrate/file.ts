import { LineCounter, stringify } from 'yaml';
import { InputError } from '../base/errors.ts';
import { parseDocuments, plainValue, repeatedKeys } from '../base/yaml.ts';
import { decode, encode } from '../datastore/codec.ts';
import { formatJson, parseJson } from '../datastore/json.ts';
import { etcdKey, parseEtcdKey } from '../datastore/layout.ts';
import type { Key, Type, Value } from '../datastore/store.ts';
import { isKind, type Kind, parseResource } from '../model/kinds.ts';
import { apiVersion, type Resource } from '../model/resource.ts';
import { type Item, isKubernetesOwn, itemOf } from './dump.ts';

/*
 * A dump as calicoctl writes and reads it, so that either tool takes the other's: three parts between lines of `===`.
 *
 *   1. resources as YAML lists, a document for each kind
 *   2. ClusterInformation as JSON
 *   3. IPAM's objects as JSON, `{Key, Value, TTL}` with keys and values as they are in etcd
 *
 * Objects that are Kubernetes' own where its API is the datastore stand in part 3 under `kubernetes_resources`, which
 * calicoctl passes over.
 */

const divider = '===';
const documentDivider = '---\n';

/** What a file holds, and what of it is of kinds that are not known here (`IPReservation/dns`). */
export interface DumpFile {
  readonly items: readonly Item[];
  readonly unknown: readonly string[];
}

interface Pair {
  readonly Key: string;
  readonly Value: unknown;
  readonly TTL: number;
}

const ipamLists = { block_affinities: 'BlockAffinity', blocks: 'Block', handles: 'Handle' } as const;

/** Items → text. */
export function formatDump(items: readonly Item[]): string {
  const resources = items.filter(({ key }) => isKind(key.type) && key.type !== 'ClusterInformation' && !isForeign(key));
  const kinds = [...new Set(resources.map(({ key }) => key.type))];
  const lists = kinds.map((kind) => {
    const values = resources.filter(({ key }) => key.type === kind).map(({ value }) => value);
    return stringify({ apiVersion, kind: `${kind}List`, items: values }, { aliasDuplicateObjects: false });
  });
  const cluster = items.find(({ key }) => key.type === 'ClusterInformation')?.value ?? {};
  return [
    lists.map((text) => text + documentDivider).join(''),
    `${divider}\n${formatJson(cluster)}\n${divider}\n${formatJson(ipamPart(items))}\n`,
  ].join('');
}

/** Endpoints are no resources for calicoctl, and neither is what Kubernetes owns. */
function isForeign(key: Key): boolean {
  return key.type === 'WorkloadEndpoint' || isKubernetesOwn(key);
}

function ipamPart(items: readonly Item[]): object {
  const pairs = (type: Type) => items.filter(({ key }) => key.type === type).map(pairOf);
  const [config] = pairs('IpamConfig');
  const lists = Object.entries(ipamLists).map(([name, type]) => [name, pairs(type)] as const);
  const foreign = items.filter(({ key }) => isForeign(key)).map(({ value }) => value);
  return {
    ...Object.fromEntries(lists.filter(([, found]) => found.length > 0)),
    ...(config && { config }),
    ...(foreign.length > 0 && { kubernetes_resources: foreign }),
  };
}

function pairOf({ key, value }: Item): Pair {
  return { Key: etcdKey(key), Value: parseJson(encode(key, value).text), TTL: 0 };
}

/**
 * Text → items. @param file as the person named it
 * @throws InputError with the place of the first problem, before anything is taken
 */
export function parseDump(text: string, file: string): DumpFile {
  const parts = text.split(/^===\r?\n/m);
  const [yaml, cluster, ipam] = parts;
  if (parts.length !== 3 || yaml === undefined || cluster === undefined || ipam === undefined)
    throw new InputError(file, `${parts.length} parts`, 'three parts between lines of "===", as export writes');
  const unknown: string[] = [];
  const items = [
    ...resourcesOf(yaml, file, unknown),
    ...clusterOf(cluster, file),
    ...ipamOf(jsonObject(ipam, `${file}: part 3`), file),
  ];
  return { items, unknown };
}

/** A cluster's whole policy is larger than any manifest. */
const largest = { octets: 64 << 20, tokens: 16_000_000 };

function resourcesOf(text: string, file: string, unknown: string[]): Item[] {
  const lines = new LineCounter();
  const items: Item[] = [];
  for (const document of parseDocuments(text, file, lines, largest)) {
    const at = (offset: number) => `${file}:${lines.linePos(offset).line}`;
    const [problem] = document.errors;
    if (problem)
      throw new InputError(at(problem.pos[0]), problem.code, `readable YAML: ${problem.message.split('\n')[0]}`);
    const [twice] = repeatedKeys(document, 1);
    if (twice) throw new InputError(at(twice.offset), twice.key, 'a key that stands once');
    const value = plainValue(document, at(document.range[0]));
    for (const one of objectsOf(value, file)) {
      const kind = (one as { readonly kind?: unknown } | null)?.kind;
      if (isKind(kind)) items.push(resourceItem(kind, one));
      else unknown.push(unknownName(one));
    }
  }
  return items;
}

/** The members of a list, which name no kind of their own where another tool wrote them. */
function objectsOf(value: unknown, file: string): readonly unknown[] {
  if (value === null || value === undefined) return [];
  const { kind, items } = value as { readonly kind?: unknown; readonly items?: unknown };
  if (typeof kind !== 'string' || !kind.endsWith('List')) return [value];
  if (items === null || items === undefined) return [];
  if (!Array.isArray(items)) throw new InputError(`${file}: part 1: ${kind}.items`, items, 'a list');
  return items.map((each: object) => ({ apiVersion, kind: kind.slice(0, -'List'.length), ...each }));
}

function resourceItem(kind: Kind, value: unknown): Item {
  const resource: Resource = parseResource(kind, value);
  const { name, namespace } = resource.metadata;
  const key = { type: kind, name, ...(namespace !== undefined && { namespace }) } as Key;
  return itemOf(key, resource as Value<Type>);
}

function unknownName(value: unknown): string {
  const { kind, metadata } = (value ?? {}) as { kind?: unknown; metadata?: { name?: unknown; namespace?: unknown } };
  const place = [kind, metadata?.namespace, metadata?.name].filter((part) => part !== undefined);
  return place.map(String).join('/') || 'an object without kind';
}

function clusterOf(text: string, file: string): Item[] {
  const found = jsonObject(text, `${file}: part 2`);
  if (found['kind'] === undefined && found['spec'] === undefined) return [];
  return [resourceItem('ClusterInformation', { apiVersion, kind: 'ClusterInformation', ...found })];
}

function ipamOf(found: Readonly<Record<string, unknown>>, file: string): Item[] {
  const pairs = Object.keys(ipamLists).flatMap((name) => listOf(found[name], `${file}: part 3: ${name}`));
  const config = found['config'] ? [found['config']] : [];
  const foreign = listOf(found['kubernetes_resources'], `${file}: part 3: kubernetes_resources`).map((value) => {
    const kind = (value as { readonly kind?: unknown } | null)?.kind;
    if (isKind(kind)) return resourceItem(kind, value);
    throw new InputError(`${file}: part 3: kubernetes_resources`, kind, 'a known kind');
  });
  return [...[...pairs, ...config].map((pair) => pairItem(pair, file)), ...foreign];
}

function listOf(value: unknown, where: string): readonly unknown[] {
  if (value === undefined || value === null) return [];
  if (!Array.isArray(value)) throw new InputError(where, value, 'a list');
  return value;
}

function pairItem(pair: unknown, file: string): Item {
  const { Key: text, Value: value } = (pair ?? {}) as Partial<Pair>;
  const key = typeof text === 'string' ? parseEtcdKey(text) : undefined;
  if (key === undefined || isKind(key.type))
    throw new InputError(`${file}: part 3: Key`, text, "the etcd key of an object of IPAM's");
  return { key, value: decode<Type>(key, formatJson(value ?? null), '') };
}

function jsonObject(text: string, where: string): Readonly<Record<string, unknown>> {
  let found: unknown;
  try {
    found = parseJson(text);
  } catch (cause) {
    throw new InputError(where, text.slice(0, 60), 'JSON', { cause });
  }
  if (typeof found === 'object' && found !== null && !Array.isArray(found)) return { ...found };
  throw new InputError(where, found, 'a JSON object');
}
