import { expect, test } from 'vitest';
import type { LocalEndpoint } from '../../../src/felix/calc/endpoints.ts';
import { ShapingManager, shaperOf } from '../../../src/felix/managers/shaping.ts';
import { FakeNetlink } from '../../../src/kernel/fake.ts';
import type { Bandwidth } from '../../../src/model/bandwidth.ts';

function endpoint(interfaceName: string, ingress?: Bandwidth): LocalEndpoint {
  const wishes = { sourcePrefixes: [], ...(ingress && { ingress }) };
  return { key: interfaceName, name: interfaceName, interfaceName, addresses: [], revision: '1', created: '', wishes };
}

function made() {
  const netlink = new FakeNetlink();
  const add = (name: string, index: number) => netlink.addLink({ index, name, mtu: 1500, up: true, kind: 'veth' });
  add('calia', 10);
  add('calib', 11);
  const indexOf = ({ interfaceName }: LocalEndpoint) => netlink.link(interfaceName)?.index;
  const calls = () => netlink.calls.splice(0);
  return { netlink, add, calls, shaping: new ShapingManager(netlink, indexOf, 'cali') };
}

test('a shaper is set once, changes with the wish and the device, and goes with it', () => {
  const { netlink, add, calls, shaping } = made();
  expect(shaping.apply([endpoint('calia', { rate: 8000 }), endpoint('calib')])).toEqual([]);
  expect(calls()).toEqual(['setShaper calia 1000']);
  shaping.apply([endpoint('calia', { rate: 8000 })]);
  expect(calls()).toEqual([]);
  shaping.apply([endpoint('calia', { rate: 16_000 })]);
  expect(calls()).toEqual(['setShaper calia 2000']);
  netlink.queueByDevice.clear();
  shaping.recheck();
  shaping.apply([endpoint('calia', { rate: 16_000 })]);
  expect(calls()).toEqual(['setShaper calia 2000']);
  netlink.queueByDevice.clear();
  add('calia', 12);
  shaping.apply([endpoint('calia', { rate: 16_000 })]);
  expect(calls()).toEqual(['setShaper calia 2000']);
  shaping.apply([endpoint('calia')]);
  expect(calls()).toEqual(['deleteShaper calia']);
});

test("another's queue is left alone and named", () => {
  const { netlink, calls, shaping } = made();
  netlink.queueByDevice.set('calia', { device: 'calia', kind: 'tbf', handle: 0x10000 });
  const [failure] = shaping.apply([endpoint('calia', { rate: 8000 })]);
  expect(failure).toMatchObject({ kind: 'shaper', item: 'calia' });
  shaping.apply([endpoint('calia')]);
  expect(calls()).toEqual([]);
});

test('bursts fit into what the kernel counts', () => {
  expect(shaperOf('a', { rate: 80e6 })).toEqual({ device: 'a', rate: 10e6, burst: 2.5e6, limit: 2.75e6 });
  expect(shaperOf('a', { rate: 1000 }).burst).toBeLessThanOrEqual(125 * 270);
  expect(shaperOf('a', { rate: 1e15, burst: 1e15 }).burst).toBeLessThanOrEqual(2 ** 31);
});
