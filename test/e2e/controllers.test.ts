import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest';
import { createLog } from '../../src/base/log.ts';
import { createEtcdKv, createEtcdStore } from '../../src/datastore/etcd.ts';
import { createKubernetesLease } from '../../src/datastore/kubernetes/lease.ts';
import { KvLease, type LeaseStore } from '../../src/datastore/lease.ts';
import { parseResource } from '../../src/model/kinds.ts';
import { startEtcd, type TestEtcd } from '../support/etcd.ts';
import { kubeconfig, startCluster, type TestCluster } from '../support/kubernetes/cluster.ts';
import { until } from '../support/wait.ts';
import { build, dist, finish } from './support.ts';

/* `margay controllers`, the program, without a capability: on the Kubernetes API and on etcd. */

const log = createLog('test', 'silent');
const directory = mkdtempSync(join(tmpdir(), 'margay-controllers-'));
const soon = { within: 30_000 };
let etcd: TestEtcd;
let cluster: TestCluster;
let running: ChildProcess[] = [];
let output = '';
let metricsPort = 0;

beforeAll(async () => {
  await build();
  etcd = await startEtcd();
  cluster = await startCluster();
  writeFileSync(join(directory, 'kubeconfig'), kubeconfig(cluster.api.url), { mode: 0o600 });
  metricsPort = await freePort();
  const metadata = { name: 'default' };
  const configuration = { kind: 'KubeControllersConfiguration', apiVersion: 'projectcalico.org/v3', metadata };
  const value = parseResource('KubeControllersConfiguration', {
    ...configuration,
    spec: { prometheusMetricsPort: metricsPort },
  });
  for (const store of [cluster.open(), etcdStore()]) {
    await store.create({ type: 'KubeControllersConfiguration', name: 'default' }, value);
    store.close();
  }
});
afterEach(() => {
  for (const child of running) child.kill('SIGKILL');
  running = [];
});
afterAll(async () => {
  await cluster?.close();
  await etcd?.stop();
  rmSync(directory, { recursive: true, force: true });
});

const config = () => ({ type: 'etcdv3', endpoints: [etcd.endpoint] }) as const;
const etcdStore = () => createEtcdStore(config(), log);

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const address = server.address();
  server.close();
  return typeof address === 'object' && address ? address.port : 0;
}

async function start(more: Readonly<Record<string, string>>): Promise<{ child: ChildProcess; port: number }> {
  const port = await freePort();
  const env = {
    ...{ PATH: process.env['PATH'] ?? '', KUBECONFIG: join(directory, 'kubeconfig') },
    ...{ MARGAY_CONTROLLERS_HEALTHPORT: String(port), ...more },
  };
  const program = [process.execPath, join(dist, 'margay.js'), 'controllers'];
  const child = spawn('setpriv', ['--bounding-set=-all', '--no-new-privs', '--', ...program], { env });
  running.push(child);
  output = '';
  child.stderr.on('data', (chunk: Buffer) => {
    output = (output + String(chunk)).slice(-20_000);
  });
  return { child, port };
}

async function runsAndGivesBack(
  lease: LeaseStore,
  more: Readonly<Record<string, string>>,
  isDone: () => Promise<boolean> = async () => true,
): Promise<void> {
  const { child, port } = await start(more);
  const holder = async () => (await lease.read())?.record?.holder;
  await until(async () => (await holder()) !== undefined && (await holder()) !== '', {
    ...soon,
    what: 'a leader',
  }).catch((cause: unknown) => Promise.reject(new Error(output.slice(-2000), { cause })));
  const ready = async () => (await fetch(`http://127.0.0.1:${port}/readiness`)).ok;
  await until(ready, { ...soon, what: 'readiness' });
  await until(isDone, { ...soon, what: 'its work' });
  const ended = once(child, 'exit');
  child.kill('SIGTERM');
  expect(await ended, output).toEqual([0, null]);
  expect(await holder()).toBe('');
  lease.close();
}

test('on the Kubernetes API it leads, is ready, has metrics, and gives the lease back when it is stopped', async () => {
  const lease = createKubernetesLease(cluster.config, { namespace: 'default', name: 'margay-controllers' }, log);
  const isExposed = async () => {
    const text = await (await fetch(`http://127.0.0.1:${metricsPort}/metrics`)).text();
    return /^margay_controllers_leader 1$/m.test(text) && /^# TYPE ipam_allocations_in_use gauge$/m.test(text);
  };
  await runsAndGivesBack(lease, { DATASTORE_TYPE: 'kubernetes', POD_NAMESPACE: 'default' }, isExposed);
});

test('on etcd it does so too, and copies what Kubernetes has', async () => {
  const env = { DATASTORE_TYPE: 'etcdv3', ETCD_ENDPOINTS: etcd.endpoint };
  const store = etcdStore();
  const isCopied = async () => (await store.get({ type: 'Profile', name: 'kns.default' })) !== undefined;
  await runsAndGivesBack(new KvLease(createEtcdKv(config(), log), 'margay-controllers'), env, isCopied);
  store.close();
});

test('what is wrong in the environment is named, with exit code 1', async () => {
  const program = [join(dist, 'margay.js'), 'controllers'];
  const env = { ...process.env, DATASTORE_TYPE: 'etcdv3', ENABLED_CONTROLLERS: 'nods' };
  expect(await finish(process.execPath, program, { env })).toMatchObject({
    code: 1,
    stderr: expect.stringMatching(
      /^margay: ENABLED_CONTROLLERS: "nods": expected one of node, policy, .*workloadendpoint, loadbalancer\n$/,
    ),
  });
});
