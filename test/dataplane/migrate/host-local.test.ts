import { type ChildProcess, spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { createLog } from '../../../src/base/log.ts';
import { applyMigration, type MigrateDeps, planMigration, rollBackMigration } from '../../../src/cli/migrate-node.ts';
import { createMemoryStore } from '../../../src/datastore/memory.ts';
import type { Store } from '../../../src/datastore/store.ts';
import { openNetlinkIn } from '../../../src/kernel/namespace.ts';
import type { Ip } from '../../../src/model/address.ts';
import { endpointName, hostDeviceName } from '../../../src/model/endpoint-name.ts';
import { intercepted, ipamOf, nodeValue, TestClock } from '../../support/ipam.ts';
import { until } from '../../support/wait.ts';
import { Namespaces } from '../cni/namespaces.ts';

/* A node whose pods hang on a bridge, as with flannel: they are taken over and given back while a connection lives. */

const program = join(import.meta.dirname, '../../../node_modules/.bin/node');
const namespaces = new Namespaces();
const children: ChildProcess[] = [];
let folder: string;
let node: string;
let pods: Record<'web' | 'lost', string>;
let deps: MigrateDeps;

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'margay-host-local-'));
  node = namespaces.add();
  namespaces.exec(node, 'ip', 'link', 'add', 'cni0', 'type', 'bridge');
  namespaces.exec(node, 'ip', 'addr', 'add', '10.244.9.1/24', 'dev', 'cni0');
  for (const device of ['cni0', 'lo']) namespaces.exec(node, 'ip', 'link', 'set', device, 'up');
  pods = { web: await bridged('web', '10.244.9.5'), lost: await bridged('lost', '10.244.9.6') };
  await mkdir(join(folder, 'results'));
  await mkdir(join(folder, 'conf'));
  await writeFile(join(folder, 'results', 'cbr0-c-web-eth0'), cacheOf('web'));
  await conflist('10-flannel.conflist', 'cbr0', 'flannel');
  const store = createMemoryStore();
  const labels = { 'kubernetes.io/hostname': 'n9' };
  const value = nodeValue('n9');
  await store.create({ type: 'Node', name: 'n9' }, { ...value, metadata: { ...value.metadata, labels } });
  const folders = {
    ...{ networks: join(folder, 'networks'), results: join(folder, 'results') },
    ...{ configurations: join(folder, 'conf'), flannel: join(folder, 'subnet.env') },
  };
  await writeFile(folders.flannel, 'FLANNEL_NETWORK=10.244.0.0/16\nFLANNEL_SUBNET=10.244.9.1/24\n');
  deps = {
    ...{ store, clock: new TestClock(), log: createLog('test', 'silent'), signal: new AbortController().signal },
    ...{ host: openNetlinkIn(node), node: 'n9', interfacePrefix: 'cali', folders, podCidrs: [] },
    record: join(folder, 'lib', 'record.json'),
  };
});
afterEach(async () => {
  vi.restoreAllMocks();
  for (const child of children.splice(0)) child.kill('SIGKILL');
  deps.host.close();
  namespaces.clear();
  await rm(folder, { recursive: true, force: true });
});

/** A pod as the bridge plugin makes it, with host-local's file. Its namespace. */
async function bridged(pod: string, address: string): Promise<string> {
  const inside = namespaces.add();
  const outer = `veth${pod}`;
  const id = inside.slice('/run/netns/'.length);
  namespaces.exec(node, 'ip', 'link', 'add', outer, 'type', 'veth', 'peer', 'name', 'eth0', 'netns', id);
  namespaces.exec(node, 'ip', 'link', 'set', outer, 'master', 'cni0', 'up');
  const lines = [
    `addr add ${address}/24 dev eth0`,
    ...['link set lo up', 'link set eth0 up', 'route add default via 10.244.9.1 dev eth0'],
    'route add 10.244.0.0/16 via 10.244.9.1 dev eth0',
  ];
  for (const line of lines) namespaces.exec(inside, 'ip', ...line.split(' '));
  const files = join(folder, 'networks', 'cbr0');
  await mkdir(files, { recursive: true });
  await writeFile(join(files, address), `c-${pod}\r\neth0`);
  await writeFile(join(files, 'last_reserved_ip.0'), address);
  return inside;
}

function cacheOf(pod: 'web' | 'lost'): string {
  const cniArgs = [
    ['K8S_POD_NAMESPACE', 'shop'],
    ['K8S_POD_NAME', pod],
  ];
  const result = { interfaces: [{ name: 'cni0' }, { name: 'eth0', sandbox: pods[pod] }] };
  return JSON.stringify({
    ...{ kind: 'cniCacheV1', containerId: `c-${pod}`, ifName: 'eth0' },
    ...{ networkName: 'cbr0', cniArgs, result },
  });
}

function conflist(file: string, name: string, type: string): Promise<void> {
  return writeFile(join(folder, 'conf', file), JSON.stringify({ cniVersion: '1.0.0', name, plugins: [{ type }] }));
}

/** What the test watches of the kernel: devices, addresses and routes of pod and node. */
function kernelState(): unknown {
  const show = (netns: string, ...what: string[]) =>
    (JSON.parse(namespaces.exec(netns, 'ip', '-4', '-j', ...what)) as Record<string, unknown>[]).map(
      ({ ifindex: _, flags: _f, ...rest }) => rest,
    );
  const master = namespaces.exec(node, 'ip', '-br', 'link', 'show', 'master', 'cni0').split(/\s+/)[0];
  return [show(pods.web, 'addr'), show(pods.web, 'route'), show(node, 'addr'), show(node, 'route'), master];
}

/** Runs a command of the person's side; its output. */
async function told(action: Promise<void>): Promise<{ out: string; error: string }> {
  let out = '';
  const append = (text: unknown) => {
    out += String(text);
    return true;
  };
  vi.spyOn(process.stdout, 'write').mockImplementation(append);
  vi.spyOn(process.stderr, 'write').mockImplementation(append);
  try {
    await action;
    return { out, error: '' };
  } catch (thrown) {
    return { out, error: thrown instanceof Error ? thrown.message || thrown.name : String(thrown) };
  } finally {
    vi.restoreAllMocks();
  }
}

/** An open connection from the node to a pod; each call sends a word over it and waits for its echo. */
async function connection(to: string): Promise<(word: string) => Promise<void>> {
  const server = run(pods.web, "require('net').createServer(s => s.pipe(s)).listen(7000, () => console.log('ready'))");
  await until(() => server.heard().includes('ready'), { within: 10_000, what: 'the echo server' });
  const client = run(
    node,
    `const s = require('net').connect(7000, '${to}'); process.stdin.pipe(s); s.pipe(process.stdout)`,
  );
  return async (word) => {
    client.child.stdin?.write(`${word}\n`);
    await until(() => client.heard().includes(word), { within: 10_000, what: `the echo of ${word}` });
  };
}

function run(netns: string, script: string): { readonly child: ChildProcess; heard(): string } {
  const child = spawn('nsenter', [`--net=${netns}`, program, '-e', script], { stdio: ['pipe', 'pipe', 'inherit'] });
  children.push(child);
  let heard = '';
  child.stdout?.on('data', (bytes: Buffer) => {
    heard += bytes.toString();
  });
  return { child, heard: () => heard };
}

test('pods are taken over with their connections, and given back as they were', async () => {
  const before = kernelState();
  const say = await connection('10.244.9.5');
  await say('before');

  const early = await told(planMigration(deps, 'table'));
  expect(early).toMatchObject({ error: 'ExitError', out: expect.stringMatching(/in the way: 10-flannel\.conflist/) });
  expect(early.out).toMatch(/pod +container c-lost +must be restarted +10\.244\.9\.6: the runtime remembers no pod/);
  const ours = { type: 'margay', ipam: { type: 'host-local', subnet: 'usePodCidr' } };
  await writeFile(join(folder, 'conf', '05-margay.conflist'), JSON.stringify({ name: 'x', plugins: [ours] }));
  expect((await told(planMigration(deps, 'table'))).out).toMatch(/in the way: 05-margay\.conflist has ipam host-local/);
  await conflist('05-margay.conflist', 'k8s-pod-network', 'margay');
  const device = hostDeviceName('cali', 'shop', 'web');
  const plan = await told(planMigration(deps, 'table'));
  expect(plan).toMatchObject({ error: '', out: expect.stringContaining(`10.244.9.5: vethweb becomes ${device}`) });
  expect(await told(applyMigration(deps, false, false))).toMatchObject({
    error: expect.stringMatching(/nothing is changed/),
  });
  expect(kernelState()).toEqual(before);

  expect(await told(applyMigration(deps, true, false))).toMatchObject({ error: '' });
  namespaces.exec(node, 'ip', 'route', 'add', '10.244.9.5', 'dev', device);
  await say('adopted');
  expect(namespaces.exec(pods.web, 'ip', '-4', '-br', 'addr', 'show', 'eth0')).toMatch(/ 10\.244\.9\.5\/32\s*$/);
  expect(namespaces.exec(pods.web, 'ip', 'route').trim().split(/ *\n/)).toEqual([
    ...['default via 169.254.1.1 dev eth0', '169.254.1.1 dev eth0 scope link'],
  ]);
  const name = endpointName('n9', 'web', 'eth0');
  const endpoint = await deps.store.get({ type: 'WorkloadEndpoint', namespace: 'shop', name });
  expect(endpoint?.value.spec).toMatchObject({
    interfaceName: device,
    containerID: 'c-web',
    ipNetworks: ['10.244.9.5/32'],
  });
  const ipam = ipamOf(deps.store, 'n9');
  expect(await ipam.byHandle('k8s-pod-network.c-web')).toMatchObject([{ address: '10.244.9.5', pool: 'podcidr-n9' }]);
  const given = await ipam.assign({ handle: 'next', families: [4], attributes: {} }, deps.signal);
  const held: readonly (Ip | string)[] = ['10.244.9.1', '10.244.9.5', '10.244.9.6', '10.244.9.255'];
  expect(held).not.toContain(given[0]?.address);
  await ipam.release({ handle: 'next' });

  expect(await told(applyMigration(deps, true, false))).toMatchObject({ error: '' });
  await say('again');
  namespaces.exec(node, 'ip', 'route', 'del', '10.244.9.5', 'dev', device);
  expect(await told(rollBackMigration(deps))).toMatchObject({ error: '' });
  await say('back');
  expect(kernelState()).toEqual(before);
  for (const type of ['WorkloadEndpoint', 'IPPool', 'Block', 'BlockAffinity', 'Handle'] as const)
    expect((await deps.store.list(type)).entries, type).toEqual([]);
  expect(existsSync(deps.record)).toBe(false);
  expect(await told(rollBackMigration(deps))).toMatchObject({ error: expect.stringContaining('no record') });
});

test('an apply that breaks off is undone, whatever it had come to; a pod that ended meanwhile does not hinder', async () => {
  await conflist('05-margay.conflist', 'k8s-pod-network', 'margay');
  await writeFile(join(folder, 'results', 'cbr0-c-lost-eth0'), cacheOf('lost'));
  const before = kernelState();
  const create: Store['create'] = (key, value) =>
    key.type === 'Block' ? Promise.reject(new Error('lost power')) : deps.store.create(key, value);
  const broken = { ...deps, store: intercepted(deps.store, { create }) };
  expect(await told(applyMigration(broken, false, false))).toMatchObject({ error: 'lost power' });
  expect(kernelState()).not.toEqual(before);
  namespaces.exec(node, 'ip', 'link', 'del', hostDeviceName('cali', 'shop', 'lost'));
  namespaces.remove(pods.lost);
  expect(await told(rollBackMigration(deps))).toMatchObject({
    error: '',
    out: expect.stringContaining('its pod has ended'),
  });
  expect(JSON.stringify(kernelState())).toContain('10.244.9.5');
  expect((await deps.store.list('WorkloadEndpoint')).entries).toEqual([]);
  expect((await deps.store.list('BlockAffinity')).entries).toEqual([]);
});
