import { afterEach, beforeEach, expect, test } from 'vitest';
import { systemClock } from '../../../src/base/clock.ts';
import { createMemoryStore, type MemoryStore } from '../../../src/datastore/memory.ts';
import type { Key, Type, Value } from '../../../src/datastore/store.ts';
import { sync } from '../../../src/datastore/syncer.ts';
import { TunnelAddresses } from '../../../src/felix/tunnel-addresses.ts';
import { Ipam } from '../../../src/ipam/allocator.ts';
import { parseResource } from '../../../src/model/kinds.ts';
import { apiVersion } from '../../../src/model/resource.ts';
import { until } from '../../support/wait.ts';
import { node, nodeResource, silent, withoutIpip } from './support.ts';

const handle = `vxlan-tunnel-addr-${node}`;
const within = 5_000;

let store: MemoryStore;
let ipam: Ipam;
let stop: AbortController;
let running: Promise<unknown>;

beforeEach(() => {
  store = createMemoryStore();
  stop = new AbortController();
  ipam = new Ipam({ store, node, clock: systemClock, log: silent });
});
afterEach(async () => {
  stop.abort();
  await running;
});

function start(): void {
  const common = { store, clock: systemClock, log: silent };
  const keeper = new TunnelAddresses({ ...common, ipam, node, families: [4], enabled: () => true });
  const { signal } = stop;
  const types = ['IPPool', 'Node', 'ClusterInformation'] as const;
  const consumer = (update: Parameters<typeof keeper.consume>[0]) => keeper.consume(update);
  running = Promise.all([keeper.run(signal), sync({ ...common, types, consumer, signal })]);
}

async function put(key: Key, value: Value<Type>): Promise<void> {
  const before = await store.get(key);
  const { outcome } = before ? await store.update(key, value, before.revision) : await store.create(key, value);
  expect(outcome).toBe('written');
}

const putPool = (name: string, spec: object, annotations: Record<string, string> = {}) =>
  put(
    { type: 'IPPool', name },
    parseResource('IPPool', {
      kind: 'IPPool',
      apiVersion,
      metadata: { name, annotations },
      spec: { vxlanMode: 'Always', ...spec },
    }),
  );
const putNode = () => put({ type: 'Node', name: node }, nodeResource(node, '192.0.2.1/24'));
const spec = async () => (await store.get({ type: 'Node', name: node }))?.value.spec;
const stored = async () => (await store.get({ type: 'Node', name: node }))?.value.spec.ipv4VXLANTunnelAddr;

test('an address is taken, written to the Node, and kept', async () => {
  await putNode();
  await putPool('p', { cidr: '10.65.0.0/24' });
  start();
  await until(stored, { within, what: 'address' });
  const [held] = await ipam.byHandle(handle);
  expect(held?.address).toBe(await stored());
  const block = (await store.list('Block')).entries[0]?.value;
  expect(block?.attributes?.[0]).toMatchObject({ handle_id: handle, secondary: { node, type: 'vxlanTunnelAddress' } });
  // Somebody overwrites the Node: what is held stands.
  await putNode();
  await until(async () => (await stored()) === held?.address, { within, what: 'the same address' });
});

test('it comes from a pool that allows tunnels and selects the node, and goes with the pool', async () => {
  await putNode();
  await putPool('a', { cidr: '10.64.0.0/24', allowedUses: ['Workload'] });
  await putPool('b', { cidr: '10.65.0.0/24', nodeSelector: "rack == '8'" });
  await putPool('c', { cidr: '10.66.0.0/24', vxlanMode: 'Never' });
  await putPool('d', { cidr: '10.67.0.0/24', allowedUses: ['Tunnel'] });
  start();
  await until(async () => (await stored())?.startsWith('10.67.0.'), { within, what: 'address of d' });
  await putPool('e', { cidr: '10.68.0.0/24' });
  await store.delete({ type: 'IPPool', name: 'd' });
  await until(async () => (await stored())?.startsWith('10.68.0.'), { within, what: 'address of e' });
  await putPool('e', { cidr: '10.68.0.0/24', vxlanMode: 'Never' });
  await until(async () => (await stored()) === undefined, { within, what: 'no address' });
  expect(await ipam.byHandle(handle)).toEqual([]);
});

test('a Node that comes later gets its address then', async () => {
  await putPool('p', { cidr: '10.65.0.0/24' });
  start();
  await putNode();
  await until(stored, { within, what: 'address' });
});

test('the IPIP device has one of its own, in the field of Calico', async () => {
  await putNode();
  await putPool('p', { cidr: '10.65.0.0/24', vxlanMode: 'Never', ipipMode: 'CrossSubnet' });
  start();
  await until(async () => (await spec())?.bgp?.ipv4IPIPTunnelAddr, { within, what: 'address' });
  expect(await stored()).toBeUndefined();
  const [held] = await ipam.byHandle(`ipip-tunnel-addr-${node}`);
  expect(held?.address).toBe((await spec())?.bgp?.ipv4IPIPTunnelAddr);
  const block = (await store.list('Block')).entries[0]?.value;
  expect(block?.attributes?.[0]).toMatchObject({ secondary: { node, type: 'ipipTunnelAddress' } });
  await putPool('p', { cidr: '10.65.0.0/24', vxlanMode: 'Never' });
  await until(async () => (await spec())?.bgp?.ipv4IPIPTunnelAddr === undefined, { within, what: 'no address' });
  expect((await spec())?.bgp).toEqual({ ipv4Address: '192.0.2.1/24' });
});

test('a fallback takes an address for VXLAN as soon as any node has no IPIP', async () => {
  await putNode();
  const options = { cidr: '10.65.0.0/24', vxlanMode: 'Never', ipipMode: 'Always' };
  await putPool('p', options, { 'margay.io/tunnelFallback': 'VXLAN' });
  start();
  await until(async () => (await spec())?.bgp?.ipv4IPIPTunnelAddr, { within, what: 'IPIP address' });
  expect(await stored()).toBeUndefined();
  await put({ type: 'Node', name: 'n2' }, nodeResource('n2', '192.0.2.2/24', undefined, withoutIpip));
  await until(stored, { within, what: 'VXLAN address' });
  // A form that is not understood changes nothing.
  await putPool('p', options, { 'margay.io/tunnelFallback': 'GRE' });
  await put({ type: 'Node', name: 'n2' }, nodeResource('n2', '192.0.2.2/24'));
  await until(async () => !(await stored()), { within, what: 'no VXLAN address' });
  expect((await spec())?.bgp?.ipv4IPIPTunnelAddr).toBeDefined();
});

test('nothing is written while the datastore is locked, and what was missed is made up for', async () => {
  const key = { type: 'ClusterInformation', name: 'default' } as const;
  const ready = (datastoreReady: boolean) => {
    const metadata = { name: 'default' };
    const value = { kind: 'ClusterInformation', apiVersion, metadata, spec: { datastoreReady } } as const;
    return put(key, parseResource('ClusterInformation', value));
  };
  await ready(false);
  await putNode();
  await putPool('p', { cidr: '10.65.0.0/24' });
  const reads: string[] = [];
  const get = store.get.bind(store);
  store.get = (asked) => {
    reads.push(asked.type);
    return get(asked);
  };
  start();
  const common = { store, clock: systemClock, log: silent, signal: stop.signal };
  const told: string[] = [];
  const done = sync({ ...common, types: ['Node'], consumer: ({ op }) => void told.push(op) });
  await until(() => told.includes('inSync'), { within, what: 'another syncer to have read everything' });
  expect([await stored(), reads.filter((type) => type === 'Handle')]).toEqual([undefined, []]);
  await ready(true);
  await until(stored, { within, what: 'address' });
  stop.abort();
  await done;
});
