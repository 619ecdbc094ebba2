import { copyFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { EnvironmentError, explain } from '../../src/base/errors.ts';
import { createLog } from '../../src/base/log.ts';
import type { EtcdConfig } from '../../src/datastore/config.ts';
import { createEtcdStore, type EtcdOptions } from '../../src/datastore/etcd.ts';
import { keyText, StoreUnavailableError, type Value } from '../../src/datastore/store.ts';
import { createAuthority, type Pair, type TestAuthority } from '../support/certificates.ts';
import { startEtcd, type TestEtcd } from '../support/etcd.ts';
import { startTlsProxy } from '../support/tls-proxy.ts';
import { until } from '../support/wait.ts';

const quiet = createLog('test', 'silent');
const past = { from: '20200101000000Z', until: '20200102000000Z' };
const key = (name: string) => ({ type: 'IPPool', name }) as const;
const pool = (name: string) =>
  ({
    kind: 'IPPool',
    apiVersion: 'projectcalico.org/v3',
    metadata: { name },
    spec: { cidr: '10.0.0.0/16' },
  }) as Value<'IPPool'>;

let authority: TestAuthority;
let stranger: TestAuthority;
let server: Pair;
let client: Pair;
let expired: Pair;
let etcd: TestEtcd;
beforeAll(async () => {
  [authority, stranger] = await Promise.all([createAuthority(), createAuthority()]);
  server = await authority.issue('server');
  client = await authority.issue('client');
  expired = await authority.issue('expired', { validity: past });
  etcd = await startEtcd({ tls: { ...server, trustedCaFile: authority.caFile } });
}, 30_000);
afterAll(async () => {
  await Promise.all([etcd?.stop(), authority?.remove(), stranger?.remove()]);
});

type Tls = NonNullable<EtcdConfig['tls']>;

const open = (endpoint: string, tls: Tls, options: EtcdOptions = {}, log = quiet) =>
  createEtcdStore({ type: 'etcdv3', endpoints: [endpoint], tls }, log, options);

/** What a list says when it fails. */
async function failure(endpoint: string, tls: Tls): Promise<string> {
  const store = open(endpoint, tls);
  try {
    const thrown = await store.list('IPPool').catch((reason: unknown) => reason);
    expect(thrown).toBeInstanceOf(StoreUnavailableError);
    expect(explain(thrown)).toContain(endpoint);
    return explain(thrown);
  } finally {
    store.close();
  }
}

describe('etcd behind TLS', () => {
  test('with the authority alone, and with a client certificate, the store reads, writes and watches', async () => {
    const own = await startEtcd({ tls: server });
    const stores = [
      open(own.endpoint, { caFile: authority.caFile }),
      open(etcd.endpoint, { caFile: authority.caFile, client }),
    ];
    const end = new AbortController();
    try {
      for (const store of stores) {
        const { revision } = await store.list('IPPool');
        expect((await store.create(key('a'), pool('a'))).outcome).toBe('written');
        for await (const events of store.watch(['IPPool'], revision, end.signal)) {
          expect(events).toMatchObject([{ op: 'set', entry: { key: key('a') } }]);
          break;
        }
      }
    } finally {
      end.abort();
      for (const store of stores) store.close();
      await own.stop();
    }
  });

  test('what is wrong with a certificate is said, with the endpoint and the setting', async () => {
    const late = await startEtcd({ tls: expired });
    const { caFile } = authority;
    try {
      expect(await failure(etcd.endpoint, { caFile: stranger.caFile, client })).toContain(
        `not signed by the authority in ETCD_CA_CERT_FILE (${stranger.caFile})`,
      );
      expect(await failure(late.endpoint, { caFile })).toContain("the server's certificate has expired");
      const outdated = `the certificate in ETCD_CERT_FILE (${expired.certificateFile}) expired at 2020-01-02T00:00:00`;
      expect(await failure(etcd.endpoint, { caFile, client: expired })).toContain(outdated);
      const unsigned = await stranger.issue('unsigned');
      expect(await failure(etcd.endpoint, { caFile, client: unsigned })).toContain(
        `the server refuses the certificate in ETCD_CERT_FILE (${unsigned.certificateFile})`,
      );
      expect(await failure(etcd.endpoint, { caFile })).toContain('set ETCD_CERT_FILE and ETCD_KEY_FILE');
    } finally {
      await late.stop();
    }
  });

  test('files that cannot be used are refused at once, by their setting', async () => {
    const { caFile, directory } = authority;
    const junk = join(directory, 'junk.pem');
    await writeFile(junk, 'no certificate');
    const refused = (tls: Tls) => {
      try {
        open(etcd.endpoint, tls).close();
      } catch (thrown) {
        expect(thrown).toBeInstanceOf(EnvironmentError);
        return explain(thrown);
      }
      return 'taken';
    };
    expect(refused({ caFile: junk })).toContain(`ETCD_CA_CERT_FILE: ${junk} holds no certificate`);
    expect(refused({ caFile, client: { ...client, certificateFile: junk } })).toContain(`ETCD_CERT_FILE: ${junk}`);
    expect(refused({ caFile, client: { ...client, keyFile: junk } })).toContain(`ETCD_KEY_FILE: ${junk} holds no`);
    expect(refused({ caFile, client: { ...client, keyFile: server.keyFile } })).toContain(
      `ETCD_KEY_FILE: ${server.keyFile} is not the key of`,
    );
    expect(refused({ caFile: join(directory, 'none.pem') })).toContain('none.pem cannot be read');
  });
});

/** Paths of its own whose files can be replaced. */
async function mounted(name: string, pair: Pair): Promise<Pair> {
  const at = (file: string) => join(authority.directory, `${name}-${file}`);
  const files = { certificateFile: at('cert.pem'), keyFile: at('key.pem') };
  await copyFile(pair.certificateFile, files.certificateFile);
  await copyFile(pair.keyFile, files.keyFile);
  return files;
}

describe('certificate files that are replaced', () => {
  test('a watch goes on over a connection with the new ones, and no event is missing or told twice', async () => {
    const own = await startEtcd();
    const proxy = await startTlsProxy(own.endpoint, server, authority.caFile);
    const lines: string[] = [];
    const log = createLog('test', 'info', { write: (line) => lines.push(line) });
    const files = await mounted('turned', client);
    const next = await authority.issue('next');
    const quick = { timeoutMs: 1000, probeMs: 50, recheckMs: 20 };
    const store = open(proxy.endpoint, { caFile: authority.caFile, client: files }, quick, log);
    const writer = createEtcdStore({ type: 'etcdv3', endpoints: [own.endpoint] }, quiet);
    const end = new AbortController();
    const seen: string[] = [];
    const watch = async (revision: string) => {
      for await (const events of store.watch(['IPPool'], revision, end.signal))
        for (const event of events) if (event.op === 'set') seen.push(keyText(event.entry.key));
    };
    const written: string[] = [];
    const write = async () => {
      const name = `p${written.length}`;
      await writer.create(key(name), pool(name));
      written.push(keyText(key(name)));
    };
    const writeUntil = (what: string, condition: () => boolean) =>
      until(() => write().then(condition), { within: 10_000, what, every: 1 });
    try {
      const watching = watch((await store.list('IPPool')).revision);
      await writeUntil('events over the first certificate', () => seen.length > 5);
      expect(new Set(proxy.connected())).toEqual(new Set(['client']));
      await copyFile(next.certificateFile, files.certificateFile);
      await writeUntil('a word on the half that is missing', () =>
        lines.some((line) => line.includes('is not the key')),
      );
      expect(new Set(proxy.connected())).toEqual(new Set(['client']));
      await copyFile(next.keyFile, files.keyFile);
      await writeUntil('a connection with the new one', () => proxy.connected().includes('next'));
      await writeUntil('the old connections closed', () => proxy.connected().every((name) => name === 'next'));
      await until(() => seen.length >= written.length, { within: 5000, what: 'all events' });
      expect(seen).toEqual(written);
      expect(lines.filter((line) => line.includes('the old ones stay'))).toHaveLength(1);
      end.abort();
      await watching;
    } finally {
      end.abort();
      store.close();
      writer.close();
      proxy.close();
      await own.stop();
    }
  });

  test('the call that an expired certificate made fail goes through with its replacement', async () => {
    const files = await mounted('renewed', expired);
    const store = open(etcd.endpoint, { caFile: authority.caFile, client: files }, { recheckMs: 3_600_000 });
    try {
      await expect(store.list('IPPool')).rejects.toThrow('expired');
      await copyFile(client.certificateFile, files.certificateFile);
      await copyFile(client.keyFile, files.keyFile);
      await store.list('IPPool');
    } finally {
      store.close();
    }
  });
});
