import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { beforeEach, describe, expect, onTestFinished, test } from 'vitest';
import { InputError } from '../../../src/base/errors.ts';
import { inNamespace, openNetlinkIn } from '../../../src/kernel/namespace.ts';
import { canonicalRoute, sameRoute } from '../../../src/kernel/route.ts';
import { RTM_GETLINK } from '../../../src/kernel/rtnetlink/constants.ts';
import { openNetlink } from '../../../src/kernel/rtnetlink/driver.ts';
import type { MessageWriter } from '../../../src/kernel/rtnetlink/message.ts';
import { NetlinkSocket } from '../../../src/kernel/rtnetlink/socket.ts';
import { readSysctl, writeSysctl } from '../../../src/kernel/sysctl.ts';
import { KernelError, type Netlink, type Route } from '../../../src/kernel/types.ts';
import { type Cidr, type Ip, parseCidr, parseIp } from '../../../src/model/address.ts';
import { root, runBundled } from './bundle.ts';
import { TestNamespace } from './namespaces.ts';

let host: TestNamespace;
let pod: TestNamespace;
let netlink: Netlink;

const mac = 'ee:ee:ee:ee:ee:ee';
const veth = () => ({ hostName: 'cali1', podName: 'eth0', netns: pod.path, mtu: 1440, hostMac: mac });

beforeEach(() => {
  onTestFinished(() => {
    for (const namespace of [host, pod]) namespace?.[Symbol.dispose]();
  });
  host = new TestNamespace();
  pod = new TestNamespace();
  netlink = host.open();
});

test('what a closed socket had read is not taken for what the next one reads', () => {
  const links = {
    operation: 'list links',
    type: RTM_GETLINK,
    body: (w: MessageWriter) => [0, 0, 0, 0].forEach((word) => void w.u32(word)),
  };
  // Two links in one datagram.
  netlink.addVeth(veth());
  const first = inNamespace(host.path, () => new NetlinkSocket());
  const listing = first.stream(links);
  expect(listing.next().done).toBe(false);
  first.close();
  const second = inNamespace(pod.path, () => new NetlinkSocket());
  onTestFinished(() => second.close());
  expect(second.dump(links).length).toBeGreaterThan(0);
  expect(() => [...listing]).toThrow('EBADF (the netlink socket is closed)');
  expect(() => first.dump(links)).toThrow('EBADF');
});

function route(destination: string, change: Partial<Route> = {}): Route {
  const cidr: Cidr = parseCidr(destination);
  return {
    destination: cidr,
    type: 'unicast',
    nextHops: [{ device: 'cali1' }],
    protocol: 80,
    scope: 'link',
    metric: 0,
    table: 254,
    ...change,
  };
}

const via = (gateway: string, device = 'cali1') => ({ gateway: parseIp(gateway), device });

/** A veth pair that is up at both ends, with an on-link prefix of each family at the host's. */
function connected(): void {
  netlink.addVeth(veth());
  netlink.setLink('cali1', { up: true });
  const inside = pod.open();
  inside.setLink('eth0', { up: true });
  netlink.addAddress('cali1', '192.0.2.1/24');
  netlink.addAddress('cali1', '2001:db8::1/64', { noDad: true });
}

function ours(): Route[] {
  return netlink.routes().filter((one) => one.protocol === 80);
}

function codeOf(action: () => unknown): string | undefined {
  try {
    action();
  } catch (thrown) {
    if (thrown instanceof KernelError) return thrown.code;
    throw thrown;
  }
  return undefined;
}

describe('links', () => {
  test('a veth pair is born with its peer inside the pod namespace', () => {
    netlink.addVeth({ ...veth(), podMac: '02:00:00:00:00:05' });
    const link = netlink.link('cali1');
    expect(link).toMatchObject({ name: 'cali1', kind: 'veth', mac, mtu: 1440, up: false });
    const inside = pod.open().link('eth0');
    expect(inside).toMatchObject({ kind: 'veth', mac: '02:00:00:00:00:05', mtu: 1440, peerIndex: link?.index });
    expect(link?.peerIndex).toBe(inside?.index);
  });

  test('up, MTU and MAC change; deletion takes the peer along and is idempotent', () => {
    netlink.addVeth(veth());
    netlink.setLink('cali1', { up: true, mtu: 1400, mac: '02:00:00:00:00:09' });
    expect(netlink.link('cali1')).toMatchObject({ up: true, mtu: 1400, mac: '02:00:00:00:00:09' });
    netlink.setLink('cali1', { up: false });
    expect(netlink.link('cali1')?.up).toBe(false);
    expect(netlink.deleteLink('cali1')).toBe(true);
    expect(netlink.deleteLink('cali1')).toBe(false);
    expect(pod.open().link('eth0')).toBeUndefined();
  });

  test('a name that is taken, on either side, is EEXIST and leaves nothing half-made', () => {
    netlink.addVeth(veth());
    expect(codeOf(() => netlink.addVeth({ ...veth(), podName: 'eth1' }))).toBe('EEXIST');
    expect(codeOf(() => netlink.addVeth({ ...veth(), hostName: 'cali2' }))).toBe('EEXIST');
    expect(netlink.links().map((link) => link.name)).toEqual(['lo', 'cali1']);
  });

  test('what names a device that is not there is ENODEV and says which', () => {
    expect(() => netlink.setLink('calix', { up: true })).toThrow(/calix/);
    expect(codeOf(() => netlink.setLink('calix', { up: true }))).toBe('ENODEV');
    expect(codeOf(() => netlink.addAddress('calix', '10.0.0.1/32'))).toBe('ENODEV');
    expect(netlink.link('calix')).toBeUndefined();
  });

  test('device names that the kernel would refuse are refused by name', () => {
    expect(() => netlink.link('a-name-of-17-char')).toThrow(InputError);
    expect(() => netlink.addVeth({ ...veth(), hostName: 'a/b' })).toThrow(InputError);
    expect(() => netlink.addVeth({ ...veth(), hostMac: 'nonsense' })).toThrow(InputError);
  });
});

describe('addresses and neighbours', () => {
  test('are added once, listed with their device, and deleted idempotently', () => {
    netlink.addVeth(veth());
    for (const cidr of ['10.0.0.5/32', 'fd00::5/128'])
      for (let again = 0; again < 2; again++) netlink.addAddress('cali1', cidr, { noDad: true });
    const found = () => netlink.addresses().filter((one) => one.device === 'cali1');
    expect(found().map((one) => one.cidr)).toEqual(['10.0.0.5/32', 'fd00::5/128']);
    expect(netlink.addresses(6).every((one) => one.address.includes(':'))).toBe(true);
    for (let again = 0; again < 2; again++) netlink.deleteAddress('cali1', '10.0.0.5/32');
    expect(found().map((one) => one.cidr)).toEqual(['fd00::5/128']);
  });

  test('carry the names of now, of few devices and of many, made or renamed a moment ago', () => {
    const names = Array.from({ length: 12 }, (_, at) => `cali${at}`);
    for (const [at, hostName] of names.entries()) {
      netlink.addVeth({ ...veth(), hostName, podName: `eth${at}` });
      netlink.addAddress(hostName, `192.0.2.${at + 1}/32`);
      const listed = netlink.addresses(4).filter(({ device }) => device !== 'lo');
      expect(listed.map(({ device }) => device).sort()).toEqual(names.slice(0, at + 1).sort());
    }
    netlink.setLink('cali3', { name: 'cali99' });
    expect(netlink.addresses(4).find(({ address }) => address === '192.0.2.4')?.device).toBe('cali99');
  });

  test('a neighbour is permanent and replaced in place', () => {
    connected();
    const address: Ip = parseIp('10.0.0.5');
    netlink.setNeighbour({ device: 'cali1', address, mac: '02:00:00:00:00:01' });
    netlink.setNeighbour({ device: 'cali1', address, mac: '02:00:00:00:00:02' });
    const found = netlink.neighbours('cali1').filter((one) => one.address === address);
    expect(found).toEqual([{ device: 'cali1', address, mac: '02:00:00:00:00:02', permanent: true }]);
  });
});

describe('routes', () => {
  const kinds = (): Route[] => [
    route('10.0.0.5/32'),
    route('fd00::5/128'),
    route('10.1.0.0/26', { type: 'blackhole', nextHops: [] }),
    route('fd00:1::/122', { type: 'blackhole', nextHops: [] }),
    route('10.2.0.0/26', { scope: 'universe', nextHops: [via('192.0.2.2'), { ...via('192.0.2.3'), weight: 3 }] }),
    route('fd00:2::/64', { scope: 'universe', nextHops: [via('2001:db8::3'), via('2001:db8::2')] }),
    route('10.3.0.0/26', { scope: 'universe', nextHops: [{ ...via('172.16.9.9'), onlink: true }] }),
    route('fd00:3::/64', { scope: 'universe', nextHops: [{ ...via('fd99::9'), onlink: true }] }),
    route('10.4.0.0/26', { scope: 'universe', nextHops: [via('2001:db8::9')] }),
    route('10.5.0.0/26', { scope: 'universe', nextHops: [via('192.0.2.2')], source: parseIp('192.0.2.1') }),
    route('fd00:5::/64', { nextHops: [via('2001:db8::2')], source: parseIp('2001:db8::1'), metric: 77 }),
    route('10.6.0.0/26', { metric: 4000 }),
    route('0.0.0.0/0', { scope: 'universe', nextHops: [via('192.0.2.2')] }),
    route('::/0', { scope: 'universe', nextHops: [via('2001:db8::2')] }),
  ];

  test('of every kind come back as they were given', () => {
    connected();
    expect(netlink.applyRoutes(kinds(), [])).toEqual([]);
    const byName = (a: Route, b: Route) => (a.destination < b.destination ? -1 : 1);
    expect(ours().sort(byName)).toEqual(kinds().map(canonicalRoute).sort(byName));
    expect(netlink.applyRoutes([], kinds())).toEqual([]);
    expect(netlink.applyRoutes([], kinds()), 'deleting again is success').toEqual([]);
    expect(ours()).toEqual([]);
  });

  test.each([
    ['10.9.0.0/26', '192.0.2'],
    ['fd00:9::/64', '2001:db8:'],
  ])('%s is replaced whatever it was before', (destination, prefix) => {
    connected();
    const hop = (last: number) => via(`${prefix}${prefix.endsWith(':') ? ':' : '.'}${last}`);
    const states: Route[] = [
      route(destination, { type: 'blackhole', nextHops: [] }),
      route(destination),
      route(destination, { scope: 'universe', nextHops: [hop(2), hop(3), hop(4)] }),
      route(destination, { scope: 'universe', nextHops: [hop(3)] }),
      route(destination, { scope: 'universe', nextHops: [hop(5), hop(6)] }),
      route(destination, { scope: 'universe', nextHops: [hop(5), hop(7)] }),
      route(destination),
      route(destination, { scope: 'universe', nextHops: [hop(5), hop(7)] }),
      route(destination, { type: 'blackhole', nextHops: [] }),
    ];
    for (const state of states) {
      expect(netlink.applyRoutes([state], [])).toEqual([]);
      expect(ours()).toEqual([canonicalRoute(state)]);
    }
  });

  test('one that fails does not stop the others, and carries the words of the kernel', () => {
    connected();
    const bad = route('10.8.0.0/26', { scope: 'universe', nextHops: [via('172.16.0.1')] });
    const gone = route('10.8.1.0/26', { nextHops: [{ device: 'calix' }] });
    const failures = netlink.applyRoutes([bad, route('10.8.2.0/26'), gone, route('10.8.3.0/26')], []);
    expect(failures.map(({ route: { destination }, cause }) => [destination, cause.code])).toEqual([
      ['10.8.1.0/26', 'ENODEV'],
      ['10.8.0.0/26', 'ENETUNREACH'],
    ]);
    expect(failures[1]?.cause.detail).toBe('Nexthop has invalid gateway');
    expect(ours().map((one) => one.destination)).toEqual(['10.8.2.0/26', '10.8.3.0/26']);
  });

  test("another software's route is not deleted with ours", () => {
    connected();
    host.run('ip', 'route', 'add', '10.7.0.0/26', 'dev', 'cali1', 'proto', 'static');
    expect(netlink.applyRoutes([], [route('10.7.0.0/26')])).toEqual([]);
    expect(netlink.routes(4).map((one) => one.destination)).toContain('10.7.0.0/26');
  });

  test('tables are listed one by one, and one that was never used is empty', () => {
    connected();
    expect(netlink.applyRoutes([route('10.7.0.0/26', { table: 1000 }), route('fd07::/64', { table: 77 })], [])).toEqual(
      [],
    );
    expect(netlink.routes(4, 1000)).toEqual([route('10.7.0.0/26', { table: 1000 })]);
    expect(netlink.routes(6, 77)).toEqual([canonicalRoute(route('fd07::/64', { table: 77 }))]);
    expect(netlink.routes(undefined, 4711)).toEqual([]);
    expect(ours()).toEqual([]);
  });

  test('of a device go with it, and a device of the same name later is found again', () => {
    connected();
    netlink.applyRoutes([route('10.0.0.5/32')], []);
    netlink.deleteLink('cali1');
    expect(ours()).toEqual([]);
    connected();
    expect(netlink.applyRoutes([route('10.0.0.5/32')], [])).toEqual([]);
    expect(ours()).toHaveLength(1);
  });

  test('ten thousand pass in one call', () => {
    connected();
    const many = Array.from({ length: 10_000 }, (_, at) => route(`20.${at >> 8}.${at & 255}.1/32`));
    expect(netlink.applyRoutes(many, [])).toEqual([]);
    const found = new Map(ours().map((one) => [one.destination, one]));
    expect(many.every((one) => sameRoute(one, found.get(one.destination) ?? route('0.0.0.0/0')))).toBe(true);
    expect(netlink.applyRoutes(many.slice(0, 10), many.slice(5000))).toEqual([]);
    expect(ours()).toHaveLength(5000);
  });
});

describe('namespaces and sysctls', () => {
  test('an action runs inside and the thread returns, also when it throws', () => {
    const before = openNetlink();
    const names = before.links().map((link) => link.name);
    before.close();
    netlink.addVeth(veth());
    expect(() =>
      inNamespace(pod.path, () => {
        const inside = openNetlink();
        const found = inside.link('eth0');
        inside.close();
        throw new Error(`found ${found?.name}`);
      }),
    ).toThrow('found eth0');
    const after = openNetlink();
    expect(after.links().map((link) => link.name)).toEqual(names);
    after.close();
  });

  test('a path that is no network namespace is refused by name', () => {
    const directory = mkdtempSync(join(tmpdir(), 'margay-'));
    onTestFinished(() => rmSync(directory, { recursive: true }));
    writeFileSync(join(directory, 'file'), '');
    for (const path of [
      '/run/netns/there-is-none',
      join(directory, 'file'),
      directory,
      '/proc/self/ns/mnt',
      '/dev/null',
    ])
      expect(() => openNetlinkIn(path), path).toThrow(InputError);
    expect(() => netlink.addVeth({ ...veth(), netns: join(directory, 'file') })).toThrow(/netns: .*expected the path/);
  });

  test('a sysctl is written only where it differs, in the namespace of the thread', () => {
    netlink.addVeth(veth());
    const path = 'net/ipv4/conf/cali1/proxy_arp';
    expect(inNamespace(host.path, () => [writeSysctl(path, 1), writeSysctl(path, 1), readSysctl(path)])).toEqual([
      true,
      false,
      '1',
    ]);
    expect(() => inNamespace(pod.path, () => readSysctl(path))).toThrow(/read sysctl net\/ipv4\/conf\/cali1.*ENOENT/);
    expect(() => readSysctl('net/../kernel/hostname')).toThrow(InputError);
  });

  test('without the privilege, the error says what is needed', async () => {
    const said = await runBundled(
      `import { openNetlink } from '${root}/src/kernel/rtnetlink/driver.ts';
       openNetlink().close();
       process.setgroups([]);
       process.setgid(65534);
       process.setuid(65534);
       try { openNetlink(); } catch (thrown) { console.log(thrown.name, thrown.message); }`,
    );
    expect(said).toMatch(/^EnvironmentError no permission .*run as root or with CAP_NET_ADMIN/);
  });

  test('no thread of the pool is left behind in a namespace that was entered', async () => {
    const said = await runBundled(
      `import { readdirSync, readlinkSync } from 'node:fs';
       import { stat } from 'node:fs/promises';
       import { inNamespace } from '${root}/src/kernel/namespace.ts';
       const pending = inNamespace(process.argv[2] ?? '', () => ({ all: Array.from({ length: 16 }, () => stat('/')) }));
       await Promise.all(pending.all);
       const threads = readdirSync('/proc/self/task').map((id) => readlinkSync('/proc/self/task/' + id + '/ns/net'));
       console.log(threads.length > 4, new Set(threads).size);`,
      pod.path,
    );
    expect(said).toBe('true 1\n');
  });
});

describe('a reading of the routes', () => {
  const read = () => netlink.readRoutes(4, 254);
  const onLoopback = { nextHops: [{ device: 'lo' }] };

  test('tells whether anything changed since the last, and holds what is there whatever changed', () => {
    const many = Array.from({ length: 3000 }, (_, at) => route(`10.${at >> 8}.${at & 255}.0/24`, onLoopback));
    expect(netlink.applyRoutes(many, [])).toEqual([]);
    expect(read().unchanged).toBe(false);
    expect(read().unchanged).toBe(true);
    for (const [change, left] of [
      [['del', '10.0.0.0/24'], 2999],
      [['del', '10.11.183.0/24'], 2998],
      [['del', '10.5.5.0/24'], 2997],
      [['add', '10.200.0.0/24', 'dev', 'lo', 'proto', '80'], 2998],
    ] as const) {
      host.run('ip', 'route', ...change);
      const reading = read();
      expect([reading.unchanged, reading.routes().length]).toEqual([false, left]);
      expect(reading.routes()).toEqual(netlink.routes(4));
      expect(read().unchanged).toBe(true);
    }
    host.run('ip', 'route', 'replace', '10.7.7.0/24', 'dev', 'lo', 'proto', '99');
    const replaced = read();
    expect(replaced.unchanged).toBe(false);
    expect(replaced.routes().find(({ destination }) => destination === '10.7.7.0/24')?.protocol).toBe(99);
  });
});

test('of a batch, each that fails is named, and the others are done', () => {
  const onLoopback = { nextHops: [{ device: 'lo' }] };
  const good = Array.from({ length: 1500 }, (_, at) => route(`10.${at >> 8}.${at & 255}.0/24`, onLoopback));
  const bad = {
    ...route('10.250.0.0/24'),
    nextHops: [{ gateway: parseIp('203.0.113.1') }],
    scope: 'universe' as const,
  };
  const mixed = good.toSpliced(511, 0, bad).toSpliced(1000, 0, { ...bad, destination: parseCidr('10.251.0.0/24') });
  const failures = netlink.applyRoutes(mixed, []);
  expect(failures.map(({ route: { destination }, cause }) => [destination, cause.code])).toEqual([
    ['10.250.0.0/24', 'ENETUNREACH'],
    ['10.251.0.0/24', 'ENETUNREACH'],
  ]);
  expect(netlink.routes(4)).toHaveLength(1500);
});

test('routes with sixteen next hops each are more than one message holds, and all are set', () => {
  connected();
  const nextHops = Array.from({ length: 16 }, (_, at) => via(`2001:db8::${at + 2}`));
  const many = Array.from({ length: 450 }, (_, at) =>
    route(`fd00:${at.toString(16)}::/64`, { nextHops, scope: 'universe', metric: 1024 }),
  );
  expect(netlink.applyRoutes(many, [])).toEqual([]);
  expect(ours()).toHaveLength(450);
});
