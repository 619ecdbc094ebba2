import { type ChildProcess, spawn } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { build } from 'esbuild';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { ask } from '../../../src/cli/control.ts';
import type { Event } from '../../../src/datastore/store.ts';
import type { StagedCount } from '../../../src/felix/staged.ts';
import { calicoEvent, endpointEvent, keyOf, namespaceEvent, node, policyEvent } from '../../support/cluster.ts';
import { type Member, PodNetwork } from '../../support/pods.ts';
import { until } from '../../support/wait.ts';
import { root } from '../kernel/bundle.ts';

/* Felix as a node runs it, a pod, and a host outside that is reached over the device `uplink`. */

const pod: Member = { name: 'pod-0', device: 'calipod-0', addresses: ['10.65.0.1', 'fd00::1'] };
const outside: Member = { name: 'outside', device: 'uplink', addresses: ['192.0.2.130', 'fd00::8'] };
const nodeAddress = '192.0.2.129';
const within = 20_000;

const network = new PodNetwork([pod, outside], [22, 80, 8080]);
const runDir = mkdtempSync(join(tmpdir(), 'felix-'));
const bundle = mkdtempSync(join(root, 'node_modules', '.margay-bundle-'));
let felix: ChildProcess | undefined;

beforeAll(async () => {
  await network.start();
  await network.onNode('ip', 'address', 'add', `${nodeAddress}/32`, 'dev', 'uplink');
  const outfile = join(bundle, 'felix.mjs');
  const entryPoints = [join(import.meta.dirname, 'felix-program.ts')];
  await build({ entryPoints, outfile, bundle: true, platform: 'node', format: 'esm', packages: 'external' });
  const [program = '', ...args] = [...network.launcher, process.execPath, outfile, runDir, 'nft'];
  const child = spawn(program, args, { stdio: ['pipe', 'pipe', 'inherit'] });
  felix = child;
  await new Promise((resolve) => child.stdout.once('data', resolve));
  await put(
    namespaceEvent('shop', {}),
    endpointEvent({ ...pod, namespace: 'shop', labels: {}, ports: [] }),
    calicoEvent('FelixConfiguration', { name: 'default' }, { establishedFlows: 'Cut' }),
  );
  await until(() => reaches('outside', pod.addresses[0] ?? '', 80), { within, what: 'the pod' });
});
afterAll(async () => {
  const ended = new Promise((resolve) => felix?.once('exit', resolve));
  felix?.stdin?.end();
  if (felix) await ended;
  await network.stop();
  for (const path of [runDir, bundle]) rmSync(path, { recursive: true });
});

async function put(...events: Event[]): Promise<void> {
  for (const event of events) felix?.stdin?.write(`${JSON.stringify(event)}\n`);
}

function reaches(from: string, address: string, port: number, keep?: string): Promise<boolean> {
  return network.probe(from, { protocol: 'TCP', address, port, timeoutMs: 1000, ...(keep && { keep }) });
}

const remove = (event: Event): Event => ({ op: 'delete', key: keyOf(event) }) as Event;
const connections = () => network.onNode('conntrack', '-L', '-p', 'tcp');

test('a tightened policy cuts the connections that it refuses, and no others', async () => {
  const address = pod.addresses[0] ?? '';
  expect(await reaches('outside', address, 80, 'kept')).toBe(true);
  expect(await reaches('outside', address, 8080, 'cut')).toBe(true);
  const only80 = policyEvent({
    name: 'only-80',
    namespace: 'shop',
    spec: { podSelector: {}, ingress: [{ ports: [{ port: 80 }] }] },
  });
  await put(only80);
  await until(async () => !(await connections()).includes('dport=8080'), { within, what: 'the end of the connection' });
  expect(await reaches('outside', address, 8080, 'cut')).toBe(false);
  expect(await reaches('outside', address, 80, 'kept')).toBe(true);
  expect(await connections()).toMatch(/ESTABLISHED .*dport=80 /);
  await put(remove(only80));
  await until(() => reaches('outside', address, 8080), { within, what: 'the port to open again' });
});

test('a pod is a peer as long as it has its address, and one on its host network only by that of its node', async () => {
  const address = pod.addresses[0] ?? '';
  // What comes from outside comes from the pod of another node that has the address there.
  const far = (own: readonly string[]) =>
    endpointEvent({ name: 'far', namespace: 'shop', labels: { app: 'far' }, addresses: own, ports: [] }, 'node-2');
  const onlyFrom = (...from: object[]) =>
    policyEvent({ name: 'far', namespace: 'shop', spec: { podSelector: {}, ingress: [{ from }] } });
  const becomes = (open: boolean, what: string) =>
    until(async () => (await reaches('outside', address, 80)) === open, { within, what });
  const anyPod = { namespaceSelector: {}, podSelector: {} };
  await put(onlyFrom({ podSelector: { matchLabels: { app: 'far' } } }));
  await becomes(false, 'the pod closed to strangers');
  await put(far(outside.addresses));
  await becomes(true, 'the peer let in');
  expect(await reaches('node', address, 80)).toBe(true);
  expect(await network.onNode('ipset', 'save')).toContain('192.0.2.130');
  // Its termination has begun: nothing changes until the address is released.
  await put(far(outside.addresses));
  expect(await reaches('outside', address, 80)).toBe(true);
  await put(far([]));
  await becomes(false, 'the peer without its address kept out');
  expect(await network.onNode('ipset', 'save')).not.toContain('192.0.2.130');
  await put(far(outside.addresses));
  await becomes(true, 'the peer back with an address');
  await put(remove(far([])));
  await becomes(false, 'the peer that is gone kept out');
  // A pod on its host network is no endpoint: selectors of pods do not reach it, its node's address does.
  const host = calicoEvent('Node', { name: 'node-2' }, { bgp: { ipv4Address: '192.0.2.130/24' } });
  await put(host, onlyFrom(anyPod));
  expect(await reaches('outside', address, 80)).toBe(false);
  await put(onlyFrom(anyPod, { ipBlock: { cidr: '192.0.2.130/32' } }));
  await becomes(true, 'the address of a node let in');
  await put(remove(host), remove(onlyFrom()));
  await becomes(true, 'the pod open again');
});

test('a staged policy counts what it would decide, and decides nothing', async () => {
  const address = pod.addresses[0] ?? '';
  const staged = calicoEvent(
    'StagedNetworkPolicy',
    { name: 'only-80', namespace: 'shop' },
    {
      types: ['Ingress'],
      ingress: [
        { action: 'Allow', protocol: 'TCP', destination: { ports: [80] } },
        { action: 'Deny', protocol: 'TCP', destination: { ports: [8080] } },
      ],
    },
  );
  await put(staged);
  const counts = async () => (await ask(runDir, 'felix', '/v1/staged')) as StagedCount[];
  await until(async () => (await counts()).length > 0, { within, what: 'the chain of the staged policy' });
  for (const port of [80, 8080, 8080, 22]) expect(await reaches('outside', address, port)).toBe(true);
  const policy = 'StagedNetworkPolicy shop/only-80';
  expect(await counts()).toEqual([
    { policy, direction: 'ingress', rule: 0, action: 'allow', packets: 1, bytes: 60 },
    { policy, direction: 'ingress', rule: 1, action: 'deny', packets: 2, bytes: 120 },
    { policy, direction: 'ingress', rule: -1, action: 'none', packets: 1, bytes: 60 },
  ]);
  const early = calicoEvent(
    'StagedGlobalNetworkPolicy',
    { name: 'early' },
    { doNotTrack: true, applyOnForward: true, ingress: [{ action: 'Deny', protocol: 'TCP' }], types: ['Ingress'] },
  );
  const host = calicoEvent(
    'HostEndpoint',
    { name: 'edge' },
    { node, interfaceName: 'uplink', profiles: ['projectcalico-default-allow'] },
  );
  await put(host, early);
  const before = async () => (await counts()).find((each) => each.policy === 'StagedGlobalNetworkPolicy early');
  await until(async () => (await before()) !== undefined, { within, what: 'its chain before connection tracking' });
  expect(await reaches('outside', address, 80)).toBe(true);
  expect(await before()).toMatchObject({ rule: 0, action: 'deny' });
  expect((await before())?.packets).toBeGreaterThan(0);
  await put(remove(early), remove(host), remove(staged));
  await until(async () => (await counts()).length === 0, { within, what: 'the end of the staged policy' });
});

test('a host endpoint is found by its address, obeys every stage, and goes with the address', async () => {
  const host = calicoEvent(
    'HostEndpoint',
    { name: 'edge', labels: { role: 'edge' } },
    { node, expectedIPs: [nodeAddress] },
  );
  const policy = (name: string, spec: object) =>
    calicoEvent('GlobalNetworkPolicy', { name }, { selector: "role == 'edge'", applyOnForward: true, ...spec });
  const web = { protocol: 'TCP', destination: { ports: [80] } };
  const stateless = policy('stateless', {
    doNotTrack: true,
    ingress: [{ action: 'Allow', ...web }],
    egress: [{ action: 'Allow', protocol: 'TCP', source: { ports: [80] } }],
  });
  const early = policy('early', {
    preDNAT: true,
    ingress: [{ action: 'Deny', protocol: 'TCP', destination: { nets: [`${pod.addresses[0]}/32`] } }],
  });
  const becomes = (open: boolean, port: number, address = nodeAddress) =>
    until(async () => (await reaches('outside', address, port)) === open, {
      within,
      what: `${address}:${port} ${open ? 'open' : 'closed'}`,
    });
  expect(await reaches('outside', nodeAddress, 80)).toBe(true);
  await put(host);
  await becomes(false, 80);
  expect(await reaches('outside', nodeAddress, 22)).toBe(true);
  await put(stateless);
  await becomes(true, 80);
  expect(await reaches('outside', nodeAddress, 8080)).toBe(false);
  await network.onNode('conntrack', '-F');
  expect(await reaches('outside', nodeAddress, 80)).toBe(true);
  expect(await network.onNode('conntrack', '-L', '-d', nodeAddress)).not.toContain('dport=80 ');
  await put(early);
  await becomes(false, 80, pod.addresses[0]);
  await network.onNode('ip', 'address', 'del', `${nodeAddress}/32`, 'dev', 'uplink');
  await network.onNode('ip', 'address', 'add', `${nodeAddress}/32`, 'dev', 'lo');
  await becomes(true, 8080);
  await becomes(true, 80, pod.addresses[0]);
  await put(remove(host), remove(stateless), remove(early));
  await until(async () => !(await network.onNode('iptables-nft-save')).includes('cali-pi-stateless'), {
    within,
    what: 'the end of its chains',
  });
});
