import { describe, expect, test } from 'vitest';
import { loser, prevailing } from '../../../src/bgp/collision.ts';
import { llgrStale } from '../../../src/bgp/communities.ts';
import { type ExportContext, exported, noAdvertise, noExport, noExportSubconfed } from '../../../src/bgp/exporting.ts';
import type { Operation } from '../../../src/bgp/filters.ts';
import { type ImportContext, rejectAttributes, rejectPrefix } from '../../../src/bgp/importing.ts';
import { defaultLimits } from '../../../src/bgp/limits.ts';
import type { Candidate, Source } from '../../../src/bgp/rib.ts';
import { withoutPrivate } from '../../../src/bgp/wire/aspath.ts';
import type { Attributes } from '../../../src/bgp/wire/attributes.ts';
import { blockOf } from '../../../src/bgp/wire/nlri.ts';
import { parseCidr, parseIp } from '../../../src/model/address.ts';

const self = parseIp('10.0.0.1');
const context: ImportContext = {
  asns: [64512],
  allowedLocalAs: 0,
  identifier: self,
  clusterId: parseIp('1.1.1.1'),
  peerAsn: 65001,
  external: true,
  ownAddresses: new Set([self, parseIp('fd99::1')]),
  acceptDefault: false,
  limits: { ...defaultLimits, asPathLength: 4, communities: 3 },
};
const attributes: Attributes = {
  origin: 'igp',
  asPath: [{ type: 'sequence', asns: [65001, 7] }],
  nextHop: parseIp('10.0.0.2'),
};

function path(...asns: number[]): Attributes['asPath'] {
  return [{ type: 'sequence', asns }];
}

describe('import', () => {
  test.each([
    ['a good route', {}, {}, undefined],
    ['our own AS in the path', { asPath: [{ type: 'sequence', asns: [65001, 64512] }] }, {}, 'asLoop'],
    ['a path as long as it may be', { asPath: [{ type: 'sequence', asns: [65001, 2, 3, 4] }] }, {}, undefined],
    ['a longer path', { asPath: [{ type: 'sequence', asns: [65001, 2, 3, 4, 5] }] }, {}, 'asPathTooLong'],
    ['as many communities as may be', { communities: [1, 2], extendedCommunities: ['00'] }, {}, undefined],
    [
      'too many communities',
      {
        communities: [1, 2],
        largeCommunities: [
          [1, 2, 3],
          [4, 5, 6],
        ],
      },
      {},
      'tooManyCommunities',
    ],
    ['our own AS as often as allowed', { asPath: path(65001, 64512, 64512) }, { allowedLocalAs: 2 }, undefined],
    ['our own AS once too often', { asPath: path(65001, 64512, 64512) }, { allowedLocalAs: 1 }, 'asLoop'],
    ['the AS of the session in the path', { asPath: path(65001, 65099) }, { asns: [64512, 65099] }, 'asLoop'],
    ['another first AS', { asPath: [{ type: 'sequence', asns: [7, 65001] }] }, {}, 'firstAs'],
    ['an empty path from outside', { asPath: [] }, {}, 'firstAs'],
    ['an empty path from within', { asPath: [] }, { external: false }, undefined],
    ['our own originator id', { originatorId: self }, { external: false }, 'ownOriginatorId'],
    ['our own cluster', { clusterList: [parseIp('1.1.1.1')] }, { external: false }, 'ownClusterId'],
    ['our own address as next hop', { nextHop: self }, {}, 'nextHop'],
    ['next hop 0.0.0.0', { nextHop: parseIp('0.0.0.0') }, {}, 'nextHop'],
    ['a loopback next hop', { nextHop: parseIp('127.0.0.2') }, {}, 'nextHop'],
    ['a multicast next hop', { nextHop: parseIp('224.0.0.1') }, {}, 'nextHop'],
    ['a link-local next hop', { nextHop: parseIp('fe80::1') }, {}, 'nextHop'],
    ['a link-local next hop on a known link', { nextHop: parseIp('fe80::1') }, { onLink: true }, undefined],
    ['an IPv6 next hop', { nextHop: parseIp('fd99::2') }, {}, undefined],
    ['an IPv4-mapped next hop', { nextHop: parseIp('::ffff:10.0.0.2') }, {}, 'nextHop'],
    ['next hop ::1', { nextHop: parseIp('::1') }, {}, 'nextHop'],
  ] as const)('%s', (_, change, where, rejection) => {
    expect(rejectAttributes({ ...attributes, ...change } as Attributes, { ...context, ...where })).toBe(rejection);
  });

  test.each([
    ['10.65.0.0/26', undefined],
    ['0.0.0.0/1', undefined],
    ['0.0.0.0/0', 'defaultRoute'],
    ['::/0', 'defaultRoute'],
    ['127.0.0.0/8', 'loopbackPrefix'],
    ['127.1.2.3/32', 'loopbackPrefix'],
    ['169.254.1.0/24', 'linkLocalPrefix'],
    ['224.0.0.0/4', 'multicastPrefix'],
    ['255.255.255.255/32', 'multicastPrefix'],
    ['10.0.0.1/32', 'ownAddress'],
    ['10.0.0.0/24', undefined],
    ['::1/128', 'loopbackPrefix'],
    ['fe80::/10', 'linkLocalPrefix'],
    ['ff02::/16', 'multicastPrefix'],
    ['fd99::1/128', 'ownAddress'],
    ['fd99::/64', undefined],
  ])('%s', (text, rejection) => {
    const family = text.includes(':') ? 6 : 4;
    const { octets } = blockOf(family, [parseCidr(text)]);
    expect(rejectPrefix(family, octets, 1, octets[0] ?? 0, context)).toBe(rejection);
  });

  test('a default route is taken where it is allowed', () => {
    expect(rejectPrefix(4, new Uint8Array(1), 1, 0, { ...context, acceptDefault: true })).toBeUndefined();
  });
});

describe('export', () => {
  const external: ExportContext = {
    family: 4,
    asn: 64512,
    external: true,
    fourOctetAs: true,
    self,
    nextHopMode: 'auto',
    sharedSubnet: parseCidr('10.0.0.0/24'),
  };
  const internal: ExportContext = { ...external, external: false };
  const from = (kind: Source['kind'], change: Partial<Attributes> = {}): Candidate => ({
    source: { name: kind, kind, identifier: self },
    attributes: { ...attributes, ...change },
    stale: false,
  });
  const local: Candidate = { ...from('local'), attributes: { origin: 'igp', asPath: [], med: 3 } };

  test('what this node originates has itself as next hop, and its AS towards others', () => {
    expect(exported(local, internal)).toEqual({ origin: 'igp', asPath: [], med: 3, nextHop: self, localPref: 100 });
    const asPath = [{ type: 'sequence', asns: [64512] }];
    expect(exported(local, external)).toEqual({ origin: 'igp', asPath, med: 3, nextHop: self });
  });

  test('towards another AS: own AS in front; LOCAL_PREF, MED and the marks of reflection stay here', () => {
    const route = from('ibgp', { localPref: 200, med: 5, originatorId: self, clusterList: [self] });
    expect(exported(route, external)).toEqual({
      ...attributes,
      asPath: [{ type: 'sequence', asns: [64512, 65001, 7] }],
    });
  });

  test.each([
    ['between non-clients', false, false, false],
    ['from a client', true, false, true],
    ['to a client', false, true, true],
    ['between clients', true, true, true],
  ])('reflection %s', (_, fromClient, client, told) => {
    const route = from('ibgp', { med: 5, communities: [7], nextHop: parseIp('192.0.2.1') });
    const source = { ...route.source, client: fromClient, identifier: parseIp('10.0.0.7') };
    const reflection = { clusterId: parseIp('1.1.1.1'), client };
    const marks = { originatorId: parseIp('10.0.0.7'), clusterList: [parseIp('1.1.1.1')] };
    const expected = { ...route.attributes, localPref: 100, ...marks };
    expect(exported({ ...route, source }, { ...internal, reflection })).toEqual(told ? expected : undefined);
  });

  test('a reflector keeps the originator and puts its cluster before the others; next hop self is followed', () => {
    const known = { originatorId: parseIp('10.0.0.8'), clusterList: [parseIp('2.2.2.2')], localPref: 7 };
    const reflection = { clusterId: parseIp('1.1.1.1'), client: true };
    const told = exported(from('ibgp', known), { ...internal, nextHopMode: 'self', reflection });
    const clusterList = [parseIp('1.1.1.1'), parseIp('2.2.2.2')];
    expect(told).toEqual({ ...attributes, ...known, clusterList, nextHop: self });
  });

  test('routes of last resort are for those who know what that means', () => {
    const route = from('ebgp', { communities: [llgrStale] });
    expect(exported(route, internal)).toBeUndefined();
    expect(exported(route, { ...internal, longLived: true })?.communities).toEqual([llgrStale]);
  });

  test('private AS numbers are left out where that is wanted', () => {
    const asPath = [...path(64999, 7, 4200000000), { type: 'set' as const, asns: [65534] }, ...path(65535)];
    const told = exported(from('ebgp', { asPath }), { ...external, removePrivateAs: true })?.asPath;
    expect(told).toEqual([...path(64512, 7), ...path(65535)]);
    expect(exported(from('ebgp', { asPath }), { ...internal, removePrivateAs: true })?.asPath).toEqual(asPath);
    expect(withoutPrivate(path(7, 64511))).toEqual(path(7, 64511));
  });

  test('what the filter changes comes before the own AS; a community that it adds holds nothing back', () => {
    const operations: Operation[] = [
      { do: 'prepend', asns: [7, 7] },
      { do: 'addCommunity', community: noExport },
      { do: 'setPriority', priority: 512 },
    ];
    const route = from('ebgp');
    expect(exported(route, external, operations)).toEqual({
      ...attributes,
      asPath: path(64512, 7, 7, 65001, 7),
      communities: [noExport],
    });
    expect(exported(route, internal, operations)?.localPref).toBe(2147483647 - 512);
  });

  test('within the AS: only what is not from within it', () => {
    expect(exported(from('ibgp'), internal)).toBeUndefined();
    expect(exported(from('ebgp', { med: 5 }), internal)).toEqual({ ...attributes, med: 5, localPref: 100 });
  });

  test.each([
    ['auto', '10.0.0.2', '10.0.0.2'],
    ['auto', '10.0.1.2', '10.0.0.1'],
    ['self', '10.0.0.2', '10.0.0.1'],
    ['keep', '10.0.1.2', '10.0.1.2'],
  ] as const)('next hop mode %s: %s becomes %s', (nextHopMode, nextHop, told) => {
    const route = from('ebgp', { nextHop: parseIp(nextHop) });
    expect(exported(route, { ...internal, nextHopMode })?.nextHop).toBe(told);
  });

  test('without a shared subnet this node is the next hop', () => {
    const { sharedSubnet: _, ...far } = internal;
    expect(exported(from('ebgp'), far)?.nextHop).toBe(self);
  });

  test.each([
    ['NO_ADVERTISE', noAdvertise, false, false],
    ['NO_EXPORT', noExport, true, false],
    ['NO_EXPORT_SUBCONFED', noExportSubconfed, true, false],
  ])('%s', (_, community, within, beyond) => {
    const route = from('ebgp', { communities: [community] });
    expect([exported(route, internal) !== undefined, exported(route, external) !== undefined]).toEqual([
      within,
      beyond,
    ]);
  });
});

describe('collision', () => {
  const low = { identifier: parseIp('10.0.0.9'), asn: 1, peerIdentifier: parseIp('10.0.0.10'), peerAsn: 2 };
  const high = { identifier: parseIp('200.0.0.1'), asn: 1, peerIdentifier: parseIp('10.0.0.10'), peerAsn: 2 };
  const none = { negotiated: false, later: false };

  test('identifiers are compared as unsigned numbers, then AS numbers', () => {
    expect(prevailing(low)).toBe('peer');
    expect(prevailing(high)).toBe('us');
    expect(prevailing({ ...low, peerIdentifier: low.identifier })).toBe('peer');
  });

  test.each(['OpenSent', 'OpenConfirm'] as const)(
    'against one in %s the side with the larger identifier keeps its own',
    (state) => {
      expect(loser({ initiator: 'peer', state }, { initiator: 'us', state }, low, none)).toBe('newer');
      expect(loser({ initiator: 'us', state }, { initiator: 'peer', state }, high, none)).toBe('newer');
      expect(loser({ initiator: 'peer', state }, { initiator: 'peer', state }, low, none)).toBe('older');
    },
  );

  test('one that the peer may have established is left to the peer, who prevails', () => {
    const older = { initiator: 'us', state: 'OpenConfirm' } as const;
    const newer = { initiator: 'peer', state: 'OpenConfirm' } as const;
    expect(loser(older, newer, low, none)).toBe('undecided');
    expect(loser({ ...older, state: 'OpenSent' }, newer, low, none)).toBe('older');
    expect(loser(newer, older, high, none)).toBe('older');
  });

  test('an established one is left to the peer in a race; later it stays, unless the peer has restarted', () => {
    const older = { initiator: 'us', state: 'Established' } as const;
    const newer = { initiator: 'peer', state: 'OpenConfirm' } as const;
    expect(loser(older, newer, low, none)).toBe('undecided');
    expect(loser(older, newer, high, { negotiated: true, later: false })).toBe('undecided');
    expect(loser(older, newer, low, { negotiated: true, later: true })).toBe('older');
    expect(loser(older, newer, low, { negotiated: false, later: true })).toBe('newer');
  });
});
