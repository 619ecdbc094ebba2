import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createLog, type Log } from '../../../src/base/log.ts';
import type { KubernetesConfig } from '../../../src/datastore/kubernetes/config.ts';
import { createKubernetesStore, type KubernetesOptions } from '../../../src/datastore/kubernetes/store.ts';
import { parseEtcdKey } from '../../../src/datastore/layout.ts';
import type { Key, Store } from '../../../src/datastore/store.ts';
import { kinds } from '../../../src/model/kinds.ts';
import type { Json, TestObject } from './objects.ts';
import { type ApiOptions, TestApiServer } from './server.ts';

/** A test API server, and how to reach it. */
export interface TestCluster {
  readonly api: TestApiServer;
  readonly config: KubernetesConfig;
  /** Holds `token` and `ca.crt`, as a Pod finds them. */
  readonly directory: string;
  open(options?: KubernetesOptions, log?: Log): Store;
  close(): Promise<void>;
}

export async function startCluster(options: ApiOptions = {}): Promise<TestCluster> {
  const directory = await mkdtemp(join(tmpdir(), 'margay-kubernetes-'));
  const api = await new TestApiServer(options).start();
  await writeFile(join(directory, 'token'), 'token-1\n');
  await writeFile(join(directory, 'ca.crt'), options.tls?.cert ?? '');
  const access = { by: 'serviceAccount', server: api.url, directory } as const;
  const config: KubernetesConfig = { type: 'kubernetes', access, interfacePrefix: 'cali' };
  const stores: Store[] = [];
  return {
    api,
    config,
    directory,
    open: (storeOptions = {}, log = createLog('test', 'silent')) => {
      const store = createKubernetesStore(config, log, { timeoutMs: 2000, ...storeOptions });
      stores.push(store);
      return store;
    },
    close: async () => {
      for (const store of stores) store.close();
      await api.stop();
      await rm(directory, { recursive: true, force: true });
    },
  };
}

/** A kubeconfig for a server, with a token or without. */
export function kubeconfig(server: string, user: Json = {}, cluster: Json = {}): string {
  return JSON.stringify({
    apiVersion: 'v1',
    kind: 'Config',
    'current-context': 'test',
    clusters: [{ name: 'test', cluster: { server, ...cluster } }],
    users: [{ name: 'test', user }],
    contexts: [{ name: 'test', context: { cluster: 'test', user: 'test' } }],
  });
}

/** The resource and name under which an object lies that etcd would hold under a key; undefined for other keys. */
export function placeOfEtcdKey(
  text: string,
  group = 'crd.projectcalico.org',
): { id: string; namespace: string; name: string } | undefined {
  const key: Key | undefined = parseEtcdKey(text);
  if (key === undefined) return undefined;
  if (key.type === 'Block') return { id: `ipamblocks.${group}`, namespace: '', name: key.cidr.replace(/[.:/]/g, '-') };
  if (!('name' in key)) throw new TypeError(`${text}: only resources and blocks are looked at`);
  return { id: `${kinds[key.type].plural}.${group}`, namespace: key.namespace ?? '', name: key.name };
}

/** What another client would store for such a text; an unreadable one becomes a spec that only the agents refuse. */
export function objectOfText(
  name: string,
  namespace: string,
  text: string,
  parse: (text: string) => unknown,
): TestObject {
  let found: { spec?: Json } = { spec: { cidr: 'unreadable' } };
  try {
    found = parse(text) as { spec?: Json };
  } catch (thrown) {
    if (!(thrown instanceof SyntaxError)) throw thrown;
  }
  return { metadata: { name, ...(namespace !== '' && { namespace }) }, spec: found.spec ?? {} };
}
