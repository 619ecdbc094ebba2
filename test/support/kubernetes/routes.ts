import { randomUUID } from 'node:crypto';
import { apiVersionOf, invalid, type Json, Refusal, type TestObject, type TestResource } from './objects.ts';
import { patched } from './patch.ts';
import { fieldMatcher, labelMatcher } from './selectors.ts';
import { notFound, type Storage } from './storage.ts';

export interface TestRequest {
  readonly method: string;
  readonly path: string;
  readonly query: URLSearchParams;
  readonly contentType: string;
  readonly body: unknown;
}

/** Where a path leads. */
export interface Target {
  readonly resource: TestResource;
  readonly namespace: string;
  readonly name?: string;
  readonly part?: string;
}

/** `/api/v1/…`, `/apis/<group>/<version>/…`. @throws Refusal 404, as plain as the real one for an unknown group */
export function targetOf(path: string, resources: Iterable<TestResource>): Target {
  const steps = path.split('/').slice(1).map(decodeURIComponent);
  const core = steps[0] === 'api';
  const [group = '', version, ...rest] = core ? ['', ...steps.slice(1)] : steps.slice(1);
  const within = rest[0] === 'namespaces' && rest.length > 2 && rest[2] !== 'status';
  const [plural, name, part] = within ? rest.slice(2) : rest;
  for (const resource of resources)
    if (resource.group === group && resource.version === version && resource.plural === plural)
      return { resource, namespace: within ? (rest[1] ?? '') : '', ...(name && { name }), ...(part && { part }) };
  throw new Refusal(404, 'NotFound', 'the server could not find the requested resource');
}

/** Answers everything but watches. */
export async function answer(
  storage: Storage,
  target: Target,
  request: TestRequest,
): Promise<{ code: number; body: Json }> {
  const { resource, namespace, name, part } = target;
  if (part === 'token' && resource.plural === 'serviceaccounts' && name !== undefined && request.method === 'POST') {
    const { metadata } = await storage.get(resource, namespace, name);
    return { code: 201, body: issued(metadata, request.body as TokenRequest) };
  }
  if (part !== undefined && !(part === 'status' && resource.status))
    throw resource.custom
      ? notFound(resource, name ?? '')
      : new Refusal(404, 'NotFound', 'the server could not find the requested resource');
  if (name === undefined) {
    if (request.method === 'GET') return { code: 200, body: await list(storage, target, request.query) };
    if (request.method === 'POST')
      return { code: 201, body: await create(storage, target, request.body as TestObject) };
    throw new Refusal(405, 'MethodNotAllowed', 'the server does not allow this method on the requested resource');
  }
  switch (request.method) {
    case 'GET':
      return { code: 200, body: await storage.get(resource, namespace, name) };
    case 'PUT': {
      const given = request.body as TestObject;
      if ((resource.custom || resource.plural === 'leases') && !given.metadata.resourceVersion)
        throw invalid(resource, name, 'metadata.resourceVersion', 'must be specified for an update');
      return { code: 200, body: await storage.change(resource, namespace, name, (old) => update(target, old, given)) };
    }
    case 'PATCH':
      return {
        code: 200,
        body: await storage.change(resource, namespace, name, (old) =>
          update(target, old, patched(old, request.body, request.contentType) as TestObject),
        ),
      };
    case 'DELETE': {
      const options = (request.body ?? {}) as { preconditions?: { uid?: string; resourceVersion?: string } };
      await storage.delete(resource, namespace, name, options.preconditions ?? {});
      return { code: 200, body: { kind: 'Status', apiVersion: 'v1', metadata: {}, status: 'Success' } };
    }
    default:
      throw new Refusal(405, 'MethodNotAllowed', 'the server does not allow this method on the requested resource');
  }
}

interface TokenRequest {
  readonly kind?: string;
  readonly spec?: { readonly expirationSeconds?: number };
}

/** authentication.k8s.io/v1 TokenRequest: a token as RFC 7519 has it, for an hour unless it is asked for otherwise. */
function issued({ name, namespace = '' }: TestObject['metadata'], { kind, spec = {} }: TokenRequest): Json {
  const { expirationSeconds = 3600 } = spec;
  if (kind !== 'TokenRequest') throw new Refusal(400, 'BadRequest', `the kind in the data (${kind}) does not match`);
  if (expirationSeconds < 600)
    throw invalid(
      { kind: 'TokenRequest' },
      name,
      'spec.expirationSeconds',
      'may not specify a duration less than 10 minutes',
    );
  const exp = Math.floor(Date.now() / 1000) + expirationSeconds;
  const claims = { sub: `system:serviceaccount:${namespace}:${name}`, exp, jti: randomUUID() };
  const token = [{ alg: 'none' }, claims].map((part) => Buffer.from(JSON.stringify(part)).toString('base64url'));
  return {
    ...{ kind, apiVersion: 'authentication.k8s.io/v1', metadata: { name, namespace }, spec },
    status: { token: `${token.join('.')}.c2ln`, expirationTimestamp: new Date(exp * 1000).toISOString() },
  };
}

async function create(storage: Storage, { resource, namespace }: Target, given: TestObject): Promise<TestObject> {
  const { metadata } = given;
  const { apiVersion, kind } = given;
  if (apiVersion !== apiVersionOf(resource) || (kind !== resource.kind && !resource.custom))
    throw new Refusal(400, 'BadRequest', `the API version in the data (${apiVersion}, ${kind}) does not match`);
  if (kind !== resource.kind) throw invalid(resource, metadata.name, 'kind', `must be ${resource.kind}`);
  if (resource.namespaced !== (namespace !== '') || (metadata.namespace ?? namespace) !== namespace)
    throw new Refusal(
      400,
      'BadRequest',
      'the namespace of the provided object does not match the namespace sent on the request',
    );
  if (
    !/^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$/.test(metadata.name ?? '') ||
    metadata.name.length > 253
  )
    throw invalid(
      resource,
      metadata.name,
      'metadata.name',
      `Invalid value: "${metadata.name}": a lowercase RFC 1123 subdomain`,
    );
  if (metadata.resourceVersion)
    throw new Refusal(400, 'BadRequest', 'resourceVersion should not be set on objects to be created');
  if (namespace !== '') await requireNamespace(storage, namespace);
  const object = { ...given, metadata: { ...metadata, ...(namespace !== '' && { namespace }) } };
  return storage.create(resource, admitted(resource, object));
}

/** `/status` changes the status and metadata alone; the object itself everything else. */
function update({ resource, part }: Target, old: TestObject, given: TestObject): TestObject {
  const { status: _o, ...before } = old;
  const { status, ...next } = given;
  if (part === 'status') {
    // Of a custom resource not even the metadata.
    const metadata = resource.custom ? { ...old.metadata, ...conditionsOf(given) } : given.metadata;
    return { ...before, metadata, ...(status && { status }) };
  }
  const kept = resource.status ? old.status : status;
  return admitted(resource, { ...next, ...(kept && { status: kept }) });
}

function conditionsOf({ metadata: { uid, resourceVersion } }: TestObject) {
  return { ...(uid && { uid }), ...(resourceVersion && { resourceVersion }) };
}

function admitted(resource: TestResource, object: TestObject): TestObject {
  return resource.admit ? resource.admit(object) : object;
}

async function requireNamespace(storage: Storage, name: string): Promise<void> {
  const namespaces = { group: '', version: 'v1', plural: 'namespaces', kind: 'Namespace', namespaced: false } as const;
  await storage.get({ ...namespaces, custom: false, status: true }, '', name);
}

interface Token {
  readonly revision: string;
  readonly after: string;
}

function tokenOf(text: string): Token {
  try {
    return JSON.parse(Buffer.from(text, 'base64url').toString()) as Token;
  } catch (thrown) {
    if (!(thrown instanceof SyntaxError)) throw thrown;
    throw new Refusal(400, 'BadRequest', 'continue key is not valid');
  }
}

async function list(storage: Storage, { resource, namespace }: Target, query: URLSearchParams): Promise<Json> {
  const token = query.get('continue');
  if (token && query.get('resourceVersion'))
    throw new Refusal(400, 'BadRequest', 'specifying resource version is not allowed when using continue');
  const from = token ? tokenOf(token) : undefined;
  const exact = query.get('resourceVersionMatch') === 'Exact' ? (query.get('resourceVersion') ?? undefined) : undefined;
  const { entries, revision } = await storage.list(resource, namespace, from?.revision ?? exact);
  const labels = labelMatcher(query.get('labelSelector'));
  const fields = fieldMatcher(query.get('fieldSelector'));
  const wanted = entries.filter(({ key, object }) => key > (from?.after ?? '') && labels(object) && fields(object));
  const limit = Number(query.get('limit') ?? 0) || wanted.length;
  const page = wanted.slice(0, limit);
  const last = page.at(-1);
  const next: Token | undefined = wanted.length > limit && last ? { revision, after: last.key } : undefined;
  return {
    kind: `${resource.kind}List`,
    apiVersion: apiVersionOf(resource),
    metadata: {
      resourceVersion: revision,
      ...(next && { continue: Buffer.from(JSON.stringify(next)).toString('base64url') }),
    },
    items: page.map(({ object }) => (resource.custom ? object : untyped(object))),
  };
}

/** Items of built-in lists do not name their type. */
function untyped({ apiVersion: _a, kind: _k, ...object }: TestObject): Json {
  return object;
}

/** Discovery, for clients that ask. */
export function discovery(path: string, resources: readonly TestResource[]): Json | undefined {
  if (path === '/version') return { major: '1', minor: '34', gitVersion: 'v1.34.0-test' };
  if (path === '/api') return { kind: 'APIVersions', versions: ['v1'] };
  const versions = new Map(resources.filter(({ group }) => group !== '').map((each) => [apiVersionOf(each), each]));
  if (path === '/apis') {
    const groups = [...versions].map(([groupVersion, { group, version }]) => ({
      name: group,
      versions: [{ groupVersion, version }],
      preferredVersion: { groupVersion, version },
    }));
    return { kind: 'APIGroupList', apiVersion: 'v1', groups };
  }
  const asked = path.replace(/^\/apis?\//, '');
  const found = resources.filter((each) => apiVersionOf(each) === asked);
  if (found.length === 0) return undefined;
  const verbs = ['create', 'delete', 'get', 'list', 'patch', 'update', 'watch'];
  return {
    kind: 'APIResourceList',
    apiVersion: 'v1',
    groupVersion: asked,
    resources: found.map(({ plural, kind, namespaced }) => ({
      name: plural,
      singularName: '',
      kind,
      namespaced,
      verbs,
    })),
  };
}
