import { execFileSync } from 'node:child_process';
import { existsSync, mkdtempSync, readdirSync, rmSync, symlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import pino from 'pino';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { systemClock } from '../../../src/base/clock.ts';
import {
  addNetwork,
  type CniCall,
  type Conflist,
  checkNetwork,
  delNetwork,
  gcNetwork,
} from '../../../src/cni/client.ts';
import { CniHandler } from '../../../src/cni/handler.ts';
import { defaultConflist, installCni, uninstallCni } from '../../../src/cni/install.ts';
import { openPodNamespace } from '../../../src/cni/pod.ts';
import { type CniServer, startCniServer } from '../../../src/cni/server.ts';
import { createMemoryStore, type MemoryStore } from '../../../src/datastore/memory.ts';
import { Ipam } from '../../../src/ipam/allocator.ts';
import { openNetlinkIn } from '../../../src/kernel/namespace.ts';
import type { Netlink } from '../../../src/kernel/types.ts';
import { parseResource } from '../../../src/model/kinds.ts';
import { FakeFelix } from '../../unit/cni/fakes.ts';
import { Namespaces } from './namespaces.ts';

/*
 * The whole way of a verb: client, installed launcher, server, handler, kernel. Only datastore and felix are
 * stand-ins; the node is a namespace of its own.
 */

const root = path.resolve(import.meta.dirname, '../../..');
const log = pino({ level: 'silent' });
const spaces = new Namespaces();
const device = 'cali6672f9163e3';
const pools = [
  ['default-ipv4', '10.64.0.0/26'],
  ['default-ipv6', 'fd00::/122'],
] as const;
const pool = (name: string, cidr: string, more = {}) => ({
  kind: 'IPPool',
  apiVersion: 'projectcalico.org/v3',
  metadata: { name },
  spec: { cidr, ...more },
});

let folder: string;
let node: string;
let netlink: Netlink;
let store: MemoryStore;
let ipam: Ipam;
let felix: FakeFelix;
let server: CniServer;
let stop: AbortController;

beforeEach(async () => {
  execFileSync(path.join(root, 'scripts/build-launcher.sh'));
  folder = mkdtempSync(path.join(tmpdir(), 'margay-cni-'));
  node = spaces.add();
  spaces.exec(node, 'ip', 'link', 'set', 'lo', 'up');
  netlink = openNetlinkIn(node);
  store = createMemoryStore();
  for (const [name, cidr] of pools)
    await store.create({ type: 'IPPool', name }, parseResource('IPPool', pool(name, cidr)));
  const tiny = pool('tiny', '10.65.0.1/32', { blockSize: 32, assignmentMode: 'Manual' });
  await store.create({ type: 'IPPool', name: 'tiny' }, parseResource('IPPool', tiny));
  ipam = new Ipam({ store, node: 'rack7-n3', clock: systemClock, log });
  felix = new FakeFelix();
  stop = new AbortController();
  const socketPath = path.join(folder, 'cni.sock');
  const queueDir = path.join(folder, 'lib/cni-queue');
  const handler = new CniHandler({
    ...{ store, ipam, felix, netlink, log, nodename: 'rack7-n3', clock: systemClock, openPod: openPodNamespace },
    config: { mtu: 1450, interfacePrefix: 'cali', families: [4, 6] },
  });
  server = await startCniServer({ socketPath, handler, log, signal: stop.signal });
  await installCni({ ...folders(), launcher: path.join(root, 'dist/margay-cni'), socketPath, queueDir });
});

afterEach(async () => {
  stop.abort();
  await server.closed;
  netlink.close();
  spaces.clear();
  rmSync(folder, { recursive: true, force: true });
});

const folders = () => ({ confDir: path.join(folder, 'net.d'), binDir: path.join(folder, 'bin') });

function call(netns: string, more: Partial<CniCall> = {}): CniCall {
  return {
    conflist: defaultConflist({ cniVersion: '1.1.0' }),
    pluginDir: folders().binDir,
    containerId: '9c1f',
    netns,
    ifName: 'eth0',
    args: { IgnoreUnknown: '1', K8S_POD_NAMESPACE: 'shop', K8S_POD_NAME: 'cart-7d9' },
    ...more,
  };
}

/** Our network with more or other fields. */
function onlyPlugin(more: Readonly<Record<string, unknown>>): Conflist {
  const base = defaultConflist();
  return { ...base, plugins: base.plugins.map((plugin) => ({ ...plugin, ...more })) };
}

function devices(netns: string): string[] {
  const space = openNetlinkIn(netns);
  try {
    return space.links().map(({ name }) => name);
  } finally {
    space.close();
  }
}

async function handles(): Promise<string[]> {
  return (await store.list('Handle')).entries.map(({ key }) => key.id);
}

async function expectNothingLeft(): Promise<void> {
  expect(devices(node)).toEqual(['lo']);
  expect((await store.list('WorkloadEndpoint')).entries).toEqual([]);
  expect(await handles()).toEqual([]);
}

test('ADD, traffic both ways, CHECK, DEL, DEL', async () => {
  const pod = spaces.add();
  const result = await addNetwork(call(pod, { labels: { app: 'cart' } }));
  expect(result.ips?.map(({ address }) => address)).toEqual(['10.64.0.0/32', 'fd00::/128']);
  expect(result.interfaces?.[1]).toMatchObject({ name: 'eth0', sandbox: pod, mtu: 1450 });
  const [endpoint] = (await store.list('WorkloadEndpoint')).entries;
  expect(endpoint?.value.metadata.labels).toMatchObject({ app: 'cart' });

  // The node's side, as felix makes it.
  spaces.exec(node, 'ip', 'address', 'add', '10.99.0.1/32', 'dev', 'lo');
  spaces.exec(node, 'ip', 'address', 'add', 'fd99::1/128', 'dev', 'lo');
  spaces.exec(node, 'ip', 'route', 'add', '10.64.0.0/32', 'dev', device, 'scope', 'link');
  spaces.exec(node, 'ip', '-6', 'route', 'add', 'fd00::/128', 'dev', device);
  for (const target of ['10.99.0.1', 'fd99::1']) spaces.exec(pod, 'ping', '-c1', '-W3', target);
  for (const target of ['10.64.0.0', 'fd00::']) spaces.exec(node, 'ping', '-c1', '-W3', target);

  await checkNetwork(call(pod, { prevResult: result }));
  await delNetwork(call(pod, { prevResult: result }));
  await expectNothingLeft();
  expect(devices(pod)).toEqual(['lo']);
  await delNetwork(call(pod));
});

test('ADD again gives the same result, also after the device was torn away', async () => {
  const pod = spaces.add();
  const first = await addNetwork(call(pod));
  expect(await addNetwork(call(pod))).toEqual(first);
  netlink.deleteLink(device);
  expect(await addNetwork(call(pod))).toEqual(first);
  await checkNetwork(call(pod, { prevResult: first }));
});

test('ADD in a namespace where IPv6 is switched off switches it on', async () => {
  const pod = spaces.add();
  spaces.exec(
    pod,
    'sh',
    '-c',
    'echo 1 >/proc/sys/net/ipv6/conf/all/disable_ipv6; echo 1 >/proc/sys/net/ipv6/conf/default/disable_ipv6',
  );
  const result = await addNetwork(call(pod));
  await checkNetwork(call(pod, { prevResult: result }));
});

test('CHECK names the route and the address that somebody removed', async () => {
  const pod = spaces.add();
  const prevResult = await addNetwork(call(pod));
  spaces.exec(pod, 'ip', 'route', 'del', 'default');
  await expect(checkNetwork(call(pod, { prevResult }))).rejects.toMatchObject({
    code: 100,
    message: expect.stringContaining('route 0.0.0.0/0'),
  });
  spaces.exec(pod, 'ip', 'address', 'flush', 'dev', 'eth0');
  await expect(checkNetwork(call(pod, { prevResult }))).rejects.toThrow('address 10.64.0.0 is missing on eth0');
});

test('DEL after the namespace is gone removes the rest', async () => {
  const pod = spaces.add();
  await addNetwork(call(pod));
  spaces.remove(pod);
  await delNetwork(call(pod));
  await expectNothingLeft();
});

test('a new sandbox of the same pod replaces the old one', async () => {
  const [old, fresh] = [spaces.add(), spaces.add()];
  await addNetwork(call(old));
  const result = await addNetwork(call(fresh, { containerId: 'b2' }));
  await delNetwork(call(old));
  expect(devices(old)).toEqual(['lo']);
  await checkNetwork(call(fresh, { containerId: 'b2', prevResult: result }));
  expect(await handles()).toEqual(['k8s-pod-network.b2']);
});

test('twenty pods at once, and GC of all but one', async () => {
  const pods = Array.from({ length: 20 }, (_, at) => ({ netns: spaces.add(), containerId: `c${at}` }));
  const calls = pods.map(({ netns, containerId }) =>
    call(netns, { containerId, args: { K8S_POD_NAMESPACE: 'shop', K8S_POD_NAME: `p-${containerId}` } }),
  );
  const results = await Promise.all(calls.map(addNetwork));
  expect(new Set(results.map(({ ips }) => ips?.[0]?.address)).size).toBe(20);
  const [keep] = calls;
  if (keep === undefined) return expect.fail('no call');
  await gcNetwork({ ...keep, valid: [{ containerID: keep.containerId, ifname: 'eth0' }] });
  expect(await handles()).toEqual(['k8s-pod-network.c0']);
  expect(devices(node).length).toBe(2);
});

test.each([
  ['that is not there', () => '/run/netns/margay-none'],
  ['that is an ordinary file', () => path.join(root, 'package.json')],
  ['that is a folder', () => root],
  ["that is the node's own", () => '/proc/self/ns/net'],
  ['of another kind', () => '/proc/self/ns/uts'],
  ['below a file', () => path.join(root, 'package.json/net')],
])('a container namespace %s is refused with code 3 and leaves nothing', async (_what, netns) => {
  await expect(addNetwork(call(netns()))).rejects.toMatchObject({
    code: 3,
    message: expect.stringMatching(/CNI_NETNS: ".*: expected the path of the network namespace of a running container/),
  });
  await expectNothingLeft();
});

test('an ADD that fails leaves nothing: eth0 is there, no address is free, no policy in time', async () => {
  const pod = spaces.add();
  spaces.exec(pod, 'ip', 'link', 'add', 'eth0', 'type', 'bridge');
  await expect(addNetwork(call(pod))).rejects.toMatchObject({ code: 7 });
  await expectNothingLeft();
  spaces.exec(pod, 'ip', 'link', 'del', 'eth0');

  felix.programs = false;
  await expect(addNetwork(call(pod))).rejects.toMatchObject({ code: 11 });
  await expectNothingLeft();
  felix.programs = true;

  await ipam.assign({ handle: 'other', families: [4], attributes: {}, pools: ['tiny'] }, AbortSignal.timeout(10_000));
  const full = onlyPlugin({ ipam: { type: 'margay-ipam', ipv4_pools: ['tiny'], assign_ipv6: false } });
  await expect(addNetwork(call(pod, { conflist: full }))).rejects.toMatchObject({
    code: 101,
    message: expect.stringContaining('no free IPv4 address in tiny'),
  });
  await ipam.release({ handle: 'other' });
  await expectNothingLeft();
  expect(devices(pod)).toEqual(['lo']);
});

test('an unknown field, a missing one and an agent that is down', async () => {
  const pod = spaces.add();
  const unknown = call(pod, { conflist: onlyPlugin({ ipMasq: true }) });
  await expect(addNetwork(unknown)).rejects.toMatchObject({
    code: 2,
    message: expect.stringContaining('ipMasq: true'),
  });
  const missing = call(pod, { conflist: { ...defaultConflist(), plugins: [{ type: 'margay' }] } });
  await expect(addNetwork(missing)).rejects.toMatchObject({
    code: 7,
    message: expect.stringContaining('ipam: missing'),
  });
  stop.abort();
  await server.closed;
  await expect(addNetwork(call(pod))).rejects.toMatchObject({
    code: 11,
    message: expect.stringContaining('is margay felix running?'),
  });
  await delNetwork(call(pod));
  expect(readdirSync(path.join(folder, 'lib/cni-queue'))).toHaveLength(1);
  await expectNothingLeft();
});

test('uninstalled, the plugin is gone, and again is success', async () => {
  await uninstallCni(folders());
  await expect(addNetwork(call('/run/netns/any'))).rejects.toMatchObject({ code: 'ENOENT' });
  await uninstallCni(folders());
});

test('chained with portmap and bandwidth: the result goes through them, and back to CHECK and DEL', async () => {
  const from = ['/usr/lib/cni', '/opt/cni/bin'].find((each) => existsSync(path.join(each, 'portmap'))) ?? '';
  for (const type of ['bandwidth', 'portmap']) symlinkSync(path.join(from, type), path.join(folders().binDir, type));
  const base = defaultConflist({ cniVersion: '1.0.0' });
  const chained = [
    { type: 'bandwidth', capabilities: { bandwidth: true } },
    { type: 'portmap', snat: true, capabilities: { portMappings: true } },
  ];
  const conflist = { ...base, plugins: [...base.plugins, ...chained] };
  const pod = spaces.add();
  const result = await addNetwork(call(pod, { conflist }));
  expect(result.ips?.map(({ address }) => address)).toEqual(['10.64.0.0/32', 'fd00::/128']);
  expect(result.interfaces?.map(({ name }) => name)).toEqual([device, 'eth0']);
  // bandwidth looks for the devices in its own namespace, which is not the node's here.
  const checked = { ...conflist, plugins: conflist.plugins.filter(({ type }) => type !== 'bandwidth') };
  await checkNetwork(call(pod, { conflist: checked, prevResult: result }));
  await delNetwork(call(pod, { conflist, prevResult: result }));
  await expectNothingLeft();
});
