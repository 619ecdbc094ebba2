import { InputError } from '../../base/errors.ts';
import type { Metadata } from '../../model/resource.ts';
import { formatJson, parseJson } from '../json.ts';
import type { ApiMetadata } from './resources.ts';

/*
 * Calico's metadata inside a `crd.projectcalico.org/v1` resource: labels, annotations and the rest lie as JSON in one
 * annotation, so that the API's own labels and annotations stay those of the storage.
 */

/** Holds the metadata that users see. */
export const metadataAnnotation = 'projectcalico.org/metadata';

/** Labels and annotations of the storage that users see too. */
function shared(key: string): boolean {
  return key.includes('projectcalico.org/') || key.includes('operator.tigera.io/');
}

/** Written by the API server, or kept as it is stored. */
const storage = new Set(['name', 'namespace', 'uid', 'resourceVersion', 'generation', 'managedFields', 'selfLink']);
const passed = ['finalizers', 'ownerReferences'];

/**
 * The UID that users see: every byte's bits reversed but those of version and variant, so that it is another UID, and
 * valid. Its own inverse. Texts that are no UUIDs stay.
 */
export function convertUid(uid: string): string {
  if (!/^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/.test(uid)) return uid;
  const bytes = Buffer.from(uid.replaceAll('-', ''), 'hex');
  for (const [at, byte] of bytes.entries()) if (at !== 6 && at !== 8) bytes[at] = reversed(byte);
  const text = bytes.toString('hex');
  return [text.slice(0, 8), text.slice(8, 12), text.slice(12, 16), text.slice(16, 20), text.slice(20)].join('-');
}

function reversed(byte: number): number {
  let out = 0;
  for (let bit = 0; bit < 8; bit++) out |= ((byte >> bit) & 1) << (7 - bit);
  return out;
}

/** What users see of a resource's metadata. @throws InputError when the annotation is not a JSON object */
export function readMetadata(found: ApiMetadata, where: string): Metadata & Readonly<Record<string, unknown>> {
  const inner = parseInner(found.annotations?.[metadataAnnotation], where);
  const labels = merged(found.labels, inner?.['labels'], inner !== undefined);
  const annotations = merged(found.annotations, inner?.['annotations'], inner !== undefined);
  const { labels: _l, annotations: _a, name: ownName, creationTimestamp: time, ...rest } = inner ?? {};
  const kept = Object.fromEntries(passed.flatMap((field) => (field in found ? [[field, found[field]]] : [])));
  const creationTimestamp = typeof time === 'string' ? time : found.creationTimestamp;
  return {
    ...Object.fromEntries(Object.entries(rest).filter(([field]) => !storage.has(field))),
    ...kept,
    name: typeof ownName === 'string' && ownName !== '' ? ownName : found.name,
    ...(found.namespace !== undefined && { namespace: found.namespace }),
    ...(found.uid !== undefined && { uid: convertUid(found.uid) }),
    ...(creationTimestamp !== undefined && { creationTimestamp }),
    ...(labels && { labels }),
    ...(annotations && { annotations }),
    ...(found.resourceVersion !== undefined && { resourceVersion: found.resourceVersion }),
  };
}

/** Metadata for storage. @param name the resource's name where users see another one, which goes into the annotation */
export function writeMetadata(value: Metadata, name: string, withOwnName: boolean): ApiMetadata {
  const all: Readonly<Record<string, unknown>> = { ...value };
  const inner = Object.fromEntries(
    Object.entries(all).filter(([field]) => !storage.has(field) && !passed.includes(field)),
  );
  const text = formatJson(withOwnName ? { name: value.name, ...inner } : inner);
  const labels = Object.fromEntries(Object.entries(value.labels ?? {}).filter(([key]) => shared(key)));
  const annotations = Object.fromEntries(Object.entries(value.annotations ?? {}).filter(([key]) => shared(key)));
  return {
    name,
    ...(value.namespace !== undefined && { namespace: value.namespace }),
    ...(Object.keys(labels).length > 0 && { labels }),
    annotations: { ...annotations, [metadataAnnotation]: text },
    ...Object.fromEntries(passed.flatMap((field) => (field in all ? [[field, all[field]]] : []))),
  };
}

function parseInner(text: string | undefined, where: string): Readonly<Record<string, unknown>> | undefined {
  if (text === undefined) return undefined;
  const field = `${where}.metadata.annotations.${metadataAnnotation}`;
  try {
    const found = parseJson(text);
    if (typeof found === 'object' && found !== null && !Array.isArray(found)) return { ...found };
  } catch (cause) {
    if (!(cause instanceof SyntaxError)) throw cause;
    throw new InputError(field, text, 'JSON', { cause });
  }
  throw new InputError(field, text, 'a JSON object');
}

/** The storage's own, only the shared ones when Calico's metadata is there, which wins. */
function merged(
  outer: Readonly<Record<string, string>> | undefined,
  inner: unknown,
  onlyShared: boolean,
): Readonly<Record<string, string>> | undefined {
  const own = Object.entries(outer ?? {}).filter(([key]) => key !== metadataAnnotation && (!onlyShared || shared(key)));
  const all = { ...Object.fromEntries(own), ...(typeof inner === 'object' && inner !== null ? inner : {}) };
  return Object.keys(all).length > 0 ? all : undefined;
}
