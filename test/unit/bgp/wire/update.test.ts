import { describe, expect, test } from 'vitest';
import type { Attributes, Codec } from '../../../../src/bgp/wire/attributes.ts';
import { WireError } from '../../../../src/bgp/wire/errors.ts';
import { blockOf, cidrsOf } from '../../../../src/bgp/wire/nlri.ts';
import { readUpdate, type Update } from '../../../../src/bgp/wire/update.ts';
import { writeAnnouncements, writeEndOfRib, writeWithdrawals } from '../../../../src/bgp/wire/write-update.ts';
import { type Cidr, type Family, parseCidr, parseIp } from '../../../../src/model/address.ts';

const bytes = (hex: string) => Uint8Array.from(Buffer.from(hex.replaceAll(' ', ''), 'hex'));
const internal: Codec = { fourOctetAs: true, external: false };
const external: Codec = { fourOctetAs: true, external: true };
const old: Codec = { fourOctetAs: false, external: true };
const both: ReadonlySet<Family> = new Set<Family>([4, 6]);

/** An UPDATE body out of withdrawn routes, attributes and NLRI as hexadecimal. */
function body(withdrawn: string, attributes: string, nlri: string): Uint8Array {
  const [w, a, n] = [bytes(withdrawn), bytes(attributes), bytes(nlri)];
  return Uint8Array.of(w.length >> 8, w.length & 255, ...w, a.length >> 8, a.length & 255, ...a, ...n);
}

const origin = '400101 00';
const path = '400206 02 01 0000fde9';
const nextHop = '400304 0a000002';
const good = `${origin}${path}${nextHop}`;

function read(attributes: string, codec = external, nlri = '18 c00002'): Update {
  return readUpdate(body('', attributes, nlri), codec, both);
}

function attributesOf(update: Update): Attributes {
  expect(update.faults).toEqual([]);
  return update.announced[0]?.attributes ?? expect.fail('nothing announced');
}

const writer = {
  size: (cidr: Cidr) => blockOf(cidr.includes(':') ? 6 : 4, [cidr]).octets.length,
  write: (w: { bytes(octets: Uint8Array): void }, cidr: Cidr) =>
    w.bytes(blockOf(cidr.includes(':') ? 6 : 4, [cidr]).octets),
};

describe('prefixes', () => {
  test.each([
    [4, '00', '0.0.0.0/0'],
    [4, '08 0a', '10.0.0.0/8'],
    [4, '1a 0a41 03 40', '10.65.3.64/26'],
    [4, '1a 0a41 03 7f', '10.65.3.64/26'],
    [4, '20 c0000201', '192.0.2.1/32'],
    [6, '20 20010db8', '2001:db8::/32'],
    [6, '00', '::/0'],
  ] as const)('IPv%d %s is %s', (family, hex, text) => {
    expect(cidrsOf({ family, octets: bytes(hex) })).toEqual([text]);
  });
});

describe('attributes', () => {
  test('every one that we know, as octets and as values', () => {
    const attributes: Attributes = {
      origin: 'egp',
      asPath: [
        { type: 'sequence', asns: [65001, 4200000001] },
        { type: 'set', asns: [1, 2] },
      ],
      nextHop: parseIp('10.0.0.2'),
      med: 7,
      localPref: 200,
      atomicAggregate: true,
      aggregator: { asn: 65001, address: parseIp('10.0.0.9') },
      communities: [0xffffff01, 65001 * 65536 + 3],
      originatorId: parseIp('10.0.0.5'),
      clusterList: [parseIp('10.0.0.6')],
      extendedCommunities: ['0002fde900000064'],
      largeCommunities: [[65001, 1, 2]],
      unknown: [{ code: 99, flags: 0xc0, value: bytes('abcd') }],
    };
    const expected =
      `400101 01` +
      `400214 02 02 0000fde9 fa56ea01 01 02 00000001 00000002` +
      `400304 0a000002` +
      `800404 00000007` +
      `400504 000000c8` +
      `400600` +
      `c00708 0000fde9 0a000009` +
      `c00808 ffffff01 fde90003` +
      `800904 0a000005` +
      `800a04 0a000006` +
      `c01008 0002fde900000064` +
      `c0200c 0000fde9 00000001 00000002` +
      `e06302 abcd`;
    const [message, ...more] = writeAnnouncements(4, attributes, internal, [parseCidr('192.0.2.0/24')], writer) ?? [];
    expect(more).toEqual([]);
    expect(message?.slice(19)).toEqual(body('', expected, '18 c00002'));
    const flagged = { ...attributes, unknown: [{ code: 99, flags: 0xe0, value: bytes('abcd') }] };
    expect(attributesOf(read(expected, internal))).toEqual(flagged);
  });

  test('an IPv6 route stands in MP_REACH_NLRI, first of the attributes', () => {
    const attributes: Attributes = { origin: 'igp', asPath: [], nextHop: parseIp('fd99::1'), localPref: 100 };
    const [message] = writeAnnouncements(6, attributes, internal, [parseCidr('2001:db8::/32')], writer) ?? [];
    const reach = '800e1a 0002 01 10 fd990000000000000000000000000001 00 20 20010db8';
    const hex = `${reach} 400101 00 400200 400504 00000064`;
    expect(message?.slice(19)).toEqual(body('', hex, ''));
    expect(attributesOf(read(hex, internal, ''))).toEqual(attributes);
  });

  test('of two IPv6 next hops the global one counts', () => {
    const hops = 'fd990000000000000000000000000001 fe800000000000000000000000000001';
    const update = read(`800e2a 0002 01 20 ${hops} 00 20 20010db8 ${origin}${path}`, external, '');
    expect(attributesOf(update).nextHop).toBe('fd99::1');
  });

  test('an old speaker gets AS_TRANS and AS4_PATH, and both are merged again', () => {
    const attributes: Attributes = {
      origin: 'igp',
      asPath: [{ type: 'sequence', asns: [65001, 4200000001, 65003] }],
      nextHop: parseIp('10.0.0.2'),
      aggregator: { asn: 4200000001, address: parseIp('10.0.0.9') },
    };
    const [message] = writeAnnouncements(4, attributes, old, [parseCidr('192.0.2.0/24')], writer) ?? [];
    const text = Buffer.from(message ?? []).toString('hex');
    expect(text).toContain('4002080203fde95ba0fdeb');
    expect(text).toContain('c00706' + '5ba00a000009');
    expect(attributesOf(readUpdate((message ?? new Uint8Array()).slice(19), old, both))).toEqual(attributes);
  });

  test('hops that an old speaker put before AS4_PATH stay in front', () => {
    const update = read(`${origin}400208 02 03 fde8 fde9 5ba0 ${nextHop} c0110a 02 02 0000fde9 fa56ea01`, old);
    expect(attributesOf(update).asPath).toEqual([{ type: 'sequence', asns: [65000, 65001, 4200000001] }]);
  });

  test('AS4_PATH is not believed beside two aggregators of which the old one is not AS_TRANS, or when longer than AS_PATH', () => {
    const short = '400204 02 01 fde9';
    const longer = 'c0110a 02 02 0000fde9 fa56ea01';
    expect(attributesOf(read(`${origin}${short}${nextHop}${longer}`, old)).asPath).toEqual([
      { type: 'sequence', asns: [65001] },
    ]);
    const same = 'c01106 02 01 fa56ea01';
    const update = read(`${origin}${short}${nextHop} c00706 fde9 0a000009 c01208 fa56ea01 0a000009 ${same}`, old);
    expect(attributesOf(update).asPath).toEqual([{ type: 'sequence', asns: [65001] }]);
  });

  test('unknown transitive attributes are kept, unknown others dropped, the partial bit of known ones kept', () => {
    const update = read(`${good} c0ff01 aa 80fe01 bb e00804 00010002`);
    expect(attributesOf(update)).toMatchObject({
      unknown: [{ code: 255, flags: 0xc0, value: bytes('aa') }],
      partial: [8],
    });
    const [message] = writeAnnouncements(4, attributesOf(update), external, [parseCidr('1.0.0.0/8')], writer) ?? [];
    expect(Buffer.from(message ?? []).toString('hex')).toMatch(/e0080400010002e0ff01aa0801$/);
  });

  test('LOCAL_PREF, ORIGINATOR_ID and CLUSTER_LIST are not sent to another AS', () => {
    const attributes: Attributes = {
      origin: 'igp',
      asPath: [],
      nextHop: parseIp('10.0.0.2'),
      localPref: 100,
      originatorId: parseIp('10.0.0.5'),
      clusterList: [parseIp('10.0.0.6')],
    };
    const [message] = writeAnnouncements(4, attributes, external, [parseCidr('1.0.0.0/8')], writer) ?? [];
    expect(message?.slice(19)).toEqual(body('', `${origin}400200${nextHop}`, '0801'));
  });
});

describe('errors: what is withdrawn, and what is only dropped (RFC 7606)', () => {
  test.each([
    ['an ORIGIN of 3', `400101 03${path}${nextHop}`],
    ['an ORIGIN of two octets', `400102 0000${path}${nextHop}`],
    ['an ORIGIN with wrong flags', `c00101 00${path}${nextHop}`],
    ['no ORIGIN', `${path}${nextHop}`],
    ['no AS_PATH', `${origin}${nextHop}`],
    ['no NEXT_HOP', `${origin}${path}`],
    ['an AS_PATH with an unknown segment', `${origin}400206 05 01 0000fde9${nextHop}`],
    ['an AS_PATH with an empty segment', `${origin}400202 02 00${nextHop}`],
    ['an AS_PATH that ends early', `${origin}400206 02 02 0000fde9${nextHop}`],
    ['an AS_PATH with AS 0', `${origin}400206 02 01 00000000${nextHop}`],
    ['a confederation segment from outside', `${origin}400206 03 01 0000fde9${nextHop}`],
    ['a NEXT_HOP of five octets', `${origin}${path}400305 0a00000200`],
    ['a MED of three octets', `${good}800403 000001`],
    ['COMMUNITIES of five octets', `${good}c00805 0000000100`],
    ['COMMUNITIES of nothing', `${good}c00800`],
    ['EXTENDED_COMMUNITIES of four octets', `${good}c01004 00000001`],
    ['LARGE_COMMUNITY of eight octets', `${good}c02008 0000000100000002`],
    ['an attribute that overruns the attribute field', `${good}c008ff 00000001`],
    ['an attribute header cut short', `${good}c0`],
  ])('%s: the prefixes are withdrawn', (_, attributes) => {
    const update = read(attributes);
    expect(update.announced).toEqual([]);
    expect(update.withdrawn.flatMap(cidrsOf)).toEqual(['192.0.2.0/24']);
    expect(update.faults.some(({ remedy }) => remedy === 'withdraw')).toBe(true);
  });

  test('LOCAL_PREF, ORIGINATOR_ID and CLUSTER_LIST of wrong length from within: withdrawn', () => {
    for (const attribute of ['400503 000001', '800905 0a00000500', '800a00', '800a05 0a00000600']) {
      expect(read(`${good}${attribute}`, internal).announced).toEqual([]);
    }
  });

  test.each([
    ['LOCAL_PREF from outside', '400504 00000064'],
    ['LOCAL_PREF of wrong length from outside', '400501 64'],
    ['ORIGINATOR_ID from outside', '800904 0a000005'],
    ['CLUSTER_LIST from outside', '800a04 0a000006'],
    ['ATOMIC_AGGREGATE with a value', '400601 00'],
    ['an AGGREGATOR of six octets', 'c00706 fde90a000009'],
    ['AS4_PATH from a four-octet speaker', 'c01106 02 01 0000fde9'],
    ['AS4_AGGREGATOR from a four-octet speaker', 'c01208 0000fde9 0a000009'],
    ['a second ORIGIN', '400101 01'],
  ])('%s: dropped, the route stays', (_, attribute) => {
    const update = read(`${good}${attribute}`);
    expect(update.announced.map(({ attributes }) => attributes)).toEqual([
      { origin: 'igp', asPath: [{ type: 'sequence', asns: [65001] }], nextHop: '10.0.0.2' },
    ]);
    expect(update.faults.map(({ remedy }) => remedy)).toEqual(['discard']);
  });

  test.each([
    ['withdrawn routes longer than the message', bytes('0005 00'), 1],
    ['attributes longer than the message', bytes('0000 0005 00'), 1],
    ['a prefix longer than 32', body('', good, '21 c000020100'), 10],
    ['a prefix cut short', body('', good, '18 c000'), 10],
    ['a withdrawn prefix longer than 32', body('ff', '', ''), 10],
    ['MP_REACH twice', body('', `${good} 800e09 0001 01 04 0a000002 00 800e09 0001 01 04 0a000002 00`, ''), 1],
    ['MP_REACH with a next hop of five octets', body('', `${good} 800e0a 0001 01 05 0a00000200 00`, ''), 9],
    ['MP_REACH cut short', body('', `${good} 800e03 0001 01`, ''), 9],
    [
      'MP_REACH with a prefix longer than 128',
      body('', `${origin}${path} 800e16 0002 01 10 fd990000000000000000000000000001 00 81`, ''),
      10,
    ],
    ['MP_UNREACH cut short', body('', '800f02 0002', ''), 9],
    ['an unknown well-known attribute', body('', `${good} 406301 00`, '0801'), 2],
    ['an error without a prefix to withdraw', body('', '400101 03', ''), 1],
  ])('%s: reset', (_, message, subcode) => {
    try {
      readUpdate(message, external, both);
      expect.fail('no error');
    } catch (thrown) {
      expect(thrown).toBeInstanceOf(WireError);
      const { code, remedy } = thrown as WireError;
      expect([code, remedy]).toEqual(['update', 'reset']);
      if (subcode !== 1) expect((thrown as WireError).subcode).toBe(subcode);
    }
  });

  test('MP_REACH of a family that was not negotiated is dropped', () => {
    const reach = '800e1a 0002 01 10 fd990000000000000000000000000001 00 20 20010db8';
    const update = readUpdate(body('', `${reach}${good}`, '0801'), external, new Set<Family>([4]));
    expect(update.announced.flatMap(({ block }) => cidrsOf(block))).toEqual(['1.0.0.0/8']);
    expect(update.faults).toHaveLength(1);
  });
});

describe('withdrawals and the end of the table', () => {
  test('IPv4 and IPv6', () => {
    const four = writeWithdrawals(4, [parseCidr('10.0.0.0/8')], writer);
    expect(four.map((message) => message.slice(19))).toEqual([body('080a', '', '')]);
    const [six] = writeWithdrawals(6, [parseCidr('2001:db8::/32')], writer);
    expect(six?.slice(19)).toEqual(body('', '800f08 0002 01 20 20010db8', ''));
    expect(readUpdate((six ?? new Uint8Array()).slice(19), external, both).withdrawn.flatMap(cidrsOf)).toEqual([
      '2001:db8::/32',
    ]);
  });

  test.each([4, 6] as const)('the mark of IPv%d', (family) => {
    const update = readUpdate(writeEndOfRib(family).slice(19), external, both);
    expect(update).toEqual({ withdrawn: [], announced: [], endOfRib: family, faults: [] });
  });

  test('the mark of IPv6 with an extended length', () => {
    expect(readUpdate(body('', '900f0003 0002 01', ''), external, both).endOfRib).toBe(6);
  });

  test('many prefixes fill messages of at most 4096 octets', () => {
    const prefixes = Array.from({ length: 3000 }, (_, i) => parseCidr(`10.${i >> 8}.${i & 255}.0/24`));
    const attributes: Attributes = { origin: 'igp', asPath: [], nextHop: parseIp('10.0.0.2') };
    const messages = writeAnnouncements(4, attributes, external, prefixes, writer) ?? [];
    expect(messages).toHaveLength(3);
    expect(Math.max(...messages.map(({ length }) => length))).toBeLessThanOrEqual(4096);
    const told = messages.flatMap((message) =>
      readUpdate(message.slice(19), external, both).announced.flatMap(({ block }) => cidrsOf(block)),
    );
    expect(told).toEqual(prefixes);
  });

  test('attributes that leave no room for a prefix cannot be told', () => {
    const communities = Array.from({ length: 1014 }, (_, i) => i);
    const attributes: Attributes = { origin: 'igp', asPath: [], nextHop: parseIp('10.0.0.2'), communities };
    expect(writeAnnouncements(4, attributes, external, [parseCidr('1.0.0.0/8')], writer)).toBeUndefined();
  });
});
