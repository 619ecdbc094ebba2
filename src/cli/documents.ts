import { type Document, isAlias, isNode, LineCounter } from 'yaml';
import { InputError } from '../base/errors.ts';
import { MemberIndex, parseDocuments, plainValue, repeatedKeys } from '../base/yaml.ts';
import type { Key, Value } from '../datastore/store.ts';
import { isKind, kinds, parseResource, type ResourceOf } from '../model/kinds.ts';
import { isKubernetesObject, kubernetesKinds, kubernetesName, parseKubernetes } from '../model/kubernetes.ts';
import { apiVersion } from '../model/resource.ts';
import type { UnknownField } from '../model/unknown-fields.ts';
import { compiledProblems } from './compiled.ts';
import { strangeFields } from './strange-fields.ts';

export { largestManifest } from '../base/yaml.ts';

/** One resource out of a manifest, ready to be written. */
export interface Manifest {
  /** `policy.yaml:12`, the line on which its document begins. */
  readonly where: string;
  /** What a person calls it: `NetworkPolicy shop/web`. */
  readonly title: string;
  readonly key: Key;
  readonly value: Value<Key['type']>;
  /** Fields that no agent of ours follows. */
  readonly ignored: readonly UnknownField[];
}

/** Most faults of one document's YAML that are told: the later ones tend to follow from the first. */
const mostFaults = 20;
/** Most characters of the text that a fault shows. */
const mostShown = 200;

/**
 * Every document of a YAML (or JSON) text as the resource to store: `projectcalico.org/v3` kinds, and Kubernetes
 * NetworkPolicy, Namespace, ServiceAccount, Service and EndpointSlice. Lists (`kind: List`) are taken apart, empty documents skipped.
 * @param file as the person named it, for messages
 * @param check what is asked of each beyond its schema: that the agents can follow it, unless told
 * @throws InputError with file, line, field and value of the first problem
 */
export function readManifests(
  text: string,
  file: string,
  defaultNamespace: string,
  check: (manifest: Manifest) => readonly InputError[] = compiledProblems,
): Manifest[] {
  const { objects, faults } = readObjects(text, file);
  const [fault] = faults;
  if (fault) throw fault;
  return objects.map((raw) => {
    try {
      const manifest = manifestOf(raw.value, `${file}:${raw.line}`, defaultNamespace);
      const [problem] = check(manifest);
      if (problem) throw problem;
      return manifest;
    } catch (thrown) {
      if (!(thrown instanceof InputError)) throw thrown;
      const field = fieldOf(thrown);
      const where = `${file}:${raw.lineOf(field)}: ${field}`;
      throw new InputError(where, thrown.value, thrown.expected, { cause: thrown.cause });
    }
  });
}

/** The field of an error without the object's name: as it is written in the file. */
export function fieldOf({ field }: InputError): string {
  return field.replace(/^[A-Z]\w*(\([^)]*\))?\.(?=\w)/, '');
}

/** One object of a file, not checked yet. */
export interface RawObject {
  /** Line on which its document begins, counted from 1. */
  readonly line: number;
  readonly value: unknown;
  /** Line of a field such as `spec.ingress[0].ports`, or of the nearest thing around it that is there. */
  lineOf(field: string): number;
}

/** The objects of a text as far as it can be read, and every fault of its YAML. @throws InputError as `parseDocuments` */
export function readObjects(text: string, file: string): { objects: RawObject[]; faults: InputError[] } {
  const lines = new LineCounter();
  const objects: RawObject[] = [];
  const faults: InputError[] = [];
  const members = new MemberIndex();
  for (const document of parseDocuments(text, file, lines)) {
    const where = `${file}:${lineOf(document, lines)}`;
    const own = faultsOf(document, lines, file, text);
    if (own.length > 0) {
      faults.push(...own);
      continue;
    }
    try {
      const value = plainValue(document, where);
      if (value === null || value === undefined) continue;
      const items = itemsOf(value, where);
      for (const [at, item] of items.entries()) {
        const root = item === value ? [] : ['items', at];
        objects.push({
          line: lineOf(document, lines),
          value: item,
          lineOf: (field) => lineOfField(document, members, lines, [...root, ...stepsOf(field)]),
        });
      }
    } catch (thrown) {
      if (!(thrown instanceof InputError)) throw thrown;
      faults.push(thrown);
    }
  }
  return { objects, faults };
}

/** `spec.ingress[0].ports` → its steps. */
export function stepsOf(field: string): (string | number)[] {
  return [...field.matchAll(/\[(\d+)\]|([^.[\]]+)/g)].map(([, index, key]) => (index ? Number(index) : (key ?? '')));
}

function lineOfField(
  document: Document.Parsed,
  members: MemberIndex,
  lines: LineCounter,
  path: readonly (string | number)[],
): number {
  let line = lineOf(document, lines);
  let node: unknown = document.contents;
  for (const step of path) {
    node = members.get(node, step);
    if (!isNode(node)) break;
    if (node.range) line = lines.linePos(node.range[0]).line;
    if (isAlias(node)) node = node.resolve(document);
  }
  return line;
}

/** What is wrong with a document, each with its line and what stands there. */
function faultsOf(document: Document.Parsed, lines: LineCounter, file: string, text: string): InputError[] {
  const errors = document.errors.slice(0, mostFaults).map(({ pos: [start, end], code, message }) => {
    const there = text
      .slice(start, Math.min(Math.max(end, start + 1), start + mostShown))
      .split('\n')[0]
      ?.trim();
    const detail = message.split('\n')[0] ?? code;
    return new InputError(`${file}:${lines.linePos(start).line}`, there || 'the end', `readable YAML: ${detail}`);
  });
  if (errors.length > 0) return errors;
  return repeatedKeys(document, mostFaults).map(
    ({ key, offset }) =>
      new InputError(`${file}:${lines.linePos(offset).line}`, key, 'readable YAML: Map keys must be unique'),
  );
}

/** The line of the document's first content, counted from 1. */
function lineOf(document: Document.Parsed, lines: LineCounter): number {
  return lines.linePos(document.contents?.range?.[0] ?? document.range[0]).line;
}

/** The members of a `List`, `NetworkPolicyList` and so on; anything else is one object. */
function itemsOf(value: unknown, where: string): readonly unknown[] {
  const { kind, items } = value as { kind?: unknown; items?: unknown };
  if (typeof kind !== 'string' || !kind.endsWith('List')) return [value];
  if (!Array.isArray(items)) throw new InputError(`${where}: items`, items, 'a list of objects');
  return items;
}

/**
 * A raw object as the resource to store.
 * @param where its place, for later
 * @throws InputError with the first problem
 */
export function manifestOf(value: unknown, where: string, defaultNamespace: string): Manifest {
  const kubernetes = isKubernetesObject(value);
  const resource = kubernetes ? parseKubernetes(value, defaultNamespace) : parseOwn(value, defaultNamespace);
  const { refused, ignored } = kubernetes ? noneStrange : strangeFields(resource.kind, value);
  const [stranger] = refused;
  if (stranger) throw stranger;
  return {
    where,
    ignored,
    title: titleOf(resource.kind, resource.metadata.name, resource.metadata.namespace),
    key: keyOf(resource),
    value: resource as unknown as Manifest['value'],
  };
}

const noneStrange = { refused: [], ignored: [] };

function parseOwn(value: unknown, defaultNamespace: string): ResourceOf<keyof typeof kinds> {
  if (typeof value !== 'object' || value === null || Array.isArray(value))
    throw new InputError('document', value, 'an object with apiVersion, kind, metadata and spec');
  const { kind, apiVersion: version, metadata } = value as { kind?: unknown; apiVersion?: unknown; metadata?: unknown };
  if (!isKind(kind))
    throw new InputError(
      'kind',
      kind,
      `an object of Kubernetes (${kubernetesKinds.join(', ')}) or one of ${Object.keys(kinds).join(', ')}`,
    );
  if (version !== apiVersion) throw new InputError('apiVersion', version, `${apiVersion} for kind ${kind}`);
  if (!kinds[kind].namespaced || typeof metadata !== 'object' || metadata === null || 'namespace' in metadata)
    return parseResource(kind, value);
  return parseResource(kind, { ...value, metadata: { ...metadata, namespace: defaultNamespace } });
}

/** Where a resource is stored. */
export function keyOf(resource: ResourceOf<keyof typeof kinds>): Key {
  const { name, namespace } = resource.metadata;
  return { type: resource.kind, name, ...(namespace === undefined ? {} : { namespace }) } as Key;
}

/** `NetworkPolicy shop/web`, in Kubernetes' words for what came from there. */
export function titleOf(kind: string, name: string, namespace?: string): string {
  const known = kubernetesName(kind, name);
  const inner = known?.name ?? name;
  const space = known?.namespace ?? namespace;
  return `${known?.kind ?? kind} ${space === undefined ? '' : `${space}/`}${inner}`;
}
