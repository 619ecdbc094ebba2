import { randomUUID } from 'node:crypto';
import { isDeepStrictEqual } from 'node:util';
import { formatJson, parseJson } from '../../../src/datastore/json.ts';
import { MemoryKv } from '../../../src/datastore/memory.ts';
import { GoneError } from '../../../src/datastore/store.ts';
import { apiVersionOf, idOf, type Json, Refusal, type TestObject, type TestResource } from './objects.ts';

/** A change of any resource, as watchers see it. */
export interface Change {
  readonly type: 'ADDED' | 'MODIFIED' | 'DELETED';
  readonly resource: string;
  readonly object: TestObject;
  readonly revision: string;
}

export interface Preconditions {
  readonly uid?: string;
  readonly resourceVersion?: string;
}

/** Objects with resourceVersions, on the memory store: one counter over all resources, a history, compaction. */
export class Storage {
  readonly kv = new MemoryKv();
  /** `<key>@<revision>` → the object that ended then; and the revisions at which objects began. */
  readonly #ended = new Map<string, string>();
  readonly #began = new Set<string>();

  async get(resource: TestResource, namespace: string, name: string): Promise<TestObject> {
    const found = await this.kv.get(keyOf(resource, namespace, name));
    if (!found) throw notFound(resource, name);
    return stored(resource, found.value, found.revision);
  }

  /** Objects below a namespace, or all, by name, at a revision or now. @throws Refusal 410 */
  async list(resource: TestResource, namespace: string, revision?: string) {
    try {
      const prefix = `/registry/${idOf(resource)}/${namespace === '' ? '' : `${namespace}/`}`;
      const found = await this.kv.range(prefix, revision);
      const entries = found.entries.map(({ key, value, revision: at }) => ({
        key,
        object: stored(resource, value, at),
      }));
      return { entries, revision: found.revision };
    } catch (thrown) {
      if (!(thrown instanceof GoneError)) throw thrown;
      throw new Refusal(410, 'Expired', 'The provided resource version or continue parameter is too old');
    }
  }

  async create(resource: TestResource, object: TestObject): Promise<TestObject> {
    const { name, namespace = '' } = object.metadata;
    const key = keyOf(resource, namespace, name);
    const metadata = {
      ...object.metadata,
      uid: randomUUID(),
      creationTimestamp: `${new Date().toISOString().slice(0, 19)}Z`,
      ...(resource.custom && { generation: 1 }),
      managedFields: [{ manager: 'test', operation: 'Update', fieldsV1: { 'f:spec': {} } }],
    };
    const done = await this.kv.commit([
      { op: 'put', key, value: text({ ...object, metadata }), expect: { is: 'absent' } },
    ]);
    if (!done.committed)
      throw new Refusal(409, 'AlreadyExists', `${idOf(resource)} "${name}" already exists`, {
        name,
        kind: resource.plural,
      });
    this.#began.add(`${key}@${done.revision}`);
    return this.get(resource, namespace, name);
  }

  /** Reads, changes and writes one object; nothing is written when nothing changes. @throws Refusal 404, 409 */
  async change(
    resource: TestResource,
    namespace: string,
    name: string,
    change: (object: TestObject) => TestObject,
  ): Promise<TestObject> {
    const key = keyOf(resource, namespace, name);
    for (;;) {
      const before = await this.get(resource, namespace, name);
      const next = change(structuredClone(before));
      const { uid, resourceVersion } = next.metadata;
      checkConditions(resource, before, { ...(uid && { uid }), ...(resourceVersion && { resourceVersion }) });
      const { uid: kept, creationTimestamp, generation, managedFields, namespace: own } = before.metadata;
      const metadata = {
        // Whoever does not tell of these leaves them as they are.
        ...(managedFields !== undefined && { managedFields }),
        ...(own !== undefined && { namespace: own }),
        ...next.metadata,
        uid: kept,
        creationTimestamp,
        ...(generation !== undefined && { generation }),
      };
      const after = {
        ...next,
        metadata: { ...metadata, resourceVersion: before.metadata.resourceVersion },
      } as TestObject;
      if (isDeepStrictEqual(after, before)) return before;
      if (typeof generation === 'number' && !isDeepStrictEqual(after.spec, before.spec))
        after.metadata['generation'] = generation + 1;
      const revision = before.metadata.resourceVersion ?? '';
      const done = await this.kv.commit([{ op: 'put', key, value: text(after), expect: { is: 'at', revision } }]);
      if (done.committed) return this.get(resource, namespace, name);
    }
  }

  async delete(
    resource: TestResource,
    namespace: string,
    name: string,
    conditions: Preconditions,
  ): Promise<TestObject> {
    const key = keyOf(resource, namespace, name);
    const before = await this.get(resource, namespace, name);
    checkConditions(resource, before, conditions);
    const revision = before.metadata.resourceVersion ?? '';
    const done = await this.kv.commit([{ op: 'delete', key, expect: { is: 'at', revision } }]);
    if (!done.committed) throw conflict(resource, name, 'the object has been modified');
    this.#ended.set(`${key}@${done.revision}`, text(before));
    return before;
  }

  /** Changes of everything after a revision. @throws GoneError */
  async *watch(
    resources: ReadonlyMap<string, TestResource>,
    revision: string,
    signal: AbortSignal,
  ): AsyncIterable<readonly Change[]> {
    for await (const batch of this.kv.watch('/registry/', revision, signal))
      yield batch.flatMap((event): Change[] => {
        const key = event.op === 'put' ? event.entry.key : event.key;
        const at = event.op === 'put' ? event.entry.revision : event.revision;
        const resource = resources.get(key.split('/')[2] ?? '');
        if (!resource) return [];
        const value = event.op === 'put' ? event.entry.value : this.#ended.get(`${key}@${at}`);
        if (value === undefined) throw new TypeError(`nothing is known of the end of ${key}`);
        const type = event.op === 'delete' ? 'DELETED' : this.#began.has(`${key}@${at}`) ? 'ADDED' : 'MODIFIED';
        return [{ type, resource: idOf(resource), revision: at, object: stored(resource, value, at) }];
      });
  }
}

function keyOf(resource: TestResource, namespace: string, name: string): string {
  return `/registry/${idOf(resource)}/${namespace}/${name}`;
}

function text(object: TestObject): string {
  const { resourceVersion: _, ...metadata } = object.metadata;
  return formatJson(inOrder({ ...object, metadata }));
}

/** The real server keeps the fields of an object by their names, in whatever order they came. */
function inOrder(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(inOrder);
  if (typeof value !== 'object' || value === null) return value;
  const sorted = Object.entries(value).toSorted(([a], [b]) => (a < b ? -1 : 1));
  return Object.fromEntries(sorted.map(([field, each]) => [field, inOrder(each)]));
}

function stored(resource: TestResource, value: string, resourceVersion: string): TestObject {
  const object = parseJson(value) as TestObject;
  const { apiVersion: _a, kind: _k, metadata, ...rest } = object;
  return {
    apiVersion: apiVersionOf(resource),
    kind: resource.kind,
    metadata: { ...metadata, resourceVersion },
    ...rest,
  };
}

function checkConditions(
  resource: TestResource,
  { metadata }: TestObject,
  { uid, resourceVersion }: Preconditions,
): void {
  if (uid !== undefined && uid !== metadata.uid)
    throw conflict(
      resource,
      metadata.name,
      `Precondition failed: UID in precondition: ${uid}, UID in object meta: ${metadata.uid}`,
    );
  if (resourceVersion !== undefined && resourceVersion !== metadata.resourceVersion)
    throw conflict(
      resource,
      metadata.name,
      'the object has been modified; please apply your changes to the latest version',
    );
}

function conflict(resource: TestResource, name: string, why: string): Refusal {
  const message = `Operation cannot be fulfilled on ${idOf(resource)} "${name}": ${why}`;
  return new Refusal(409, 'Conflict', message, { name, kind: resource.plural });
}

export function notFound(resource: TestResource, name: string): Refusal {
  const details: Json = { name, group: resource.group, kind: resource.plural };
  return new Refusal(404, 'NotFound', `${idOf(resource)} "${name}" not found`, details);
}
