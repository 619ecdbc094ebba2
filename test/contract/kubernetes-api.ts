import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { systemClock } from '../../src/base/clock.ts';
import { createLog } from '../../src/base/log.ts';
import type { KubernetesConfig } from '../../src/datastore/kubernetes/config.ts';
import { Credentials } from '../../src/datastore/kubernetes/credentials.ts';
import { ApiServer, type Method, type Query } from '../../src/datastore/kubernetes/http.ts';

/** An API server under test: deploy/crds are there, and a namespace that nobody else uses. */
export interface ApiSubject {
  readonly config: KubernetesConfig;
  readonly namespace: string;
  /** Forgets history up to now. */
  compact(): Promise<void>;
  close(): Promise<void>;
}

interface Told {
  readonly code: number;
  /** Of a Status that says no. */
  readonly reason?: string;
  readonly details?: { readonly kind?: string; readonly name?: string; readonly causes?: readonly { field: string }[] };
  readonly metadata: Readonly<Record<string, string>> & { readonly annotations?: Readonly<Record<string, string>> };
  readonly items: readonly Told[];
  readonly spec?: Readonly<Record<string, unknown>>;
  readonly status?: Readonly<Record<string, unknown>> | string;
}

const merge = 'application/merge-patch+json';
const calico = '/apis/crd.projectcalico.org/v1';

/** What the driver relies on of an API server, asked of the test's own and of a live one alike. */
export function apiContract(name: string, open: () => Promise<ApiSubject>): void {
  describe(`API: ${name}`, () => {
    let subject: ApiSubject;
    let server: ApiServer;
    let pools: string;
    let sets: string;
    let pods: string;
    beforeEach(async () => {
      subject = await open();
      const log = createLog('test', 'silent');
      server = new ApiServer(new Credentials(subject.config, systemClock, log), systemClock, log);
      pools = `${calico}/ippools`;
      sets = `${calico}/namespaces/${subject.namespace}/networksets`;
      pods = `/api/v1/namespaces/${subject.namespace}/pods`;
    });
    afterEach(async () => {
      server.close();
      await subject.close();
    });

    async function call(method: Method, path: string, body?: object, more: { query?: Query; type?: string } = {}) {
      const { query = {}, type = 'application/json' } = more;
      const sent = body && { body: { type, text: JSON.stringify(body) } };
      const { status: code, text } = await server.call({ method, path, query, withinMs: 10_000, ...sent });
      const told = text.startsWith('{') ? (JSON.parse(text) as Omit<Told, 'code'>) : { metadata: {}, items: [] };
      return { ...told, code } as Told;
    }

    const set = (own: string, more: object = {}) => ({
      ...{ apiVersion: 'crd.projectcalico.org/v1', kind: 'NetworkSet' },
      metadata: { name: own, ...more },
      spec: { nets: ['192.0.2.0/24'] },
    });
    const pod = (own: string, more: object = {}) => ({
      ...{ apiVersion: 'v1', kind: 'Pod', metadata: { name: own, ...more } },
      spec: { nodeName: `node-of-${own}`, containers: [{ name: 'c', image: 'none' }] },
    });
    const says = (told: Told) => [told.code, told.reason];

    test('an object is made once, by a name that a path can have, in a namespace that is there', async () => {
      const made = await call('POST', sets, set('a'));
      expect([made.code, made.metadata]).toMatchObject([201, { name: 'a', generation: 1, uid: expect.any(String) }]);
      const again = await call('POST', sets, set('a'));
      expect([...says(again), again.details?.name]).toEqual([409, 'AlreadyExists', 'a']);
      const odd = await call('POST', sets, set('A_b'));
      expect([...says(odd), odd.details?.causes?.[0]?.field]).toEqual([422, 'Invalid', 'metadata.name']);
      const elsewhere = await call('POST', sets, set('b', { namespace: 'kube-system' }));
      expect(says(elsewhere)).toEqual([400, 'BadRequest']);
      const nowhere = await call('POST', `${calico}/namespaces/nowhere/networksets`, set('b'));
      expect([...says(nowhere), nowhere.details]).toMatchObject([
        404,
        'NotFound',
        { kind: 'namespaces', name: 'nowhere' },
      ]);
      const other = await call('POST', sets, { ...set('b'), kind: 'Tier' });
      expect([...says(other), other.details?.causes?.[0]?.field]).toEqual([422, 'Invalid', 'kind']);
      expect(says(await call('POST', pods, { ...pod('b'), kind: 'Service' }))).toEqual([400, 'BadRequest']);
      const version = { ...set('b'), apiVersion: 'crd.projectcalico.org/v3' };
      expect(says(await call('POST', sets, version))).toEqual([400, 'BadRequest']);
    });

    test('what is not there is told from what the server does not know', async () => {
      const missing = await call('GET', `${sets}/none`);
      expect([...says(missing), missing.details?.name]).toEqual([404, 'NotFound', 'none']);
      for (const path of [`${calico}/nonesuch`, '/apis/nonesuch.example/v1/things']) {
        const unknown = await call('GET', path);
        expect([unknown.code, unknown.details?.name], path).toEqual([404, undefined]);
      }
      // Of a definition without a status, that of an object is missing as the object would be.
      const part = await call('GET', `${pools}/a/status`);
      expect([...says(part), part.details?.name]).toEqual([404, 'NotFound', 'a']);
      expect((await call('GET', '/apis/nonesuch.example/v1')).code).toBe(404);
      expect((await call('GET', calico)).code).toBe(200);
    });

    test('a schema refuses with the field, and a write that changes nothing is none', async () => {
      const refused = await call('POST', sets, { ...set('a'), spec: { nets: 'all' } });
      expect([...says(refused), refused.details?.causes?.[0]?.field]).toEqual([422, 'Invalid', 'spec.nets']);
      const made = await call('POST', sets, set('a'));
      const { resourceVersion } = made.metadata;
      const same = await call('PUT', `${sets}/a`, set('a', { resourceVersion }));
      expect([same.code, same.metadata['resourceVersion']]).toEqual([200, resourceVersion]);
      const more = { ...set('a', { resourceVersion }), spec: { nets: [], fromTheFuture: { list: [1] } } };
      const changed = await call('PUT', `${sets}/a`, more);
      expect([changed.code, changed.metadata, changed.spec]).toMatchObject([200, { generation: 2 }, more.spec]);
    });

    test('an update names the revision that it changes', async () => {
      const { metadata } = await call('POST', sets, set('a'));
      const blind = await call('PUT', `${sets}/a`, set('a'));
      expect([...says(blind), blind.details?.causes?.[0]?.field]).toEqual([422, 'Invalid', 'metadata.resourceVersion']);
      const { resourceVersion } = metadata;
      await call('PATCH', `${sets}/a`, { metadata: { labels: { a: 'b' } } }, { type: merge });
      expect(says(await call('PUT', `${sets}/a`, set('a', { resourceVersion })))).toEqual([409, 'Conflict']);
      const stale = { metadata: { resourceVersion, labels: { a: 'c' } } };
      expect(says(await call('PATCH', `${sets}/a`, stale, { type: merge }))).toEqual([409, 'Conflict']);
      const leases = `/apis/coordination.k8s.io/v1/namespaces/${subject.namespace}/leases`;
      const renewTime = '2026-03-02T10:11:12.345678Z';
      const lease = {
        apiVersion: 'coordination.k8s.io/v1',
        kind: 'Lease',
        metadata: { name: 'l' },
        spec: { renewTime },
      };
      expect(await call('POST', leases, lease)).toMatchObject({ code: 201, spec: { renewTime } });
      expect(says(await call('PUT', `${leases}/l`, lease))).toEqual([422, 'Invalid']);
      const gone = await call('PUT', `${sets}/none`, set('none', { resourceVersion }));
      expect([...says(gone), gone.details?.name]).toEqual([404, 'NotFound', 'none']);
    });

    test('a deletion heeds what it expects', async () => {
      const { metadata } = await call('POST', sets, set('a'));
      const options = (preconditions: object) => ({ kind: 'DeleteOptions', apiVersion: 'v1', preconditions });
      const strange = options({ uid: '00000000-0000-4000-8000-000000000000' });
      expect(says(await call('DELETE', `${sets}/a`, strange))).toEqual([409, 'Conflict']);
      expect(says(await call('DELETE', `${sets}/a`, options({ resourceVersion: '1' })))).toEqual([409, 'Conflict']);
      const { uid, resourceVersion } = metadata;
      expect((await call('DELETE', `${sets}/a`, options({ uid, resourceVersion }))).code).toBe(200);
      const again = await call('DELETE', `${sets}/a`, options({}));
      expect([...says(again), again.details?.name]).toEqual([404, 'NotFound', 'a']);
    });

    test('the status of a Pod takes annotations, and nothing of what it is', async () => {
      expect((await call('POST', pods, pod('a'))).code).toBe(201);
      const change = {
        metadata: { annotations: { note: 'x' } },
        spec: { nodeName: 'another' },
        status: { phase: 'Failed' },
      };
      const patched = await call('PATCH', `${pods}/a/status`, change, { type: merge });
      expect([patched.code, patched.metadata.annotations, patched.spec, patched.status]).toMatchObject([
        ...[200, { note: 'x' }, { nodeName: 'node-of-a' }, { phase: 'Failed' }],
      ]);
      const cleared = await call(
        'PATCH',
        `${pods}/a/status`,
        { metadata: { annotations: { note: null } } },
        { type: merge },
      );
      expect(cleared.metadata.annotations?.['note']).toBeUndefined();
      expect(says(await call('PATCH', `${pods}/none/status`, change, { type: merge }))).toEqual([404, 'NotFound']);
    });

    test('lists are chunked, and narrowed by labels and by the fields that a kind has', async () => {
      for (const own of ['c', 'a', 'b']) await call('POST', pods, pod(own, { labels: { own } }));
      const names = ({ items }: Told) => items.map(({ metadata }) => metadata['name']);
      const first = await call('GET', pods, undefined, { query: { limit: 2 } });
      expect(names(first)).toEqual(['a', 'b']);
      const { continue: token, resourceVersion } = first.metadata;
      const rest = await call('GET', pods, undefined, { query: { limit: 2, continue: token } });
      expect([names(rest), rest.metadata['continue'] ?? '']).toEqual([['c'], '']);
      expect(rest.metadata['resourceVersion']).toBe(resourceVersion);
      const both = await call('GET', pods, undefined, { query: { limit: 2, continue: token, resourceVersion } });
      expect(both.code).toBe(400);
      expect(says(await call('GET', pods, undefined, { query: { limit: 2, continue: 'x' } }))).toEqual([
        400,
        'BadRequest',
      ]);
      const by = async (path: string, query: Query) => names(await call('GET', path, undefined, { query }));
      expect(await by(pods, { labelSelector: 'own in (a,c)' })).toEqual(['a', 'c']);
      expect(await by(pods, { fieldSelector: 'spec.nodeName=node-of-b' })).toEqual(['b']);
      const fieldSelector = 'spec.cidr=10.0.0.0/8';
      expect(says(await call('GET', pools, undefined, { query: { fieldSelector } }))).toEqual([400, 'BadRequest']);
    });

    test('an exact revision is listed until it is forgotten, and so is the rest of a list', async () => {
      for (const own of ['a', 'b', 'c']) await call('POST', sets, set(own));
      const { metadata } = await call('GET', sets, undefined, { query: { limit: 1 } });
      const { resourceVersion, continue: token } = metadata;
      await call('DELETE', `${sets}/a`);
      const exact = { resourceVersion, resourceVersionMatch: 'Exact' };
      expect((await call('GET', sets, undefined, { query: exact })).items).toHaveLength(3);
      await subject.compact();
      expect(says(await call('GET', sets, undefined, { query: exact }))).toEqual([410, 'Expired']);
      expect(says(await call('GET', sets, undefined, { query: { limit: 1, continue: token } }))).toEqual([
        410,
        'Expired',
      ]);
    });

    test('a watch tells what came after, with the object as it was last', async () => {
      const { metadata } = await call('GET', sets);
      await call('POST', sets, set('a'));
      await call('PATCH', `${sets}/a`, { metadata: { labels: { x: 'y' } } }, { type: merge });
      await call('DELETE', `${sets}/a`);
      const query = { watch: true, resourceVersion: metadata['resourceVersion'], timeoutSeconds: 1 };
      let text = '';
      for await (const part of server.stream(sets, query, 10_000, new AbortController().signal)) text += part;
      const events = text
        .split('\n')
        .filter(Boolean)
        .map((line) => JSON.parse(line) as { type: string; object: Told });
      expect(events.map(({ type }) => type)).toEqual(['ADDED', 'MODIFIED', 'DELETED']);
      const revisions = events.map(({ object }) => BigInt(object.metadata['resourceVersion'] ?? ''));
      expect(revisions).toEqual(revisions.toSorted((a, b) => Number(a - b)));
      expect(new Set(revisions).size).toBe(3);
      expect(events[2]?.object).toMatchObject({ metadata: { name: 'a', labels: { x: 'y' } } });
    });

    test('a token lives ten minutes at least', async () => {
      const path = `/api/v1/namespaces/${subject.namespace}/serviceaccounts`;
      const account = { apiVersion: 'v1', kind: 'ServiceAccount', metadata: { name: 'own' } };
      expect((await call('POST', path, account)).code).toBe(201);
      const asked = (expirationSeconds: number) => ({
        ...{ apiVersion: 'authentication.k8s.io/v1', kind: 'TokenRequest' },
        spec: { audiences: [], expirationSeconds },
      });
      const issued = await call('POST', `${path}/own/token`, asked(600));
      expect([issued.code, issued.status]).toMatchObject([201, { token: expect.stringMatching(/^[\w-]+\.[\w-]+\./) }]);
      const short = await call('POST', `${path}/own/token`, asked(599));
      expect([...says(short), short.details?.causes?.[0]?.field]).toEqual([422, 'Invalid', 'spec.expirationSeconds']);
      const nobody = await call('POST', `${path}/nobody/token`, asked(600));
      expect([...says(nobody), nobody.details?.name]).toEqual([404, 'NotFound', 'nobody']);
    });
  });
}
