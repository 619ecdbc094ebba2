import { Backoff } from '../../base/backoff.ts';
import { type Clock, pause } from '../../base/clock.ts';
import { explain } from '../../base/errors.ts';
import type { Log } from '../../base/log.ts';
import { formatJson, parseJson } from '../json.ts';
import { GoneError } from '../store.ts';
import type { ApiServer, Query } from './http.ts';
import {
  type ApiObject,
  type ApiResource,
  calicoGroup,
  collectionPath,
  objectPath,
  type Place,
  resourceId,
  v3Group,
} from './resources.ts';
import { notInstalled } from './revision.ts';
import { type Answer, failureOf, isObjectMissing } from './status.ts';

export interface ClientOptions {
  /** Milliseconds for one object; default 4000. */
  readonly timeoutMs?: number;
  /** Milliseconds for one chunk of a list; default 20000. */
  readonly listTimeoutMs?: number;
  /** Objects listed at once; default 500. */
  readonly chunk?: number;
}

/** What a write came to: the object as stored, or why it is not. */
export type Written =
  | { readonly outcome: 'written'; readonly object: ApiObject }
  | { readonly outcome: 'conflict' | 'missing' };

export interface ApiListing {
  readonly objects: readonly ApiObject[];
  /** `-` where the resource is not installed. */
  readonly resourceVersion: string;
}

export interface Preconditions {
  readonly uid?: string;
  readonly resourceVersion?: string;
}

const jsonType = 'application/json';
/** Lists that the server breaks off as too old are begun anew this often. */
const listAttempts = 5;

/** The API's verbs on objects, without knowledge of what the objects mean. */
export class ApiClient {
  constructor(
    private readonly server: ApiServer,
    private readonly clock: Clock,
    private readonly log: Log,
    private readonly options: ClientOptions,
  ) {}

  async get(place: Place): Promise<ApiObject | undefined> {
    const answer = await this.#call('GET', objectPath(place));
    if (answer.status === 200) return parsed(place.resource, answer.text);
    if (isObjectMissing(answer) || (answer.status === 404 && place.resource.optional)) return undefined;
    throw failureOf(`get ${objectPath(place)}`, answer);
  }

  async create(resource: ApiResource, object: ApiObject): Promise<Written> {
    const path = collectionPath(resource, object.metadata.namespace);
    const answer = await this.#call('POST', path, object);
    if (answer.status === 201 || answer.status === 200) return written(resource, answer);
    if (answer.status === 409) return { outcome: 'conflict' };
    throw failureOf(`create ${path}/${object.metadata.name}`, answer);
  }

  /** @param object with the resourceVersion that it must still have */
  async replace(place: Place, object: ApiObject): Promise<Written> {
    return this.#written(place, await this.#call('PUT', objectPath(place), object), 'replace');
  }

  /** Whether the server has a group's version; undefined when we may not ask. */
  async serves(group: string, version: string): Promise<boolean | undefined> {
    const path = `/apis/${group}/${version}`;
    const answer = await this.#call('GET', path);
    if (answer.status === 200) return true;
    if (answer.status === 404) return false;
    if (answer.status === 403) return undefined;
    throw failureOf(`discover ${path}`, answer);
  }

  /** The resources that the server has of a group's version; undefined where it has none. */
  async discover(group: string, version: string): Promise<readonly Discovered[] | undefined> {
    const path = `/apis/${group}/${version}`;
    const answer = await this.#call('GET', path);
    if (answer.status === 404) return undefined;
    if (answer.status !== 200) throw failureOf(`discover ${path}`, answer);
    const { resources = [] } = JSON.parse(answer.text) as { readonly resources?: readonly Discovered[] };
    // `bgppeers/status` is a part of a resource.
    return resources.filter(({ name }) => !name.includes('/'));
  }

  /** A JSON merge patch (RFC 7396). @param part of the object, such as `/status`, whose right to be written is enough */
  async patch(place: Place, patch: object, part = ''): Promise<Written> {
    const path = `${objectPath(place)}${part}`;
    return this.#written(place, await this.#call('PATCH', path, patch, 'application/merge-patch+json'), 'patch');
  }

  async delete(place: Place, preconditions: Preconditions = {}): Promise<'written' | 'conflict' | 'missing'> {
    const options = { kind: 'DeleteOptions', apiVersion: 'v1', preconditions };
    const answer = await this.#call('DELETE', objectPath(place), options);
    if (answer.status === 200 || answer.status === 202) return 'written';
    if (answer.status === 409) return 'conflict';
    if (isObjectMissing(answer)) return 'missing';
    throw failureOf(`delete ${objectPath(place)}`, answer);
  }

  /**
   * All objects in chunks, at the newest state or exactly at `resourceVersion`.
   * @throws GoneError when that state is no longer kept
   */
  async list(resource: ApiResource, scope: { namespace?: string; query?: Query; resourceVersion?: string }) {
    const { resourceVersion } = scope;
    if (resourceVersion === notInstalled) return absent;
    const exact = resourceVersion === undefined ? {} : { resourceVersion, resourceVersionMatch: 'Exact' };
    const backoff = new Backoff(50, 1000);
    for (let attempt = 1; ; attempt++) {
      try {
        return await this.#listOnce(resource, scope.namespace, { ...scope.query, ...exact });
      } catch (thrown) {
        // A continue token that is too old: the chunks so far are of a state that is gone.
        if (!(thrown instanceof GoneError) || resourceVersion !== undefined || attempt === listAttempts) throw thrown;
        const retryMs = backoff.next();
        this.log.info({ resource: resourceId(resource), reason: explain(thrown), retryMs }, 'listing anew');
        await pause(this.clock, retryMs);
      }
    }
  }

  async #listOnce(resource: ApiResource, namespace: string | undefined, query: Query): Promise<ApiListing> {
    const path = collectionPath(resource, namespace);
    const objects: ApiObject[] = [];
    let more: string | undefined;
    for (;;) {
      const { chunk: limit = 500, listTimeoutMs: withinMs = 20_000 } = this.options;
      // The token stands for the revision, which must not be named again.
      const { resourceVersion: _v, resourceVersionMatch: _m, ...rest } = query;
      const asked = more === undefined ? { ...query, limit } : { ...rest, limit, continue: more };
      const answer = await this.server.call({ method: 'GET', path, query: asked, withinMs });
      if (answer.status === 404 && resource.optional) return absent;
      if (answer.status !== 200) throw failureOf(`list ${path}`, answer);
      const list = parse(resource, answer.text) as ApiList;
      for (const object of list.items ?? []) objects.push(object);
      more = list.metadata.continue || undefined;
      if (more === undefined) return { objects, resourceVersion: list.metadata.resourceVersion };
    }
  }

  #written(place: Place, answer: Answer, verb: string): Written {
    if (answer.status === 200 || answer.status === 201) return written(place.resource, answer);
    if (answer.status === 409) return { outcome: 'conflict' };
    if (isObjectMissing(answer)) return { outcome: 'missing' };
    throw failureOf(`${verb} ${objectPath(place)}`, answer);
  }

  #call(method: 'GET' | 'POST' | 'PUT' | 'PATCH' | 'DELETE', path: string, body?: object, type = jsonType) {
    const { timeoutMs: withinMs = 4000 } = this.options;
    return this.server.call({ method, path, withinMs, ...(body && { body: { type, text: formatJson(body) } }) });
  }
}

/** A resource as discovery tells of it (`meta/v1 APIResource`). */
export interface Discovered {
  /** Its plural. */
  readonly name: string;
  readonly kind: string;
  readonly namespaced: boolean;
}

interface ApiList {
  readonly metadata: { readonly resourceVersion: string; readonly continue?: string };
  readonly items?: readonly ApiObject[];
}

const absent: ApiListing = { objects: [], resourceVersion: notInstalled };

/** Integers beyond 2^53 are found in Calico's objects only; the exact parser takes several times as long. */
export function parse(resource: ApiResource, text: string): unknown {
  return resource.group === calicoGroup || resource.group === v3Group ? parseJson(text) : JSON.parse(text);
}

function parsed(resource: ApiResource, text: string): ApiObject {
  return parse(resource, text) as ApiObject;
}

function written(resource: ApiResource, answer: Answer): Written {
  return { outcome: 'written', object: parsed(resource, answer.text) };
}
