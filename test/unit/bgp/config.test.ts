import { describe, expect, test } from 'vitest';
import { ownAttributes } from '../../../src/bgp/advertisements.ts';
import { compile } from '../../../src/bgp/config.ts';
import { parseEndpoint, seconds } from '../../../src/bgp/objects.ts';
import { originations } from '../../../src/bgp/originations.ts';
import { parseCidr } from '../../../src/model/address.ts';
import { a, b, block, c, compiled, node, set, storeOf } from './config-support.ts';

describe('filters of a peer', () => {
  const peer = (filters: readonly string[]) => set('BGPPeer', 'tor', { peerIP: '10.0.0.1', asNumber: 65001, filters });
  const reject = { action: 'reject', operations: [] };

  test('their rules follow one another, and mesh sessions have none', () => {
    const first = set('BGPFilter', 'first', { importV4: [{ action: 'Reject', peerType: 'iBGP' }] });
    const second = set('BGPFilter', 'second', { importV4: [{ action: 'Accept' }], exportV6: [{ action: 'Reject' }] });
    const { config, problems } = compiled(storeOf(a, b, first, second, peer(['first', 'second'])));
    const tor = config.peers.find(({ name }) => name === 'tor');
    expect(tor?.importRules).toEqual({
      4: [
        { ...reject, peerType: 'iBGP' },
        { action: 'accept', operations: [] },
      ],
      6: [],
    });
    expect(tor?.exportRules).toEqual({ 4: [], 6: [reject] });
    expect(config.peers.find(({ role }) => role === 'mesh')).not.toHaveProperty('importRules');
    expect(problems).toEqual([]);
  });

  test('one that is missing or cannot be followed lets nothing through, and is named', () => {
    const unusable = set('BGPFilter', 'gone', { exportV4: [{ action: 'Accept', interface: 'eth 0' }] });
    const { config, problems } = compiled(storeOf(a, unusable, peer(['gone'])));
    expect(config.peers[0]?.importRules).toEqual({ 4: [reject], 6: [reject] });
    expect(config.peers[0]?.exportRules).toEqual({ 4: [reject], 6: [reject] });
    expect(problems).toMatchObject([
      { object: 'BGPPeer(tor).spec.filters', detail: expect.stringContaining('BGPFilter(gone)') },
    ]);
  });

  test('the last good version of a filter stays in force', () => {
    const good = set('BGPFilter', 'f', { importV4: [{ action: 'Reject' }] });
    const bad = set('BGPFilter', 'f', { importV4: [{ action: 'Reject', interface: 'eth 0' }] });
    const { config } = compiled(storeOf(a, good, bad, peer(['f'])));
    expect(config.peers[0]?.importRules).toEqual({ 4: [reject], 6: [] });
  });
});

describe('the mesh', () => {
  test('is a session per family that both nodes have; the numerically higher address dials', () => {
    const { config } = compiled(storeOf(a, b, c));
    expect(config).toMatchObject({ asn: 64512, identifier: '10.0.0.9', listenPort: 179 });
    expect(config.addresses).toEqual([
      { address: '10.0.0.9', subnet: '10.0.0.0/24' },
      { address: 'fd99::9', subnet: 'fd99::/64' },
    ]);
    expect(
      config.peers.map(({ name, address, localAddress, initiative, families }) => [
        name,
        address,
        localAddress,
        initiative,
        families,
      ]),
    ).toEqual([
      ['mesh-b-ipv4', '10.0.0.10', '10.0.0.9', 'wait', [4]],
      ['mesh-b-ipv6', 'fd99::10', 'fd99::9', 'wait', [6]],
      ['mesh-c-ipv4', '10.0.0.2', '10.0.0.9', 'dial', [4]],
    ]);
  });

  test('over IPv6 carries IPv4 too where one of the nodes has no IPv4 address', () => {
    const six = set('Node', 'six', { bgp: { ipv6Address: 'fd99::6/64' } });
    const carried = (name: string) =>
      compile(storeOf(a, b, six), name, undefined)?.config.peers.map((peer) => [peer.name, peer.families]);
    expect(carried('six')).toEqual([
      ['mesh-a-ipv6', [4, 6]],
      ['mesh-b-ipv6', [4, 6]],
    ]);
    expect(carried('a')).toContainEqual(['mesh-six-ipv6', [4, 6]]);
    expect(carried('a')).toContainEqual(['mesh-b-ipv6', [6]]);
  });

  test('of every pair exactly one side dials', () => {
    const objects = storeOf(a, b, c);
    const sides = ['a', 'b', 'c'].flatMap((name) =>
      compiled(objects, name).config.peers.map((peer) => [
        [peer.localAddress, peer.address].sort().join(),
        peer.initiative,
      ]),
    );
    for (const pair of new Set(sides.map(([key]) => key))) {
      const initiatives = sides.filter(([key]) => key === pair).map(([, initiative]) => initiative);
      expect(initiatives.sort()).toEqual(['dial', 'wait']);
    }
  });

  test('takes AS number and port from the configuration, and a node’s own AS number', () => {
    const objects = storeOf(
      a,
      set('BGPConfiguration', 'default', { asNumber: 65000, listenPort: 1179 }),
      node('d', '10.0.0.4/24', undefined, { asNumber: '1.10' }),
    );
    const { config } = compiled(objects);
    expect(config).toMatchObject({ asn: 65000, listenPort: 1179 });
    expect(config.peers).toMatchObject([{ asn: 65546, port: 1179 }]);
  });

  test('can be turned off, and leaves reflectors out', () => {
    expect(
      compiled(storeOf(a, b, set('BGPConfiguration', 'default', { nodeToNodeMeshEnabled: false }))).config.peers,
    ).toEqual([]);
    const reflector = node('r', '10.0.0.3/24', undefined, { routeReflectorClusterID: '1.0.0.1' });
    expect(compiled(storeOf(a, reflector)).config.peers).toEqual([]);
    expect(compiled(storeOf(a, reflector), 'r').config.peers).toEqual([]);
  });
});

describe('route reflection', () => {
  const cluster = (id: string) => ({ routeReflectorClusterID: id });
  const r = node('r', '10.0.0.3/24', undefined, cluster('1.0.0.1'), { rr: 'yes' });
  const twin = node('twin', '10.0.0.4/24', undefined, cluster('1.0.0.1'), { rr: 'yes' });
  const far = node('far', '10.0.0.5/24', undefined, cluster('1.0.0.2'), { rr: 'yes' });
  const peering = set('BGPPeer', 'rr', { peerSelector: "rr == 'yes'" });
  const router = set('BGPPeer', 'tor', { peerIP: '10.0.0.1', asNumber: 64512, node: 'r' });

  test('a reflector takes peers of other clusters, and of none, as clients', () => {
    const { config, problems } = compiled(storeOf(a, r, twin, far, peering, router), 'r');
    expect(config.clusterId).toBe('1.0.0.1');
    expect(problems).toEqual([]);
    const clients = config.peers.map(({ name, routeReflectorClient = false }) => [name, routeReflectorClient]);
    expect(Object.fromEntries(clients)).toEqual({
      'rr-a-ipv4': true,
      'rr-far-ipv4': true,
      'rr-twin-ipv4': false,
      tor: true,
    });
  });

  test('a node without a cluster id has no clients', () => {
    const { config } = compiled(storeOf(a, r, peering));
    expect(config.peers).toHaveLength(1);
    expect(config.peers[0]).not.toHaveProperty('routeReflectorClient');
    expect(config).not.toHaveProperty('clusterId');
  });

  test('a cluster id that is no IPv4 address is named', () => {
    const { config, problems } = compiled(storeOf(node('a', '10.0.0.9/24', undefined, cluster('fd99::1'))));
    expect(config).not.toHaveProperty('clusterId');
    expect(problems).toEqual([{ object: 'Node(a)', detail: expect.stringContaining('an IPv4 address') }]);
  });
});

describe('BGPConfiguration', () => {
  test('nodeMeshMaxRestartTime is of mesh sessions; one that is no duration is named', () => {
    const of = (nodeMeshMaxRestartTime: string) =>
      compiled(storeOf(a, c, set('BGPConfiguration', 'default', { nodeMeshMaxRestartTime })));
    expect(of('300s').config.peers).toMatchObject([{ restartSeconds: 300 }]);
    expect(of('soon').config.peers).toMatchObject([{ restartSeconds: 120 }]);
    expect(of('soon').problems).toMatchObject([{ detail: expect.stringContaining('nodeMeshMaxRestartTime: "soon"') }]);
  });

  test('communities of prefixAdvertisements go to originations inside their prefix', () => {
    const spec = {
      communities: [{ name: 'pods', value: '65000:1' }],
      prefixAdvertisements: [
        { cidr: '10.65.0.0/16', communities: ['pods', '65000:1:2', 'unknown'] },
        { cidr: '10.65.1.0/24', communities: ['65000:2', '65000:1'] },
      ],
    };
    const { config, problems } = compiled(storeOf(a, set('BGPConfiguration', 'default', spec)));
    expect(problems).toMatchObject([{ detail: 'unknown is neither a community nor the name of one' }]);
    const communities = (prefix: string) => ownAttributes(parseCidr(prefix), config.advertisements);
    expect(communities('10.65.1.0/26')).toEqual({
      origin: 'igp',
      asPath: [],
      communities: [65000 * 65536 + 1, 65000 * 65536 + 2],
      largeCommunities: [[65000, 1, 2]],
    });
    expect(communities('10.66.0.0/26')).toEqual({ origin: 'igp', asPath: [] });
  });

  test('fields without effect are named', () => {
    const spec = { ignoredInterfaces: ['eth9'], localWorkloadPeeringIPV4: '', localWorkloadPeeringIPV6: 'fd00::1' };
    const tor = set('BGPPeer', 'tor', { peerIP: '10.0.0.9', asNumber: 65001, reachableBy: '10.0.0.1' });
    const { problems } = compiled(storeOf(a, tor, set('BGPConfiguration', 'default', spec)));
    expect(problems.map(({ object }) => object)).toEqual([
      'BGPConfiguration(default).spec.ignoredInterfaces',
      'BGPConfiguration(default).spec.localWorkloadPeeringIPV6',
      'BGPPeer(tor).spec.reachableBy',
    ]);
  });
});

describe('the router id', () => {
  test('is CALICO_ROUTER_ID, the IPv4 address, or a hash of the name', () => {
    const objects = storeOf(a, set('Node', 'six', { bgp: { ipv6Address: 'fd99::6/64' } }));
    const id = (name: string, routerId?: string) => compile(objects, name, routerId)?.config.identifier;
    expect(id('a', '1.2.3.4')).toBe('1.2.3.4');
    expect(id('a')).toBe('10.0.0.9');
    expect(id('six')).toBe(id('six', 'hash'));
    expect(id('a', 'hash')).not.toBe(id('six', 'hash'));
    expect(() => id('a', 'mine')).toThrow('CALICO_ROUTER_ID: "mine"');
  });

  test('a node without a BGP address has no configuration', () => {
    expect(compile(storeOf(set('Node', 'a', {})), 'a', undefined)).toBeUndefined();
    expect(compile(storeOf(), 'a', undefined)).toBeUndefined();
  });
});

describe('originations', () => {
  const pool = set('IPPool', 'p', { cidr: '10.65.0.0/16' });
  const hidden = set('IPPool', 'h', { cidr: '10.66.0.0/16', disableBGPExport: true });

  test('are this node’s blocks in exported pools', () => {
    const objects = storeOf(
      pool,
      hidden,
      block('10.65.1.0/26', 'host:a'),
      block('10.65.2.0/26', 'host:b'),
      block('10.66.1.0/26', 'host:a'),
      block('10.67.1.0/26', 'host:a'),
    );
    expect(originations(objects)).toEqual(['10.65.1.0/26']);
  });

  test('are addresses in use here out of blocks of others or of nobody', () => {
    const objects = storeOf(
      pool,
      block('10.65.2.0/26', 'host:b', ['b', undefined, 'a']),
      block('10.65.3.0/26', null, ['a']),
      block('10.65.4.0/26', 'host:b', ['a'], true),
    );
    expect(originations(objects)).toEqual(['10.65.2.2/32', '10.65.3.0/32']);
  });

  test('follow a block that goes', () => {
    const objects = storeOf(pool, block('10.65.1.0/26', 'host:a'));
    objects.apply({ op: 'delete', key: { type: 'Block', cidr: parseCidr('10.65.1.0/26') } });
    expect(originations(objects)).toEqual([]);
  });

  test('pods that start and stop change nothing, unless one here borrows', () => {
    const objects = storeOf(pool, block('10.65.1.0/26', 'host:a'), block('10.65.2.0/26', 'host:b', ['b']));
    expect(objects.apply(block('10.65.1.0/26', 'host:a', ['a']))).toBe(false);
    expect(objects.apply(block('10.65.2.0/26', 'host:b', ['b', 'c']))).toBe(false);
    expect(objects.apply(block('10.65.2.0/26', 'host:b', ['b', 'a']))).toBe(true);
    expect(objects.apply(block('10.65.2.0/26', 'host:b', ['b', 'a'], true))).toBe(true);
    expect(objects.apply(block('10.65.1.0/26', 'host:b'))).toBe(true);
    expect(originations(objects)).toEqual([]);
  });
});

test('endpoints and durations', () => {
  expect(parseEndpoint('fd00::1', 'f')).toEqual({ address: 'fd00::1', port: 179 });
  expect(parseEndpoint('[fd00::1]:1179', 'f')).toEqual({ address: 'fd00::1', port: 1179 });
  expect(parseEndpoint('[fd00::1]', 'f')).toEqual({ address: 'fd00::1', port: 179 });
  expect(parseEndpoint('fe80::1%eth0', 'f')).toEqual({ address: 'fe80::1', port: 179, interface: 'eth0' });
  expect(parseEndpoint('[fe80::1%eth0]:1179', 'f')).toEqual({ address: 'fe80::1', port: 1179, interface: 'eth0' });
  for (const wrong of ['fe80::1', 'fe80::1%', 'fd00::1%eth0', '10.0.0.1%eth0', 'fe80::1%a%b'])
    expect(() => parseEndpoint(wrong, 'f')).toThrow(`f: "${wrong}"`);
  expect([seconds('1m30s', 'f'), seconds('1.5s', 'f'), seconds('500ms', 'f'), seconds(undefined, 'f')]).toEqual([
    90,
    2,
    1,
    undefined,
  ]);
  expect(() => seconds('30', 'f')).toThrow('f: "30"');
});

describe('fields of ours', () => {
  const peer = (bfd: object) => set('BGPPeer', 'tor', { peerIP: '10.0.0.1', asNumber: 65001, bfd });
  const bfdOf = (bfd: object) => compiled(storeOf(a, peer(bfd))).config.peers[0]?.bfd;

  test('bfd of a peer, with defaults that find out within 900 ms', () => {
    expect(bfdOf({})).toEqual({ minTxMs: 300, minRxMs: 300, multiplier: 3, multihop: false });
    expect(bfdOf({ minTxMs: 50, multiplier: 5, multihop: true })).toMatchObject({ minTxMs: 50, multiplier: 5 });
    expect(() => peer({ minTxMs: 10 })).toThrow(/^BGPPeer\(tor\)\.spec\.bfd\.minTxMs: 10: /);
    expect(() => peer({ multiplier: 0 })).toThrow(/^BGPPeer\(tor\)\.spec\.bfd\.multiplier: 0: /);
  });

  test('bmp stations of the configuration', () => {
    const spec = { bmp: [{ address: '10.0.0.5', port: 1790 }] };
    const { config } = compiled(storeOf(a, set('BGPConfiguration', 'default', spec)));
    expect(config.bmp).toEqual([{ address: '10.0.0.5', port: 1790 }]);
    expect(compiled(storeOf(a)).config).not.toHaveProperty('bmp');
    const wrong = { bmp: [{ address: 'tor', port: 1790 }] };
    expect(() => set('BGPConfiguration', 'default', wrong)).toThrow(/spec\.bmp\[0\]\.address: "tor"/);
  });
});
