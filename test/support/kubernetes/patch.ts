import { isDeepStrictEqual } from 'node:util';
import { type Json, Refusal } from './objects.ts';

/** A patch of one of the three types. */
export function patched(value: Json, patch: unknown, type: string): Json {
  switch (type.split(';')[0]) {
    // Maps merge alike in both; lists of built-in kinds that merge by key are not used here.
    case 'application/merge-patch+json':
    case 'application/strategic-merge-patch+json':
      return merged(value, patch) as Json;
    case 'application/json-patch+json':
      return (patch as JsonPatch[]).reduce<unknown>(applied, structuredClone(value)) as Json;
    default:
      throw new Refusal(415, 'UnsupportedMediaType', `the body of the request was in an unknown format: ${type}`);
  }
}

/** RFC 7396. */
function merged(target: unknown, patch: unknown): unknown {
  if (!isMap(patch)) return patch;
  const result: Json = isMap(target) ? { ...target } : {};
  for (const [field, value] of Object.entries(patch)) {
    if (value === null) delete result[field];
    else result[field] = merged(result[field], value);
  }
  return result;
}

interface JsonPatch {
  readonly op: string;
  readonly path: string;
  readonly value?: unknown;
}

/** RFC 6902, as far as it is used: add, remove, replace, test. */
function applied(document: unknown, { op, path, value }: JsonPatch): unknown {
  const steps = path
    .split('/')
    .slice(1)
    .map((step) => step.replaceAll('~1', '/').replaceAll('~0', '~'));
  const last = steps.pop();
  if (last === undefined) return value;
  const parent = steps.reduce<unknown>(
    (at, step) => (isMap(at) || Array.isArray(at) ? (at as Json)[step] : undefined),
    document,
  );
  const refused = new Refusal(
    422,
    'Invalid',
    `the server rejected our request due to an error in our request: ${op} ${path}`,
  );
  if (Array.isArray(parent)) {
    const at = last === '-' ? parent.length : Number(last);
    if (op === 'add') parent.splice(at, 0, value);
    else if (op === 'remove') parent.splice(at, 1);
    else if (op === 'replace') parent[at] = value;
    else throw refused;
    return document;
  }
  if (!isMap(parent)) throw refused;
  if (op === 'test' && !isDeepStrictEqual(parent[last], value)) throw refused;
  if ((op === 'remove' || op === 'replace') && !(last in parent)) throw refused;
  if (op === 'remove') delete parent[last];
  if (op === 'add' || op === 'replace') parent[last] = value;
  return document;
}

function isMap(value: unknown): value is Json {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
