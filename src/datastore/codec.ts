import { randomUUID } from 'node:crypto';
import { InputError } from '../base/errors.ts';
import { isKind, parseResource, type ResourceOf } from '../model/kinds.ts';
import type { Metadata, Resource } from '../model/resource.ts';
import { formatJson, parseJson } from './json.ts';
import { parseAffinity, parseBlock, parseHandle, parseIpamConfig } from './schemas.ts';
import { type Key, type KeyOf, keyText, type Type, type Value } from './store.ts';

/* Stored JSON text ⇄ checked values, in Calico's field order. */

/** Carries a policy's own name past name-mangling clients; written by Calico for policy kinds, removed on reading. */
const nameAnnotation = 'projectcalico.org/metadata';

const blockFields = [
  'cidr',
  'affinity',
  'affinity_claim_time',
  'allocations',
  'unallocated',
  'attributes',
  'sequenceNumber',
  'sequenceNumberForAllocation',
];
const metadataFields = ['name', 'namespace', 'uid', 'creationTimestamp', 'labels', 'annotations'];

/** @throws InputError naming the key and the field. A resource gets its revision as `metadata.resourceVersion`. */
export function decode<T extends Type>(key: KeyOf<T>, text: string, revision: string): Value<T> {
  return decodeAny(key as Key, parseText(key as Key, text), revision) as Value<T>;
}

/** A value as text, and what `decode` makes of that text at a revision; undefined where it would have to be asked. */
export interface Encoded {
  readonly text: string;
  readonly decoded: ((revision: string) => Value<Type>) | undefined;
}

/** @throws InputError when the value does not pass its kind's checks, so that nothing unreadable is ever stored */
export function encode(key: Key, value: Value<Type>): Encoded {
  if (isKind(key.type)) return encodeResource(key, value as Resource);
  // Parsing what is about to be written refuses what later could not be read.
  const decoded = decodeAny(key, value, '');
  const text = formatJson(ordered(value, key.type === 'Block' ? blockFields : [], ['deleted']));
  return { text, decoded: () => decoded };
}

/** The same resource with the `uid` and `creationTimestamp` it lacks. */
export function stamped(key: Key, value: Value<Type>, now: Date): Value<Type> {
  if (!isKind(key.type)) return value;
  const resource = value as Resource;
  if (resource.metadata.uid && resource.metadata.creationTimestamp) return value;
  const metadata: Metadata = {
    ...resource.metadata,
    uid: resource.metadata.uid || randomUUID(),
    creationTimestamp: resource.metadata.creationTimestamp || `${now.toISOString().slice(0, 19)}Z`,
  };
  return { ...resource, metadata } as Value<Type>;
}

/** The stored value without any check, undefined when it is no JSON. */
export function parseLoosely(text: string): unknown {
  try {
    return parseJson(text);
  } catch (thrown) {
    if (thrown instanceof SyntaxError) return undefined;
    throw thrown;
  }
}

function parseText(key: Key, text: string): unknown {
  if (text === '' && key.type === 'BlockAffinity') return {};
  try {
    return parseJson(text);
  } catch (cause) {
    throw new InputError(keyText(key), text, 'JSON', { cause });
  }
}

function decodeAny(key: Key, value: unknown, revision: string): Value<Type> {
  switch (key.type) {
    case 'Block':
      return parseBlock(value, key.cidr);
    case 'BlockAffinity':
      return parseAffinity(value, `BlockAffinity(${key.host} ${key.cidr})`);
    case 'Handle':
      return parseHandle(value, `Handle(${key.id})`);
    case 'IpamConfig':
      return parseIpamConfig(value);
    default:
      return decodeResource(key, value, revision);
  }
}

function decodeResource(key: Extract<Key, { name: string }>, value: unknown, revision: string): Value<Type> {
  const parsed: Resource = withPlace(key, () => parseResource(key.type, value));
  if (parsed.metadata.namespace !== key.namespace)
    throw new InputError(`${keyText(key)}.metadata.namespace`, parsed.metadata.namespace, String(key.namespace));
  const named = isPolicy(key) ? withOwnName(parsed as PolicyResource) : parsed;
  if (!isPolicy(key) && named.metadata.name !== key.name)
    throw new InputError(`${keyText(key)}.metadata.name`, named.metadata.name, key.name);
  return atRevision(named, revision);
}

/** Where a value does not say whose it is, or says another's, its key does: `Node/n1.kind` instead of `Node.kind`. */
function withPlace<T>(key: Extract<Key, { name: string }>, parse: () => T): T {
  try {
    return parse();
  } catch (thrown) {
    if (!(thrown instanceof InputError)) throw thrown;
    const { field, value, expected } = thrown;
    if (field.startsWith(`${key.type}(${key.name})`)) throw thrown;
    const path = /\.[A-Za-z][\w.[\]]*$/.exec(field)?.[0] ?? '';
    throw new InputError(keyText(key) + path, value, expected, { cause: thrown });
  }
}

type PolicyResource = ResourceOf<
  'NetworkPolicy' | 'GlobalNetworkPolicy' | 'StagedNetworkPolicy' | 'StagedGlobalNetworkPolicy'
>;

function isPolicy({ type }: Key): boolean {
  return isPolicyKind(type);
}

/** Kinds whose resources may be stored under another name than their own. */
export function isPolicyKind(type: Type): boolean {
  return (
    type === 'NetworkPolicy' ||
    type === 'GlobalNetworkPolicy' ||
    type === 'StagedNetworkPolicy' ||
    type === 'StagedGlobalNetworkPolicy'
  );
}

/**
 * A policy's name is the one in its annotation; without one, in tier default, keys of old versions carry the prefix
 * `default.`, which is no part of the name.
 */
function withOwnName(policy: PolicyResource): PolicyResource {
  const { [nameAnnotation]: annotation, ...annotations } = policy.metadata.annotations ?? {};
  const { annotations: _, ...metadata } = policy.metadata;
  const kept = Object.keys(annotations).length > 0 ? { ...metadata, annotations } : metadata;
  if (annotation !== undefined) {
    const name = annotatedName(annotation, `${policy.kind}(${policy.metadata.name})`, policy.metadata.name);
    return { ...policy, metadata: { ...kept, name } };
  }
  const inDefault = (policy.spec.tier ?? 'default') === 'default';
  const name = inDefault ? metadata.name.replace(/^default\./, '') : metadata.name;
  return { ...policy, metadata: { ...kept, name } };
}

function annotatedName(annotation: string, where: string, policy: string): string {
  const field = `${where}.metadata.annotations.${nameAnnotation}`;
  try {
    const found = parseJson(annotation);
    if (typeof found !== 'object' || found === null) throw new InputError(field, annotation, 'a JSON object');
    if (!('name' in found)) return policy;
    if (typeof found.name === 'string' && found.name !== '') return found.name;
  } catch (cause) {
    if (cause instanceof InputError) throw cause;
    throw new InputError(field, annotation, 'JSON', { cause });
  }
  throw new InputError(field, annotation, 'a name');
}

/** A resource that is about to be written under a key. @throws InputError when it does not pass, or belongs elsewhere */
export function checkResource(key: Key, value: Resource): Resource {
  parseFitting(key, value);
  return value;
}

/** The resource as it will be read. */
function parseFitting(key: Key, value: Resource): Resource {
  if (!isKind(key.type) || !('name' in key)) throw new TypeError(`${keyText(key)} is no resource`);
  const parsed: Resource = parseResource(key.type, value);
  if (value.metadata.namespace !== key.namespace)
    throw new InputError(`${keyText(key)}.metadata.namespace`, value.metadata.namespace, String(key.namespace));
  if (!isPolicy(key) && value.metadata.name !== key.name)
    throw new InputError(`${keyText(key)}.metadata.name`, value.metadata.name, key.name);
  return parsed;
}

function encodeResource(key: Key, value: Resource): Encoded {
  const parsed = parseFitting(key, value);
  const { resourceVersion: _, ...stored } = value.metadata;
  const metadata = isPolicy(key)
    ? { ...stored, annotations: { ...stored.annotations, [nameAnnotation]: formatJson({ name: stored.name }) } }
    : stored;
  const fields = { ...value, metadata: ordered(metadata, metadataFields, []) };
  const text = formatJson(ordered(fields, ['kind', 'apiVersion', 'metadata'], []));
  // Of all resources it is these that a node writes for each pod.
  if (key.type !== 'WorkloadEndpoint') return { text, decoded: undefined };
  return { text, decoded: (revision) => atRevision(parsed, revision) };
}

function atRevision(resource: Resource, resourceVersion: string): Value<Type> {
  return { ...resource, metadata: { ...resource.metadata, resourceVersion } } as Value<Type>;
}

/** The same fields: `first` ones first, `last` ones last, the rest between them as they were. */
function ordered(value: object, first: readonly string[], last: readonly string[]): object {
  const fields = new Map<string, unknown>(Object.entries(value));
  const out: [string, unknown][] = [];
  for (const name of first) if (fields.has(name)) out.push([name, fields.get(name)]);
  for (const [name, field] of fields) if (!first.includes(name) && !last.includes(name)) out.push([name, field]);
  for (const name of last) if (fields.has(name)) out.push([name, fields.get(name)]);
  return Object.fromEntries(out);
}
