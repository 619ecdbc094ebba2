import { setImmediate } from 'node:timers/promises';
import { Backoff } from '../../base/backoff.ts';
import { type Clock, pause, systemClock } from '../../base/clock.ts';
import { InputError } from '../../base/errors.ts';
import type { Log } from '../../base/log.ts';
import { ownerParts } from '../../model/ipam.ts';
import { writeInOrder } from '../in-order.ts';
import {
  type DeleteOutcome,
  type Entry,
  type Event,
  type InvalidEntry,
  type Key,
  type KeyOf,
  keyText,
  type Listing,
  type Other,
  type PodFacts,
  type Scope,
  type Store,
  StoreUnavailableError,
  type TransactionOutcome,
  type Type,
  type Value,
  type Write,
  type WriteOutcome,
} from '../store.ts';
import { ChosenSources } from './chosen-sources.ts';
import { ApiClient, type ClientOptions, type Written } from './client.ts';
import type { KubernetesConfig } from './config.ts';
import { Credentials } from './credentials.ts';
import { ApiServer } from './http.ts';
import { type ServiceAddresses, writeIngress } from './ingress.ts';
import { Affinities } from './own-affinities.ts';
import { readPodFacts } from './pod-facts.ts';
import { type ApiObject, calicoGroup, type Place, resourceId } from './resources.ts';
import { formatRevisions, parseRevisions } from './revision.ts';
import type { Reading, Source, Writer } from './source.ts';
import { readObject, sameRevision } from './sources.ts';
import { watchTypes } from './watch-types.ts';

export interface KubernetesOptions extends ClientOptions {
  readonly clock?: Clock;
  /** Seconds after which watches are renewed; default 300. */
  readonly watchSeconds?: number;
  /** Milliseconds between two proofs that a silent server is alive; default 30000. */
  readonly probeMs?: number;
  /** Milliseconds between two looks for APIs that are not installed; default 60000. */
  readonly absentMs?: number;
  /** Only what Kubernetes itself has, for those who keep Calico's objects elsewhere. Default false. */
  readonly ownOnly?: boolean;
}

/** Objects understood before the event loop gets its turn. */
const slice = 200;

/** Attempts to change an object that others keep changing where it does not matter. */
const attempts = 20;

/** A store in the Kubernetes API, in Calico's layout (docs/decisions/0017). Connects on first use. */
export function createKubernetesStore(config: KubernetesConfig, log: Log, options: KubernetesOptions = {}): Store {
  const clock = options.clock ?? systemClock;
  const server = new ApiServer(new Credentials(config, clock, log), clock, log);
  const client = new ApiClient(server, clock, log, options);
  const sources = new ChosenSources(config, client, log, options.ownOnly ?? false);
  return new KubernetesStore(server, client, sources, clock, log, options);
}

class KubernetesStore implements Store {
  readonly atomic = false;
  readonly #affinities: Affinities;

  constructor(
    private readonly server: ApiServer,
    private readonly client: ApiClient,
    private readonly sources: ChosenSources,
    private readonly clock: Clock,
    private readonly log: Log,
    private readonly options: KubernetesOptions,
  ) {
    this.#affinities = new Affinities(client, log);
  }

  async get<T extends Type>(key: KeyOf<T>): Promise<Entry<T> | undefined> {
    const located = await this.sources.locate(key as Key);
    if (located === undefined) return undefined;
    const { source, place } = located;
    const object = await this.client.get(place);
    if (object === undefined) return undefined;
    const reading = readObject(source, object);
    if (reading.is === 'invalid') throw reading.entry.error;
    if (reading.is === 'gone') await this.#finishDelete(source, place, object);
    if (reading.is !== 'set' || keyText(reading.entry.key) !== keyText(key as Key)) return undefined;
    return reading.entry as Entry<T>;
  }

  async list<T extends Type>(type: T, scope: Scope = {}): Promise<Listing<T>> {
    const before = parseRevisions(scope.revision);
    const revisions = new Map(before);
    const entries: Entry<T>[] = [];
    const invalid: InvalidEntry[] = [];
    for (const source of await this.sources.of([type])) {
      const id = resourceId(source.resource);
      const { objects, resourceVersion } = await this.#objects(source, scope, before.get(id));
      revisions.set(id, resourceVersion);
      for (const [at, object] of objects.entries()) {
        if (at % slice === slice - 1) await setImmediate();
        const reading = readObject(source, object);
        if (reading.is === 'set' && within(reading.entry.key, scope)) entries.push(reading.entry as Entry<T>);
        if (reading.is === 'invalid') invalid.push(reading.entry);
      }
    }
    return { entries, invalid, revision: formatRevisions(revisions) };
  }

  async create<T extends Type>(key: KeyOf<T>, value: Value<T>): Promise<WriteOutcome<T>> {
    const { source, place, writer } = await this.#writable(key as Key, 'create');
    if (writer.by === 'annotate')
      return this.#annotate(key as Key, source, place, writer.annotations(key as Key, value), (reading) =>
        // A Node is there when Kubernetes has it, which is not created here.
        reading.is === 'set' ? 'conflict' : 'go on',
      ) as Promise<WriteOutcome<T>>;
    const object = writer.write(key as Key, value);
    const made = await this.client.create(place.resource, object);
    if (made.outcome !== 'conflict') return this.#outcome(source, made) as WriteOutcome<T>;
    // What is in the way may be the rest of a deletion that broke off.
    const found = await this.client.get(place);
    if (found === undefined || readObject(source, found).is !== 'gone') return { outcome: 'conflict' };
    await this.#finishDelete(source, place, found);
    return this.#outcome(source, await this.client.create(place.resource, object)) as WriteOutcome<T>;
  }

  async update<T extends Type>(key: KeyOf<T>, value: Value<T>, revision: string): Promise<WriteOutcome<T>> {
    const { source, place, writer } = await this.#writable(key as Key, 'update');
    if (writer.by === 'annotate')
      return this.#annotate(
        key as Key,
        source,
        place,
        writer.annotations(key as Key, value),
        expecting(revision),
      ) as Promise<WriteOutcome<T>>;
    const object = writer.write(key as Key, value);
    const metadata = { ...object.metadata, resourceVersion: revision };
    return this.#outcome(source, await this.client.replace(place, { ...object, metadata })) as WriteOutcome<T>;
  }

  async delete<T extends Type>(key: KeyOf<T>, revision?: string): Promise<DeleteOutcome> {
    const { source, place, writer } = await this.#writable(key as Key, 'delete');
    if (writer.by === 'annotate') {
      if (!writer.cleared) throw notOurs(key as Key, 'delete');
      const expected = revision === undefined ? present : expecting(revision);
      const { outcome } = await this.#annotate(key as Key, source, place, writer.cleared, expected);
      return { outcome };
    }
    if (writer.mark) return { outcome: await this.#markAndDelete(source, place, writer.mark, revision) };
    const outcome = await this.client.delete(place, revision === undefined ? {} : { resourceVersion: revision });
    return { outcome };
  }

  transact(writes: readonly Write[]): Promise<TransactionOutcome> {
    return writeInOrder(this, writes);
  }

  async *watch(types: readonly Type[], revision: string, signal: AbortSignal): AsyncIterable<readonly Event[]> {
    const { timeoutMs = 4000, watchSeconds: lifeSeconds = 300, absentMs = 60_000, probeMs = 30_000 } = this.options;
    const { server, client, clock, log } = this;
    const deps = { server, client, clock, log, timeoutMs, lifeSeconds, absentMs, probeMs };
    yield* watchTypes(deps, await this.sources.of(types), parseRevisions(revision), signal);
  }

  async others(): Promise<readonly Other[]> {
    const found: Other[] = [];
    const sources = await this.sources.get();
    const version = sources.group === calicoGroup ? 'v1' : 'v3';
    for (const { name: plural, kind, namespaced } of (await this.client.discover(sources.group, version)) ?? []) {
      if (sources.has(plural)) continue;
      const { objects } = await this.client.list({ group: sources.group, version, plural, kind, namespaced }, {});
      for (const { metadata } of objects)
        found.push({ plural, name: metadata.name, ...(metadata.namespace && { namespace: metadata.namespace }) });
    }
    return found;
  }

  async writeServiceAddresses(
    service: { readonly namespace: string; readonly name: string },
    change: ServiceAddresses,
  ): Promise<'written' | 'conflict' | 'missing'> {
    const located = await this.sources.locate({ type: 'Service', ...service });
    return located === undefined ? 'missing' : writeIngress(this.client, located.place, change);
  }

  podFacts(namespace: string, name: string): Promise<PodFacts | undefined> {
    return readPodFacts(this.client, namespace, name);
  }

  close(): void {
    this.server.close();
  }

  async #objects(source: Source, { namespace, host }: Scope, resourceVersion: string | undefined) {
    const narrow = {
      ...(namespace !== undefined && source.resource.namespaced && { namespace }),
      ...(resourceVersion !== undefined && { resourceVersion }),
    };
    if (source.type !== 'BlockAffinity' || host === undefined) return this.client.list(source.resource, narrow);
    return this.#affinities.list(source.resource, host, narrow);
  }

  async #writable(key: Key, verb: string): Promise<{ source: Source; place: Place; writer: Writer }> {
    const located = await this.sources.locate(key);
    if (located?.source.writer === undefined) throw notOurs(key, verb);
    return { ...located, writer: located.source.writer };
  }

  #outcome(source: Source, written: Written): WriteOutcome<Type> {
    if (written.outcome !== 'written') return { outcome: written.outcome };
    const reading = readObject(source, written.object);
    if (reading.is === 'set') return { outcome: 'written', entry: reading.entry };
    if (reading.is === 'invalid') throw reading.entry.error;
    throw new StoreUnavailableError(`what was written to ${resourceId(source.resource)} is stored as something else`);
  }

  /** Marked by compare-and-swap, then removed if nobody touched it since; a crash between is finished by any reader. */
  async #markAndDelete(
    source: Source,
    place: Place,
    mark: (object: ApiObject) => ApiObject,
    revision: string | undefined,
  ): Promise<'written' | 'conflict' | 'missing'> {
    const found = await this.client.get(place);
    if (found === undefined) return 'missing';
    if (readObject(source, found).is === 'gone') {
      await this.#finishDelete(source, place, found);
      return 'missing';
    }
    if (revision !== undefined && found.metadata.resourceVersion !== revision) return 'conflict';
    const marked = await this.client.replace(place, mark(found));
    if (marked.outcome !== 'written') return marked.outcome;
    await this.#finishDelete(source, place, marked.object);
    return 'written';
  }

  /** Removes what is marked as deleted. Somebody else may do so at the same time. */
  async #finishDelete(source: Source, place: Place, { metadata }: ApiObject): Promise<void> {
    if (source.writer?.by !== 'replace' || !source.writer.mark) return;
    const { uid, resourceVersion } = metadata;
    const outcome = await this.client.delete(place, {
      ...(uid !== undefined && { uid }),
      ...(resourceVersion !== undefined && { resourceVersion }),
    });
    if (outcome === 'conflict') this.log.debug({ name: place.name }, 'a deleted object changed while being removed');
  }

  /** Sets annotations of an object that others own and change all the time, as long as what matters is as expected. */
  async #annotate(
    key: Key,
    source: Source,
    place: Place,
    annotations: Readonly<Record<string, string | null>>,
    expected: Expected,
  ): Promise<WriteOutcome<Type>> {
    const backoff = new Backoff(2, 100);
    for (let attempt = 0; attempt < attempts; attempt++) {
      const object = await this.client.get(place);
      if (object === undefined) return missing(key, place, expected);
      const reading = readObject(source, object);
      if (reading.is === 'none') throw elsewhere(key, object);
      const decision = expected(reading);
      if (decision !== 'go on') return { outcome: decision };
      const { resourceVersion } = object.metadata;
      const patched = await this.client.patch(place, { metadata: { resourceVersion, annotations } }, '/status');
      if (patched.outcome === 'missing') return missing(key, place, expected);
      if (patched.outcome === 'written') return annotated(source, patched.object, reading);
      await pause(this.clock, backoff.next());
    }
    throw new StoreUnavailableError(`${keyText(key)}: changed by others ${attempts} times in a row`);
  }
}

/** What must hold of an object for its annotations to be written. */
type Expected = (reading: Reading) => 'go on' | 'conflict' | 'missing';

const present: Expected = (reading) => (reading.is === 'gone' ? 'missing' : 'go on');

function expecting(revision: string): Expected {
  return (reading) => {
    if (reading.is === 'gone') return 'missing';
    return reading.is === 'set' && sameRevision(reading.entry.revision, revision) ? 'go on' : 'conflict';
  };
}

/** The entry after the write; after one that ended it, the entry as it was last. */
function annotated(source: Source, object: ApiObject, before: Reading): WriteOutcome<Type> {
  const reading = readObject(source, object);
  if (reading.is === 'invalid') throw reading.entry.error;
  if (reading.is === 'set') return { outcome: 'written', entry: reading.entry };
  if (before.is === 'set') return { outcome: 'written', entry: before.entry };
  throw new StoreUnavailableError(`what was written to ${resourceId(source.resource)} is stored as something else`);
}

/** An object that is not there can be neither changed nor, being Kubernetes', made. */
function missing(key: Key, { resource, name }: Place, expected: Expected): { outcome: 'missing' } {
  if (expected({ is: 'gone', key }) === 'missing') return { outcome: 'missing' };
  throw new InputError(`${key.type}(${keyText(key)})`, name, `the name of a ${resource.kind} that Kubernetes has`);
}

function elsewhere(key: Key, object: ApiObject): InputError {
  const { nodeName } = (object.spec ?? {}) as { nodeName?: string };
  return new InputError(keyText(key), nodeName, 'a pod of the pod network, on the node that the name says');
}

function notOurs(key: Key, verb: string): InputError {
  return new InputError(keyText(key), verb, 'kubectl for this, as Kubernetes owns the object');
}

/** Lists of a namespace are narrow already; hosts of affinities are labels, which may be stale. */
function within(key: Key, { host }: Scope): boolean {
  if (key.type !== 'BlockAffinity') return true;
  return host === undefined ? ownerParts(key.host).type === 'host' : key.host === host;
}
