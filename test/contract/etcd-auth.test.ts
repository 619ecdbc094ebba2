import { execFile } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { Etcd3, Range } from 'etcd3';
import { expect, test } from 'vitest';
import { explain } from '../../src/base/errors.ts';
import { createLog } from '../../src/base/log.ts';
import { createEtcdStore } from '../../src/datastore/etcd.ts';
import { keyText, StoreUnavailableError, type Value } from '../../src/datastore/store.ts';
import { startEtcd, type TestEtcd } from '../support/etcd.ts';
import { until } from '../support/wait.ts';

const log = createLog('test', 'silent');
const key = (name: string) => ({ type: 'IPPool', name }) as const;
const pool = (name: string) =>
  ({
    kind: 'IPPool',
    apiVersion: 'projectcalico.org/v3',
    metadata: { name },
    spec: { cidr: '10.0.0.0/16' },
  }) as Value<'IPPool'>;
const root = { username: 'root', password: 'of all' };
const margay = { username: 'margay', password: 'of ours' };

const guest = { username: 'guest', password: 'of none' };

/** An etcd that asks who it is; `margay` may use Calico's keys, and `guest` nothing. */
async function startGuarded(options: readonly string[]): Promise<TestEtcd> {
  const etcd = await startEtcd({ options: ['--bcrypt-cost', '4', ...options] });
  const open = new Etcd3({ hosts: etcd.endpoint });
  try {
    const role = await open.role('calico').create();
    await role.grant({ permission: 'Readwrite', range: Range.prefix('/calico/') });
    await open.role('root').create();
    for (const { username, password } of [root, margay, guest]) await open.user(username).create(password);
    await open.user('root').addRole('root');
    await open.user('margay').addRole('calico');
    await open.auth.authEnable();
  } catch (thrown) {
    await etcd.stop();
    throw thrown;
  } finally {
    open.close();
  }
  return etcd;
}

/** Takes a hundred tokens now, and waits until one that was never used is refused: so are all that are older. */
async function outlive({ endpoint }: TestEtcd): Promise<void> {
  const ask = (path: string, body: object, headers: Record<string, string> = {}) =>
    fetch(`${endpoint}/v3/${path}`, { method: 'POST', body: JSON.stringify(body), headers });
  const tokens: string[] = [];
  for (let left = 100; left > 0; left--) {
    const answer = await ask('auth/authenticate', { name: margay.username, password: margay.password });
    tokens.push(((await answer.json()) as { token: string }).token);
  }
  const place = Buffer.from('/calico/v1/Ready').toString('base64');
  const refused = async () => {
    const token = tokens.pop();
    if (token === undefined) throw new Error('all tokens are used up');
    const answer = await ask('kv/range', { key: place }, { authorization: token });
    return (await answer.text()).includes('invalid auth token');
  };
  await until(refused, { within: 20_000, what: 'the end of a token', every: 200 });
}

test('a token that expired, or that etcd forgot, is replaced, and an open watch misses nothing', async () => {
  const etcd = await startGuarded(['--auth-token-ttl', '1']);
  const store = createEtcdStore({ type: 'etcdv3', endpoints: [etcd.endpoint], credentials: margay }, log);
  const end = new AbortController();
  const seen: string[] = [];
  const watch = async (revision: string) => {
    for await (const events of store.watch(['IPPool'], revision, end.signal))
      for (const event of events) if (event.op === 'set') seen.push(keyText(event.entry.key));
  };
  try {
    const watching = watch((await store.list('IPPool')).revision);
    await store.create(key('a'), pool('a'));
    await until(() => seen.length === 1, { within: 5000, what: 'the first event' });
    await outlive(etcd);
    expect((await store.create(key('b'), pool('b'))).outcome).toBe('written');
    await until(() => seen.length === 2, { within: 5000, what: 'the second event' });
    end.abort();
    await watching;
    await etcd.restart();
    const { entries, revision } = await store.list('IPPool');
    expect(entries).toHaveLength(2);
    await store.create(key('c'), pool('c'));
    for await (const events of store.watch(['IPPool'], revision, new AbortController().signal)) {
      expect(events).toMatchObject([{ op: 'set', entry: { key: key('c') } }]);
      break;
    }
  } finally {
    end.abort();
    store.close();
    await etcd.stop();
  }
});

test('a signed token from before a change of the roles is replaced, also under a quiet watch', async () => {
  const { directory, kind } = await signedTokens();
  const etcd = await startGuarded(['--auth-token', kind]);
  const config = { type: 'etcdv3', endpoints: [etcd.endpoint], credentials: margay } as const;
  const store = createEtcdStore(config, log);
  const lines: string[] = [];
  const watched = createLog('test', 'info', { write: (line) => lines.push(line) });
  const watcher = createEtcdStore(config, watched, { timeoutMs: 1000, probeMs: 50 });
  const admin = new Etcd3({ hosts: etcd.endpoint, auth: root });
  const end = new AbortController();
  const seen: string[] = [];
  const watch = async (revision: string) => {
    for await (const events of watcher.watch(['IPPool'], revision, end.signal))
      for (const event of events) if (event.op === 'set') seen.push(keyText(event.entry.key));
  };
  try {
    const watching = watch((await watcher.list('IPPool')).revision);
    await store.create(key('a'), pool('a'));
    await until(() => seen.length === 1, { within: 5000, what: 'the first event' });
    await admin.role('calico').grant({ permission: 'Read', range: Range.prefix('/one/') });
    expect((await store.list('IPPool')).entries).toHaveLength(1);
    await until(() => lines.some((line) => line.includes('authenticating again')), { within: 5000, what: 'a probe' });
    const { outcome } = await store.create(key('b'), pool('b'));
    expect(outcome).toBe('written');
    await until(() => seen.length === 2, { within: 5000, what: 'the second event' });
    await admin.role('calico').revoke({ permission: 'Read', range: Range.prefix('/one/') });
    expect((await store.create(key('a'), pool('a'))).outcome).toBe('conflict');
    expect(seen).toEqual(['IPPool/a', 'IPPool/b']);
    end.abort();
    await watching;
  } finally {
    end.abort();
    for (const each of [store, watcher, admin]) each.close();
    await etcd.stop();
    await rm(directory, { recursive: true, force: true });
  }
});

/** A key for signed tokens, and etcd's option that names it. */
async function signedTokens() {
  const directory = await mkdtemp(join(tmpdir(), 'margay-jwt-'));
  const [privateKey, publicKey] = [join(directory, 'key.pem'), join(directory, 'pub.pem')];
  const run = promisify(execFile);
  await run('openssl', ['genpkey', '-algorithm', 'RSA', '-pkeyopt', 'rsa_keygen_bits:2048', '-out', privateKey]);
  await run('openssl', ['pkey', '-in', privateKey, '-pubout', '-out', publicKey]);
  return { directory, kind: `jwt,pub-key=${publicKey},priv-key=${privateKey},sign-method=RS256,ttl=1h` };
}

test('a wrong password and a user without the right are refusals that name the endpoint, not an empty store', async () => {
  const etcd = await startGuarded([]);
  const refusal = async (credentials?: typeof margay) => {
    const store = createEtcdStore(
      { type: 'etcdv3', endpoints: [etcd.endpoint], ...(credentials && { credentials }) },
      log,
    );
    const thrown = await store.list('IPPool').catch((reason: unknown) => reason);
    store.close();
    expect(thrown).toBeInstanceOf(StoreUnavailableError);
    expect(explain(thrown)).toContain(etcd.endpoint);
    return explain(thrown);
  };
  try {
    expect(await refusal({ ...margay, password: 'of theirs' })).toContain('authentication failed');
    expect(await refusal(guest)).toContain('permission denied');
    expect(await refusal()).toContain('user name is empty');
  } finally {
    await etcd.stop();
  }
});
