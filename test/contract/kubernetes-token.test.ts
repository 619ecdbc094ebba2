import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { mkdtemp, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { KubeConfig } from '@kubernetes/client-node';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { parseAllDocuments } from 'yaml';
import { systemClock } from '../../src/base/clock.ts';
import { createLog } from '../../src/base/log.ts';
import { writeKubeconfig } from '../../src/cni/kubeconfig.ts';
import { KubeconfigKeeper } from '../../src/cni/kubeconfig-keeper.ts';
import { type PodAccess, TokenIssuer } from '../../src/datastore/kubernetes/token.ts';
import { StoreUnavailableError } from '../../src/datastore/store.ts';
import type { Rule } from '../support/kubernetes/rbac.ts';
import { TestApiServer } from '../support/kubernetes/server.ts';
import { until } from '../support/wait.ts';

/* The token of the plugins on the host, by the rights that the manifest gives the agents, over TLS. */

const log = createLog('test', 'silent');
const day = 86_400;
let directory: string;
let api: TestApiServer;
let issuer: TokenIssuer;

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'margay-token-'));
  const file = (name: string) => join(directory, name);
  const certificate = ['-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes', '-days', '1'];
  const names = ['-subj', '/CN=test', '-addext', 'subjectAltName=IP:127.0.0.1'];
  const args = ['req', ...certificate, ...names, '-keyout', file('key.pem'), '-out', file('ca.crt')];
  execFileSync('openssl', args, { stdio: 'ignore' });
  const [key, cert] = [readFileSync(file('key.pem'), 'utf8'), readFileSync(file('ca.crt'), 'utf8')];
  api = await new TestApiServer({ tls: { key, cert } }).start();
  for (const name of ['margay-node', 'margay-cni-plugin'])
    await api.create('serviceaccounts', { metadata: { name, namespace: 'kube-system' } });
  await writeFile(file('namespace'), 'kube-system');
  await writeFile(file('token'), 'agent');
  api.tokens = new Set(['agent']);
  api.rules = tokenRules();
  const access: PodAccess = { by: 'serviceAccount', server: api.url, directory };
  issuer = new TokenIssuer(access, log);
});

afterEach(async () => {
  issuer.close();
  await api.stop();
  await rm(directory, { recursive: true, force: true });
});

function tokenRules(): Rule[] {
  const text = readFileSync(join(import.meta.dirname, '../../deploy/margay.yaml'), 'utf8');
  const objects = parseAllDocuments(text).map((each) => each.toJS());
  return objects.find(({ kind, metadata }) => kind === 'Role' && metadata.name === 'margay-node').rules;
}

test('a token for a day is issued for the account of the plugins, and the kubeconfig with it is let in', async () => {
  const issued = await issuer.issue('margay-cni-plugin', day);
  const left = issued.expires.getTime() - Date.now();
  expect(left).toBeGreaterThan((day - 60) * 1000);
  expect(left).toBeLessThanOrEqual(day * 1000);

  const kubeconfig = new KubeConfig();
  kubeconfig.loadFromFile(await writeKubeconfig(directory, issued));
  expect(kubeconfig.getCurrentCluster()?.server).toBe(api.url);
  expect(kubeconfig.getCurrentUser()?.token).toBe(issued.token);
  const ca = Buffer.from(kubeconfig.getCurrentCluster()?.caData ?? '', 'base64').toString();
  expect(ca).toBe(await readFile(join(directory, 'ca.crt'), 'utf8'));
});

test('without the right, the account or a server there is a reason instead of a token', async () => {
  await expect(issuer.issue('margay-node', day)).rejects.toThrow(/403/);
  api.rules = undefined;
  await expect(issuer.issue('nobody', day)).rejects.toThrow('no ServiceAccount nobody in namespace kube-system');
  api.fault('/token', { status: 200 });
  await expect(issuer.issue('margay-cni-plugin', day)).rejects.toThrow('status.token');
  await api.stop();
  await expect(issuer.issue('margay-cni-plugin', day)).rejects.toThrow(StoreUnavailableError);
});

test('the agent keeps the file fresh with its own newest token, over a refusal', async () => {
  const stop = new AbortController();
  const confDir = await mkdtemp(join(directory, 'net.d-'));
  const file = join(confDir, 'calico-kubeconfig');
  const issue = () => issuer.issue('margay-cni-plugin', day);
  const done = new KubeconfigKeeper({ confDir, issue, clock: hasty(), log }).run(stop.signal);
  const token = async () => /token: (.*)/.exec(await readFile(file, 'utf8'))?.[1];
  const soon = (what: string) => ({ within: 10_000, what });
  const first = await until(token, soon('a first token'));
  const allow = api.fault('/token', { status: 429, reason: 'TooManyRequests' }, 2);
  // What the kubelet does before the agent's own token ends.
  await writeFile(join(directory, 'token'), 'agent-2');
  api.tokens = new Set(['agent-2']);
  await until(async () => (await token()) !== first, soon('another token'));
  allow();
  expect((await stat(file)).mode & 0o777).toBe(0o600);
  stop.abort();
  await done;
});

/** A day passes in less than a second: timers of hours end after milliseconds, and the wall clock says so. */
function hasty(): typeof systemClock {
  const began = Date.now();
  return {
    monotonic: () => systemClock.monotonic(),
    wall: () => new Date(began + (Date.now() - began) * 100_000),
    after: (milliseconds, action) => systemClock.after(milliseconds / 100_000, action),
  };
}
