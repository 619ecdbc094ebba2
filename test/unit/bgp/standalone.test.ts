import { describe, expect, test } from 'vitest';
import { defaultLimits, readLimits } from '../../../src/bgp/limits.ts';
import { readMetricsSettings } from '../../../src/bgp/metrics-settings.ts';
import { compileStandalone, type StandaloneSetup } from '../../../src/bgp/standalone.ts';

const noFiles = (path: string): string => {
  throw Object.assign(new Error(`${path}: no such file`), { syscall: 'open', code: 'ENOENT' });
};

function compiled(file: object, readFile = noFiles): StandaloneSetup {
  const result = compileStandalone({ asn: 64512, routerId: '10.0.0.1', ...file }, readFile);
  if ('problems' in result) throw new Error(JSON.stringify(result.problems));
  return result.setup;
}

/** Problems as `path: expected`. */
function problems(file: object, readFile = noFiles): string[] {
  const result = compileStandalone({ asn: 64512, routerId: '10.0.0.1', ...file }, readFile);
  if (!('problems' in result)) return [];
  return result.problems.map(({ path, expected }) => `${path.join('.')}: ${expected}`);
}

test('the least file: nobody to talk to, defaults everywhere', () => {
  expect(compiled({})).toEqual({
    config: {
      asn: 64512,
      identifier: '10.0.0.1',
      listenPort: 179,
      addresses: [{ address: '10.0.0.1', subnet: '10.0.0.1/32' }],
      peers: [],
      ranges: [],
      originations: [],
    },
    limits: {},
  });
});

test('a neighbour with every option', () => {
  const options = {
    name: 'tor',
    address: 'FD00::0002',
    port: 1179,
    passive: true,
    asn: '1.10',
    families: ['ipv6', 'ipv4'],
    localAddress: 'fd00::1',
    interface: 'eth0',
    passwordFile: 'secret',
    ttlSecurity: 2,
    holdSeconds: 9,
    keepaliveSeconds: 3,
    sendHoldSeconds: 60,
    restartSeconds: 30,
    acceptDefault: true,
    nextHopMode: 'keep',
    localAsn: 65001,
    allowedLocalAs: 1,
    removePrivateAs: true,
    advertisementIntervalSeconds: 5,
    maxPrefixes: { limit: 1000, restartSeconds: 60 },
    bfd: { multiplier: 5 },
  };
  const [peer] = compiled({ neighbors: [options] }, (path) => `${path} of the file\n`).config.peers;
  const { password, ...rest } = peer ?? {};
  expect(password?.reveal()).toBe('secret of the file');
  expect(rest).toEqual({
    name: 'tor',
    role: 'peer',
    address: 'fd00::2',
    port: 1179,
    initiative: 'never',
    asn: 65546,
    families: [4, 6],
    localAddress: 'fd00::1',
    interface: 'eth0',
    ttlSecurity: 2,
    holdSeconds: 9,
    keepaliveSeconds: 3,
    sendHoldSeconds: 60,
    restartSeconds: 30,
    acceptDefault: true,
    nextHopMode: 'keep',
    localAsn: 65001,
    allowedLocalAs: 1,
    removePrivateAs: true,
    advertisementIntervalSeconds: 5,
    maxPrefixes: { limit: 1000, warnPercent: 75, restartSeconds: 60 },
    bfd: { minTxMs: 300, minRxMs: 300, multiplier: 5, multihop: false },
  });
});

test('a range of clients of a reflector, on a socket of its own', () => {
  const { config, control, routes } = compiled({
    clusterId: '10.0.0.9',
    listen: { port: 1179, addresses: ['10.0.0.1'] },
    control: '/run/bgp.sock',
    routes: '/run/routes.sock',
    ranges: [{ prefix: '10.0.0.0/24', asn: 64512, limit: 500, routeReflectorClient: true, nextHopMode: 'keep' }],
    originate: ['192.0.2.7/24'],
  });
  expect(config).toMatchObject({
    clusterId: '10.0.0.9',
    listenPort: 1179,
    listenAddresses: ['10.0.0.1'],
    originations: ['192.0.2.0/24'],
  });
  expect(config.ranges).toMatchObject([
    { name: '10.0.0.0/24', prefix: '10.0.0.0/24', limit: 500, peer: { families: [4], routeReflectorClient: true } },
  ]);
  expect([control, routes]).toEqual(['/run/bgp.sock', '/run/routes.sock']);
});

test('originations may carry communities, MED and local preference', () => {
  const { config } = compiled({
    originate: [
      '192.0.2.0/24',
      {
        prefix: '198.51.100.0/24',
        communities: ['65000:1', '65000:1:2'],
        extendedCommunities: ['rt:65000:100', 'ro:10.0.0.1:5', 'rt:70000:1', '030b000000000001'],
        med: 10,
        localPref: 200,
      },
    ],
  });
  expect(config.originations).toEqual(['192.0.2.0/24', '198.51.100.0/24']);
  expect(config.originationAttributes).toEqual({
    '198.51.100.0/24': {
      communities: [65000 * 65536 + 1, [65000, 1, 2]],
      extendedCommunities: ['0002fde800000064', '01030a0000010005', '0202000111700001', '030b000000000001'],
      med: 10,
      localPref: 200,
    },
  });
});

test('limits and metrics', () => {
  const { limits, metrics } = compiled({ limits: { asPathLength: 64, bfdSessions: 8 }, metrics: { port: 9999 } });
  expect(limits).toEqual({ asPathLength: 64, bfdSessions: 8 });
  expect(metrics).toEqual({ host: 'localhost', port: 9999 });
  expect(compiled({}).metrics).toBeUndefined();
});

test('the environment goes before the file, and the file before the defaults', () => {
  const limits = readLimits({ MARGAY_BGPMAXCOMMUNITIES: '7' }, { communities: 9, asPathLength: 64 });
  expect(limits).toEqual({ ...defaultLimits, communities: 7, asPathLength: 64 });
  const file = { host: '::1', port: 1 };
  expect(readMetricsSettings({}, file)).toEqual(file);
  expect(readMetricsSettings({ MARGAY_BGPMETRICSPORT: '2' }, file)).toEqual({ host: '::1', port: 2 });
  expect(readMetricsSettings({ MARGAY_BGPMETRICSENABLED: 'false' }, file)).toBeUndefined();
  expect(readMetricsSettings({ MARGAY_BGPMETRICSENABLED: 'true' })).toEqual({ host: 'localhost', port: 9324 });
  expect(readMetricsSettings({})).toBeUndefined();
});

test('filters are those of BGPFilter, one after the other', () => {
  const filters = {
    a: { importV4: [{ action: 'Reject', cidr: '10.0.0.0/8', matchOperator: 'In' }] },
    b: { importV4: [{ action: 'Accept' }], exportV4: [{ action: 'Reject' }] },
  };
  const [peer] = compiled({ filters, neighbors: [{ address: '10.0.0.2', asn: 65001, filters: ['a', 'b'] }] }).config
    .peers;
  expect(peer?.importRules?.[4].map(({ action }) => action)).toEqual(['reject', 'accept']);
  expect(peer?.exportRules?.[4].map(({ action }) => action)).toEqual(['reject']);
});

describe('what is wrong is named, each of it', () => {
  const neighbor = { address: '10.0.0.2', asn: 65001 };
  test.each<readonly [object, string]>([
    [{ asn: 0 }, 'asn: an AS number from 1 to 4294967295'],
    [{ asn: undefined }, 'asn: an AS number from 1 to 4294967295'],
    [{ asn: 1.1 }, 'asn: an AS number from 1 to 4294967295'],
    [{ routerId: 'fd00::1' }, 'routerId: an IPv4 address other than 0.0.0.0'],
    [{ neighbours: [] }, 'neighbours: no such field'],
    [{ originate: ['all'] }, 'originate.0: an IP address'],
    [{ originate: [{ prefix: '10.0.0.0/8', med: -1 }] }, 'originate.0.med: number to be >=0'],
    [{ originate: [{ prefix: '10.0.0.0/8', nextHop: 1 }] }, 'originate.0.nextHop: no such field'],
    [
      { originate: [{ prefix: '10.0.0.0/8', extendedCommunities: ['rt:70000:70000'] }] },
      'originate.0.extendedCommunities.0: an extended community: rt:65000:100, ro:10.0.0.1:5 or 16 hexadecimal digits',
    ],
    [
      { originate: [{ prefix: '10.0.0.0/8', communities: ['65536:1'] }] },
      'originate.0.communities.0: a community: 65000:100, or 65000:1:2 for a large one',
    ],
    [{ limits: { queuedOctets: 1 } }, 'limits.queuedOctets: number to be >=65536'],
    [{ metrics: { port: 0 } }, 'metrics.port: number to be >=1'],
    [{ listen: { port: 0 } }, 'listen.port: number to be >=1'],
    [{ neighbors: [{ address: '10.0.0.2' }] }, 'neighbors.0.asn: an AS number from 1 to 4294967295'],
    [{ neighbors: [{ ...neighbor, address: 'tor' }] }, 'neighbors.0.address: an IP address'],
    ...['224.0.0.5', '0.0.0.0', '255.255.255.255', '::', 'ff02::1'].map(
      (address) =>
        [{ neighbors: [{ ...neighbor, address }] }, 'neighbors.0.address: an address that a host can have'] as const,
    ),
    [{ addresses: ['224.0.0.1/24'] }, 'addresses.0: an address that a host can have'],
    [{ neighbors: [neighbor], addresses: ['10.0.0.2/24'] }, 'neighbors.0.address: an address of another host'],
    [{ neighbors: [{ ...neighbor, address: 'fe80::1%eth0%eth1' }] }, 'neighbors.0.address: a device name after the %'],
    [
      { filters: { unused: { importV6: [{ action: 'Reject', interface: 'eth 0' }] } } },
      'filters.unused.importV6.0.interface: up to 15 letters, digits, and any of _ . - *',
    ],
    [{ neighbors: [{ ...neighbor, holdSeconds: 2 }] }, 'neighbors.0.holdSeconds: 0, or 3 and more'],
    [{ neighbors: [{ ...neighbor, password: 'x'.repeat(81) }] }, 'neighbors.0.password: at most 80 octets'],
    [
      { neighbors: [{ ...neighbor, address: 'fe80::1' }], addresses: ['fd00::1'] },
      'neighbors.0.address: the device too, as in fe80::1%eth0',
    ],
    [
      { neighbors: [{ ...neighbor, address: '10.0.0.2%eth0' }] },
      'neighbors.0.address: a device only after a link-local address',
    ],
    [
      { neighbors: [{ ...neighbor, address: 'fd00::2' }] },
      'neighbors.0: an IPv6 address of this host in addresses, as the next hop',
    ],
    [{ neighbors: [{ ...neighbor, localAddress: 'fd00::1' }] }, 'neighbors.0.localAddress: an IPv4 address'],
    [
      { neighbors: [{ ...neighbor, routeReflectorClient: true }] },
      'neighbors.0.routeReflectorClient: false: AS 65001 is not our own',
    ],
    [{ neighbors: [{ ...neighbor, filters: ['x'] }] }, 'neighbors.0.filters.0: the name of one of the filters'],
    [{ neighbors: [neighbor, neighbor] }, 'neighbors.1.name: a name of its own'],
    [
      { neighbors: [neighbor], ranges: [{ prefix: '10.0.0.0/24', asn: 1, name: '10.0.0.2' }] },
      'ranges.0.name: a name of its own',
    ],
    [{ ranges: [{ prefix: '10.0.0.0/24', asn: 1, limit: 0 }] }, 'ranges.0.limit: number to be >=1'],
    [{ originate: ['10.0.0.0/33'] }, 'originate.0: a prefix length of at most 32'],
  ])('%j', (file, expected) => {
    expect(problems(file)).toContain(expected);
  });

  test('a password file that is not there, or holds too much', () => {
    const file = { neighbors: [{ ...neighbor, passwordFile: 'nothere' }] };
    expect(problems(file)).toEqual(['neighbors.0.passwordFile: a readable file (nothere: no such file)']);
    expect(problems(file, () => '\n')).toEqual(['neighbors.0.passwordFile: 1 to 80 octets in it, not 0']);
  });

  test('a wrong password is not shown', () => {
    const result = compileStandalone(
      { asn: 1, routerId: '10.0.0.1', neighbors: [{ ...neighbor, password: `sesame${'x'.repeat(80)}` }] },
      noFiles,
    );
    expect(JSON.stringify(result)).not.toContain('sesame');
  });
});

describe('IPv4 in a session over IPv6', () => {
  const session = (neighbor: object, more: object = {}) => ({
    neighbors: [{ address: 'fd00::2', asn: 65001, families: ['ipv4', 'ipv6'], ...neighbor }],
    addresses: ['fd00::1/64'],
    ...more,
  });

  test('may be told that its next hops are to be IPv6 ones, or never', () => {
    expect(compiled(session({})).config.peers[0]).toMatchObject({ families: [4, 6] });
    expect(compiled(session({})).config.peers[0]).not.toHaveProperty('extendedNextHop');
    expect(compiled(session({ extendedNextHop: false })).config.peers[0]).toMatchObject({ extendedNextHop: false });
    expect(problems(session({ extendedNextHop: 'yes' }))).toHaveLength(1);
  });

  test('needs no address at all on a link of its own', () => {
    const linked = session({ address: 'fe80::2%eth0' }, { routerId: '10.0.0.1', addresses: [] });
    expect(compiled(linked).config.peers[0]).toMatchObject({ address: 'fe80::2', interface: 'eth0', families: [4, 6] });
  });
});
