import { describe, expect, test } from 'vitest';
import { acceptDefaultAnnotation } from '../../../src/bgp/objects.ts';
import { a, b, c, compiled, node, set, storeOf } from './config-support.ts';

describe('BGPPeer', () => {
  const tor = { peerIP: '10.0.0.1', asNumber: 65001 };

  test.each([
    ['for all nodes', tor, true],
    ['for this node', { ...tor, node: 'a' }, true],
    ['for another node', { ...tor, node: 'b' }, false],
    ['by a selector that fits', { ...tor, nodeSelector: "rack == 'one'" }, true],
    ['by a selector that does not', { ...tor, nodeSelector: "rack == 'two'" }, false],
  ])('%s', (_, spec, wanted) => {
    const own = node('a', '10.0.0.9/24', undefined, {}, { rack: 'one' });
    const { peers } = compiled(storeOf(own, set('BGPPeer', 'tor', spec))).config;
    expect(peers.map(({ name, asn, role, initiative }) => [name, asn, role, initiative])).toEqual(
      wanted ? [['tor', 65001, 'peer', 'dial']] : [],
    );
  });

  test('with link-local addresses, one on each link, speaks both families there', () => {
    const spec = (device: string) => ({ peerIP: `fe80::1%${device}`, asNumber: 65001 });
    const objects = storeOf(a, set('BGPPeer', 'left', spec('eth0')), set('BGPPeer', 'right', spec('eth1')));
    const sessions = compiled(objects).config.peers.map((peer) => [peer.name, peer.interface, peer.families]);
    expect(sessions).toEqual([
      ['left', 'eth0', [4, 6]],
      ['right', 'eth1', [4, 6]],
    ]);
    for (const peer of compiled(objects).config.peers) expect(peer).not.toHaveProperty('localAddress');
  });

  test('sets port, keepalive and restart time, and the permission for a default route', () => {
    const spec = { peerIP: '10.0.0.1:1179', asNumber: 65001, keepaliveTime: '5s', maxRestartTime: '2m30s' };
    const metadata = { annotations: { [acceptDefaultAnnotation]: 'true' } };
    const { peers } = compiled(storeOf(a, set('BGPPeer', 'tor', spec, metadata))).config;
    expect(peers).toMatchObject([{ port: 1179, keepaliveSeconds: 5, restartSeconds: 150, acceptDefault: true }]);
  });

  test('sets what concerns AS numbers, next hop and source address', () => {
    const spec = {
      ...tor,
      localASNumber: '65099',
      numAllowedLocalASNumbers: 2,
      nextHopMode: 'Keep',
      removePrivateAS: true,
    };
    const { peers } = compiled(storeOf(a, set('BGPPeer', 'tor', { ...spec, sourceAddress: 'None' }))).config;
    expect(peers).toMatchObject([{ localAsn: 65099, allowedLocalAs: 2, nextHopMode: 'keep', removePrivateAs: true }]);
    expect(peers[0]).not.toHaveProperty('localAddress');
    const plain = compiled(storeOf(a, set('BGPPeer', 'tor', tor))).config.peers[0];
    expect(plain).toMatchObject({ nextHopMode: 'auto', localAddress: '10.0.0.9' });
    for (const key of ['localAsn', 'allowedLocalAs', 'removePrivateAs']) expect(plain).not.toHaveProperty(key);
  });

  test('sets a limit of prefixes', () => {
    const maxPrefixes = (spec: object) =>
      compiled(storeOf(a, set('BGPPeer', 'tor', { ...tor, maxPrefixes: spec }))).config.peers[0]?.maxPrefixes;
    expect(maxPrefixes({ limit: 10 })).toEqual({ limit: 10, warnPercent: 75 });
    expect(maxPrefixes({ limit: 10, warnOnly: true, restartTime: '1m' })).toEqual({
      limit: 10,
      warnPercent: 75,
      warnOnly: true,
      restartSeconds: 60,
    });
  });

  test.each([
    [{ keepOriginalNextHop: true }, 'keep'],
    [{ keepOriginalNextHop: false, nextHopMode: 'Self' }, 'self'],
    [{ nextHopMode: 'Auto' }, 'auto'],
  ])('next hop of %j is %s', (spec, mode) => {
    const { peers } = compiled(storeOf(a, set('BGPPeer', 'tor', { ...tor, ...spec }))).config;
    expect(peers[0]?.nextHopMode).toBe(mode);
  });

  test('between nodes: the local AS is of the side that the object selects, and reverse peering can be left out', () => {
    const off = set('BGPConfiguration', 'default', { nodeToNodeMeshEnabled: false });
    const spec = { node: 'a', peerSelector: 'has(edge)', localASNumber: 65099 };
    const edge = node('e', '10.0.0.3/24', undefined, {}, { edge: 'yes' });
    const of = (who: string, extra: object = {}) =>
      compiled(storeOf(off, a, edge, set('BGPPeer', 'p', { ...spec, ...extra })), who).config.peers;
    expect(of('a')).toMatchObject([{ asn: 64512, localAsn: 65099 }]);
    expect(of('e')).toMatchObject([{ asn: 65099 }]);
    expect(of('e')[0]).not.toHaveProperty('localAsn');
    expect(of('e', { reversePeering: 'Manual' })).toEqual([]);
    expect(of('a', { reversePeering: 'Manual' })).toHaveLength(1);
  });

  test('by peerSelector connects both ends out of the one object', () => {
    const off = set('BGPConfiguration', 'default', { nodeToNodeMeshEnabled: false });
    const reflector = node('r', '10.0.0.3/24', undefined, {}, { reflector: 'yes' });
    const objects = storeOf(
      off,
      a,
      c,
      reflector,
      set('BGPPeer', 'rr', { nodeSelector: '!has(reflector)', peerSelector: 'has(reflector)' }),
    );
    const names = (who: string) => compiled(objects, who).config.peers.map(({ name }) => name);
    expect(names('a')).toEqual(['rr-r-ipv4']);
    expect(names('c')).toEqual(['rr-r-ipv4']);
    expect(names('r')).toEqual(['rr-a-ipv4', 'rr-c-ipv4']);
  });

  test('takes the place of a mesh session with the same address; this node itself is no peer', () => {
    const same = set('BGPPeer', 'b', { peerIP: '10.0.0.10', asNumber: 64512 });
    const self = set('BGPPeer', 'self', { peerIP: '10.0.0.9', asNumber: 64512 });
    const { peers } = compiled(storeOf(a, b, same, self)).config;
    expect(peers.map(({ name }) => name)).toEqual(['b', 'mesh-b-ipv6']);
  });

  test('of a family that this node has not is a problem, not a failure', () => {
    const { config, problems } = compiled(
      storeOf(c, set('BGPPeer', 'six', { peerIP: 'fd99::1', asNumber: 65001 })),
      'c',
    );
    expect(config.peers).toEqual([]);
    expect(problems).toEqual([{ object: 'BGPPeer(six)', detail: 'this node has no IPv6 address for fd99::1' }]);
  });

  test.each([
    { peerIP: 'nonsense', asNumber: 1 },
    { peerIP: '10.0.0.1:0', asNumber: 1 },
    { peerIP: '10.0.0.1' },
    {},
    { peerIP: '10.0.0.1', asNumber: 1, nodeSelector: 'broken ==' },
    { peerIP: '10.0.0.1', asNumber: 1, maxRestartTime: 'soon' },
    { peerIP: '10.0.0.1', asNumber: 1, node: 'a', nodeSelector: 'all()' },
    { peerIP: '10.0.0.1', asNumber: 1, peerSelector: 'all()' },
    { peerIP: '10.0.0.1', asNumber: 1, keepOriginalNextHop: true, nextHopMode: 'Self' },
    { asNumber: 1, localWorkloadSelector: 'all()' },
  ])('that cannot be understood (%j) leaves its last good version', (bad) => {
    const objects = storeOf(a, set('BGPPeer', 'tor', tor), set('BGPPeer', 'tor', bad));
    expect(compiled(objects).config.peers).toMatchObject([{ name: 'tor', address: '10.0.0.1', port: 179 }]);
  });
});
