import { describe, expect, onTestFinished, test } from 'vitest';
import { InputError } from '../../../src/base/errors.ts';
import { FakeKernel } from '../../../src/kernel/fake.ts';
import {
  KernelError,
  type KernelEvent,
  type Netlink,
  type Route,
  type VethRequest,
} from '../../../src/kernel/types.ts';
import { parseCidr, parseIp } from '../../../src/model/address.ts';
import { until } from '../../support/wait.ts';
import { TestNamespace } from './namespaces.ts';

/** One machine with a pod's namespace: what felix sees must be the same on the kernel and on the fake. */
interface Machine {
  readonly host: Netlink;
  readonly pod: Netlink;
  readonly netns: string;
}

function real(): Machine {
  const [host, pod] = [new TestNamespace(), new TestNamespace()];
  onTestFinished(() => {
    host[Symbol.dispose]();
    pod[Symbol.dispose]();
  });
  return { host: host.open(), pod: pod.open(), netns: pod.path };
}

function fake(): Machine {
  const kernel = new FakeKernel();
  return { host: kernel.host, pod: kernel.addNamespace('/run/netns/pod'), netns: '/run/netns/pod' };
}

const veth = (netns: string, change: Partial<VethRequest> = {}): VethRequest => ({
  hostName: 'cali1',
  podName: 'eth0',
  netns,
  mtu: 1440,
  hostMac: 'ee:ee:ee:ee:ee:ee',
  podMac: '02:00:00:00:00:05',
  ...change,
});

const route = (destination: string, change: Partial<Route> = {}): Route => ({
  destination: parseCidr(destination),
  type: 'unicast',
  nextHops: [{ device: 'cali1' }],
  protocol: 80,
  scope: 'link',
  metric: 0,
  table: 254,
  ...change,
});

function codeOf(action: () => unknown): string {
  try {
    action();
  } catch (thrown) {
    if (thrown instanceof KernelError) return thrown.code;
    throw thrown;
  }
  return expect.fail('nothing was thrown');
}

describe.each([
  ['kernel', real],
  ['fake', fake],
])('%s', (_, machine) => {
  test('a veth pair comes and goes with both ends, its addresses and its routes', async () => {
    const { host, pod, netns } = machine();
    host.addVeth(veth(netns));
    const made = host.link('cali1');
    expect(made).toMatchObject({ name: 'cali1', kind: 'veth', mtu: 1440, up: false, mac: 'ee:ee:ee:ee:ee:ee' });
    expect(pod.link('eth0')).toMatchObject({ mac: '02:00:00:00:00:05', up: false, index: made?.peerIndex });
    host.setLink('cali1', { up: true });
    host.addAddress('cali1', '10.9.9.1/32');
    host.addAddress('cali1', '10.9.9.1/32');
    expect(host.applyRoutes([route('10.0.0.5/32')], [])).toEqual([]);
    expect(pod.deleteLink('eth0')).toBe(true);
    expect(host.link('cali1')).toBeUndefined();
    expect(host.addresses(4).filter((one) => one.device === 'cali1')).toEqual([]);
    expect(host.routes(4)).toEqual([]);
    expect(host.deleteLink('cali1')).toBe(false);
    expect(await host.deleteLinkAside('cali1')).toBe(false);
    host.addVeth(veth(netns));
    expect(await host.deleteLinkAside('cali1')).toBe(true);
    expect([host.link('cali1'), pod.link('eth0')]).toEqual([undefined, undefined]);
  });

  test('many pairs are asked for at once, and a name that is taken is refused to who asked for it', async () => {
    const { host, pod, netns } = machine();
    const names = Array.from({ length: 20 }, (_, at) => `cali${at}`);
    const asked = names.map((hostName, at) => host.addVethAside(veth(netns, { hostName, podName: `eth${at}` })));
    const taken = host.addVethAside(veth(netns, { hostName: 'cali7', podName: 'eth99' }));
    await expect(taken).rejects.toMatchObject({ code: 'EEXIST' });
    expect((await Promise.all(asked)).map(({ name }) => name)).toEqual(names);
    for (const name of names) expect(host.link(name)?.kind).toBe('veth');
    expect(pod.link('eth99')).toBeUndefined();
    expect(await host.deleteLinkAside('cali7')).toBe(true);
  });

  test('the host end of a pair can be up from the start', () => {
    const { host, pod, netns } = machine();
    host.addVeth(veth(netns, { hostUp: true }));
    expect(host.link('cali1')).toMatchObject({ name: 'cali1', up: true });
    expect(pod.link('eth0')).toMatchObject({ up: false });
  });

  test('errors have the codes of the kernel', () => {
    const { host, netns } = machine();
    host.addVeth(veth(netns));
    expect(codeOf(() => host.addVeth(veth(netns)))).toBe('EEXIST');
    expect(codeOf(() => host.addVeth(veth(netns, { hostName: 'cali2' })))).toBe('EEXIST');
    expect(codeOf(() => host.setLink('calix', { up: true }))).toBe('ENODEV');
    expect(codeOf(() => host.addAddress('calix', '10.0.0.1/32'))).toBe('ENODEV');
    expect(codeOf(() => host.deleteAddress('calix', '10.0.0.1/32'))).toBe('ENODEV');
    expect(codeOf(() => host.neighbours('calix'))).toBe('ENODEV');
    expect(() => host.addVeth(veth('/run/netns/there-is-none', { hostName: 'cali3' }))).toThrow(InputError);
  });

  test('routes are replaced by destination and metric, read in canonical form, deleted only with our protocol', () => {
    const { host, netns } = machine();
    host.addVeth(veth(netns));
    host.setLink('cali1', { up: true });
    const blackhole = route('10.1.0.0/26', { type: 'blackhole', nextHops: [{ device: 'cali1' }], scope: 'link' });
    expect(
      host.applyRoutes([blackhole, route('10.1.0.0/26', { metric: 9 }), route('fd01::/64', { metric: 1024 })], []),
    ).toEqual([]);
    const byMetric = (a: Route, b: Route) => a.metric - b.metric;
    const ours = () => host.routes().filter((one) => one.protocol === 80 || one.protocol === 3);
    expect(host.routes(4).sort(byMetric)).toEqual([
      { ...blackhole, nextHops: [], scope: 'universe' },
      route('10.1.0.0/26', { metric: 9 }),
    ]);
    expect(ours().find((one) => one.destination === 'fd01::/64')).toMatchObject({ metric: 0, scope: 'universe' });
    expect(host.applyRoutes([route('10.1.0.0/26', { protocol: 3 })], [route('10.1.0.0/26', { metric: 9 })])).toEqual(
      [],
    );
    expect(host.applyRoutes([], [route('10.1.0.0/26'), route('10.77.0.0/26')])).toEqual([]);
    expect(host.routes(4)).toEqual([route('10.1.0.0/26', { protocol: 3 })]);
    expect(host.applyRoutes([route('10.2.0.0/26', { nextHops: [{ device: 'calix' }] })], [])).toMatchObject([
      { cause: { code: 'ENODEV' } },
    ]);
  });

  test('neighbours are set and replaced', () => {
    const { host, netns } = machine();
    host.addVeth(veth(netns));
    host.setLink('cali1', { up: true });
    const address = parseIp('10.0.0.5');
    host.setNeighbour({ device: 'cali1', address, mac: '02:00:00:00:00:01' });
    host.setNeighbour({ device: 'cali1', address, mac: '02:00:00:00:00:02' });
    const found = host.neighbours('cali1').filter((one) => one.permanent);
    expect(found).toEqual([{ device: 'cali1', address, mac: '02:00:00:00:00:02', permanent: true }]);
  });

  test('a VXLAN device, its neighbours and where it forwards to', () => {
    const { host } = machine();
    const request = { name: 'vx0', id: 4096, port: 4789, local: parseIp('127.0.0.1'), mac: '66:00:00:00:00:01' };
    const made = host.addVxlan({ ...request, mtu: 1450 });
    expect(made).toMatchObject({ name: 'vx0', kind: 'vxlan', mac: request.mac, mtu: 1450, up: false });
    expect(made.vxlan).toEqual({ id: 4096, port: 4789, local: '127.0.0.1', learning: false });
    expect(host.link('vx0')?.vxlan).toEqual(made.vxlan);
    expect(codeOf(() => host.addVxlan({ ...request, mtu: 1450 }))).toBe('EEXIST');
    host.setLink('vx0', { up: true });
    const [mac, address] = ['66:00:00:00:00:02', parseIp('10.0.0.5')];
    host.setForwarding({ device: 'vx0', mac, destination: parseIp('192.0.2.1') });
    host.setForwarding({ device: 'vx0', mac, destination: parseIp('192.0.2.2') });
    const [entry, ...others] = host.forwarding('vx0');
    expect([entry, others]).toMatchObject([{ mac, destination: '192.0.2.2', permanent: true }, []]);
    host.setNeighbour({ device: 'vx0', address, mac });
    for (let twice = 0; twice < 2; twice++) {
      host.deleteForwarding({ device: 'vx0', mac, destination: parseIp('192.0.2.2') });
      host.deleteNeighbour({ device: 'vx0', address });
      expect(host.forwarding('vx0')).toEqual([]);
      expect(host.neighbours('vx0').filter((one) => one.permanent)).toEqual([]);
    }
    expect(host.deleteLink('vx0')).toBe(true);
    expect(codeOf(() => host.forwarding('vx0'))).toBe('ENODEV');
  });

  test('an alias is given and taken away', () => {
    const { host, netns } = machine();
    host.addVeth(veth(netns));
    host.setLink('cali1', { alias: 'margay' });
    expect(host.link('cali1')?.alias).toBe('margay');
    host.setLink('cali1', { alias: '' });
    expect(host.link('cali1')).not.toHaveProperty('alias');
  });

  test('an IPIP device is made, or found, or refused by a kernel that has none', () => {
    const { host, netns } = machine();
    host.addVeth(veth(netns));
    // test/vm has a kernel of the other sort.
    const make = () => {
      try {
        return host.addIpip('tunl0').kind;
      } catch (thrown) {
        return thrown instanceof KernelError ? thrown.code : expect.fail(String(thrown));
      }
    };
    const made = make();
    expect(['ipip', 'EOPNOTSUPP']).toContain(made);
    expect([make(), host.link('tunl0')?.kind]).toEqual([made, made === 'ipip' ? 'ipip' : undefined]);
    if (made === 'ipip') expect(codeOf(() => host.addIpip('cali1'))).toBe('EEXIST');
  });

  test('a monitor tells of links and routes until it is stopped', async () => {
    const { host, netns } = machine();
    const stop = new AbortController();
    onTestFinished(() => stop.abort());
    const events: KernelEvent[] = [];
    await host.monitor((event) => events.push(event), stop.signal).ready;
    host.addVeth(veth(netns));
    host.setLink('cali1', { up: true });
    host.applyRoutes([route('10.0.0.5/32')], []);
    host.applyRoutes([], [route('10.0.0.5/32')]);
    host.deleteLink('cali1');
    const gone = () => events.some((event) => event.what === 'link' && event.gone && event.link.name === 'cali1');
    await until(gone, { within: 10_000, what: 'the end of cali1' });
    expect(events.filter((event) => event.what === 'route' && event.route.destination === '10.0.0.5/32')).toEqual([
      { what: 'route', route: route('10.0.0.5/32'), gone: false },
      { what: 'route', route: route('10.0.0.5/32'), gone: true },
    ]);
  });
});
