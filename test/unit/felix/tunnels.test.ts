import { afterEach, beforeEach, expect, test } from 'vitest';
import { systemClock } from '../../../src/base/clock.ts';
import { keyText } from '../../../src/datastore/store.ts';
import { sync } from '../../../src/datastore/syncer.ts';
import type { DesiredIpip } from '../../../src/felix/calc/remote.ts';
import { placeOf } from '../../../src/felix/calc/tunnels.ts';
import { ipipTunnel } from '../../../src/felix/managers/ipip.ts';
import { TunnelManager } from '../../../src/felix/managers/tunnel.ts';
import { Turns } from '../../../src/felix/slices.ts';
import { TunnelReport } from '../../../src/felix/tunnel-report.ts';
import { parseCidr } from '../../../src/model/address.ts';
import { until } from '../../support/wait.ts';
import { block, Harness, node, nodeResource, pod, podKey, pool, silent, withoutIpip } from './support.ts';

/* A whole felix on a pretended kernel: how tunnel devices come and go. */

let h: Harness;
beforeEach(() => {
  h = new Harness();
});
afterEach(() => h.dispose());

const within = 5_000;
const blockRoute = () => h.netlink.routes(4).find(({ destination }) => destination === '10.65.1.0/26')?.nextHops;
const throughTunl0 = () => blockRoute()?.[0]?.device === 'tunl0';
const stands = () => until(throughTunl0, { within, what: 'route through tunl0' });
const putPool = (spec: NonNullable<Parameters<typeof pool>[4]>, vxlanMode: 'Never' | 'Always' = 'Never') =>
  h.put({ type: 'IPPool', name: 'p' }, pool('p', '10.65.0.0/16', false, vxlanMode, spec));
const tunnel = () => h.felix.status().tunnels.find(({ device }) => device === 'tunl0');
const tunl0 = { index: 50, name: 'tunl0', kind: 'ipip', mtu: 1480, up: false };

async function populate(): Promise<void> {
  h.netlink.addLink({ index: 9, name: 'up0', mtu: 1500, up: true });
  h.netlink.addAddress('up0', '192.0.2.1/24');
  const own = nodeResource(node, '192.0.2.1/24', '10.65.0.1', { ipip: '10.65.0.9' });
  await h.put({ type: 'Node', name: node }, own);
  await h.put({ type: 'Node', name: 'n2' }, nodeResource('n2', '192.0.2.2/24', '10.65.1.0'));
  await h.put({ type: 'Block', cidr: parseCidr('10.65.1.0/26') }, block('10.65.1.0/26', 'n2'));
}

test("the module's own tunl0 is taken into use, and given back as it was", async () => {
  h.netlink.addLink(tunl0);
  await populate();
  await putPool({ ipipMode: 'Always' });
  h.start();
  await stands();
  expect(blockRoute()).toEqual([{ gateway: '192.0.2.2', device: 'tunl0', onlink: true }]);
  expect(h.netlink.link('tunl0')).toMatchObject({ up: true, mtu: 1480, alias: 'margay' });
  expect(h.netlink.addressList.filter(({ device }) => device === 'tunl0').map(({ cidr }) => cidr)).toEqual([
    '10.65.0.9/32',
  ]);
  expect([tunnel(), h.felix.podMtu()]).toMatchObject([{ state: 'up', mtu: 1480 }, 1480]);
  // Another felix finds it as it should be.
  const since = h.netlink.calls.length;
  await h.restart();
  await until(() => h.felix.status().lastApply, { within, what: 'a pass' });
  expect([tunnel()?.state, h.netlink.calls.slice(since)]).toEqual(['up', []]);
  // The uplink's MTU is the tunnel's, at once.
  h.netlink.setLink('up0', { mtu: 1400 });
  await until(() => h.netlink.link('tunl0')?.mtu === 1380, { within, what: 'MTU' });
  // By hand: down, and without its address.
  h.netlink.setLink('tunl0', { up: false });
  await until(() => h.netlink.link('tunl0')?.up, { within, what: 'up again' });
  await putPool({});
  await until(() => h.netlink.link('tunl0')?.up === false, { within, what: 'down' });
  expect(h.netlink.link('tunl0')).not.toHaveProperty('alias');
  expect(h.netlink.addressList.filter(({ device }) => device === 'tunl0')).toEqual([]);
  expect(tunnel()).toBeUndefined();
});

test('pods that start get what fits; a running pod keeps its MTU, and the status shows it', async () => {
  h.link('caliweb');
  await populate();
  await h.put(podKey('web'), pod('web', { addresses: ['10.65.0.2'] }));
  h.start();
  const started = () => h.felix.whenProgrammed(keyText(podKey('web')), undefined, within, h.signal);
  expect(await started()).toBe('programmed');
  const shown = () => [h.felix.podMtu(), h.felix.status().podMtu, h.felix.status().endpoints[0]?.mtu];
  expect(shown()).toEqual([1500, 1500, undefined]);
  h.netlink.setLink('up0', { mtu: 1400 });
  await until(() => h.felix.podMtu() === 1400, { within, what: "the uplink's" });
  expect(shown()).toEqual([1400, 1400, 1500]);
  await putPool({ ipipMode: 'Always' });
  await until(() => h.felix.podMtu() === 1380, { within, what: "the tunnel's" });
  expect(h.netlink.link('caliweb')?.mtu).toBe(1500);
  // One that is configured beats both.
  const fixed = new Harness({ podMtu: 1280 });
  expect(fixed.felix.podMtu()).toBe(1280);
  await fixed.dispose();
});

test('a tunl0 of others is left alone where no pool wants it, one of ours from an earlier run is not', async () => {
  h.netlink.addLink({ ...tunl0, up: true });
  h.netlink.addAddress('tunl0', '198.51.100.7/32');
  await populate();
  await putPool({});
  h.start();
  await until(() => h.felix.status().lastApply, { within, what: 'a pass' });
  expect(h.netlink.calls.filter((call) => call.startsWith('setLink tunl0'))).toEqual([]);
  h.netlink.setLink('tunl0', { alias: 'margay' });
  await h.restart();
  await until(() => h.netlink.link('tunl0')?.up === false, { within, what: 'down' });
});

test('without the module: a condition in the status, no failure; with it, the tunnel stands at once', async () => {
  h.netlink.failures.set('tunl0', 'EOPNOTSUPP');
  const told: string[][] = [];
  h.felix.onTunnelSupport((lacking) => told.push([...lacking]));
  await populate();
  await putPool({ ipipMode: 'Always' });
  h.start();
  await until(() => tunnel()?.state === 'unsupported', { within, what: 'the condition' });
  expect(tunnel()).toMatchObject({ reason: expect.stringContaining('EOPNOTSUPP'), pools: ['IPPool/p'] });
  expect([h.felix.status().failures, h.felix.ready(), h.felix.counts().tunnels.get('tunl0')]).toEqual([
    [],
    true,
    false,
  ]);
  expect(blockRoute()).toBeUndefined();
  h.netlink.failures.delete('tunl0');
  h.netlink.addLink(tunl0);
  await stands();
  expect([tunnel()?.state, told]).toEqual(['up', [['ipip'], []]]);
});

test('from VXLAN to IPIP and back: the new route is there before the old device goes', async () => {
  await populate();
  await putPool({}, 'Always');
  h.start();
  await until(() => blockRoute()?.[0]?.device === 'vxlan.calico', { within, what: 'route' });
  const since = h.netlink.calls.length;
  await putPool({ ipipMode: 'Always' });
  await until(() => !h.netlink.link('vxlan.calico'), { within, what: 'the end of VXLAN' });
  const calls = h.netlink.calls.slice(since);
  const upsert = calls.lastIndexOf('upsert 10.65.1.0/26');
  expect(upsert).toBeGreaterThan(calls.findIndex((call) => call.startsWith('setLink tunl0')));
  expect(calls.indexOf('deleteLink vxlan.calico')).toBeGreaterThan(upsert);
  expect(throughTunl0()).toBe(true);
  // Its rules outlive the device, and go then.
  const input = () => h.iptables[4].tables.get('filter')?.chains.get('cali-INPUT')?.join() ?? '';
  await until(() => !input().includes('4789'), { within, what: 'no rules of VXLAN' });
  expect(input()).toContain('-p 4 -j DROP');
});

test('a wish that comes while a pass runs waits for the next, which has its rules', async () => {
  let wanted: DesiredIpip | undefined;
  const own = placeOf(node, nodeResource(node, '192.0.2.1/24'), 4);
  if (!own) expect.fail('no place');
  const manager = new TunnelManager(
    ipipTunnel(h.netlink),
    h.netlink,
    () => wanted,
    () => 0,
  );
  manager.plan();
  wanted = { own, peers: [] };
  const turns = new Turns(systemClock);
  expect([await manager.open(turns), h.netlink.link('tunl0')]).toEqual([[], undefined]);
  manager.plan();
  await manager.open(turns);
  expect(h.netlink.link('tunl0')?.up).toBe(true);
  // The same when it goes: the routes have not moved yet.
  wanted = undefined;
  expect((await manager.close()).closed).toBe(false);
  manager.plan();
  expect((await manager.close()).closed).toBe(true);
  expect(h.netlink.link('tunl0')?.up).toBe(false);
});

test('the Node tells of a kernel without IPIP, whoever else writes it', async () => {
  const { store } = h;
  const report = new TunnelReport({ store, node, clock: systemClock, log: silent });
  const stop = new AbortController();
  const common = { store, clock: systemClock, log: silent, signal: stop.signal };
  const running = Promise.all([
    report.run(stop.signal),
    sync({ ...common, types: ['Node'], consumer: (update) => report.consume(update) }),
  ]);
  const annotations = async () => (await store.get({ type: 'Node', name: node }))?.value.metadata.annotations;
  report.lacks(new Set(['ipip', 'udp']));
  await h.put({ type: 'Node', name: node }, nodeResource(node, '192.0.2.1/24'));
  const said = { within, what: 'the annotation' };
  await until(async () => (await annotations())?.['margay.io/ipip'] === 'unavailable', said);
  await h.put({ type: 'Node', name: node }, nodeResource(node, '192.0.2.5/24'));
  await until(async () => (await annotations())?.['margay.io/ipip'] === 'unavailable', said);
  expect(withoutIpip.annotations).toEqual(await annotations());
  report.lacks(new Set(['vxlan']));
  await until(async () => !(await annotations())?.['margay.io/ipip'], said);
  expect(await annotations()).toEqual({ 'margay.io/vxlan': 'unavailable' });
  stop.abort();
  await running;
});
