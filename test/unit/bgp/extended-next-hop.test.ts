import { describe, expect, test } from 'vitest';
import { Reader, Writer } from '../../../src/base/bytes.ts';
import { decide } from '../../../src/bgp/decision.ts';
import { type ExportContext, exported } from '../../../src/bgp/exporting.ts';
import { acceptOpen, openOf, type SessionConfig } from '../../../src/bgp/negotiate.ts';
import { hopOf, ownHop } from '../../../src/bgp/nexthop.ts';
import type { Candidate, Source } from '../../../src/bgp/rib.ts';
import type { Attributes } from '../../../src/bgp/wire/attributes.ts';
import { readCapability, writeCapability } from '../../../src/bgp/wire/capabilities.ts';
import { blockOf, cidrsOf } from '../../../src/bgp/wire/nlri.ts';
import { readUpdate } from '../../../src/bgp/wire/update.ts';
import { writeAnnouncements } from '../../../src/bgp/wire/write-update.ts';
import { type Cidr, parseCidr, parseIp } from '../../../src/model/address.ts';

const bytes = (hex: string) => Uint8Array.from(Buffer.from(hex.replaceAll(' ', ''), 'hex'));
const global = parseIp('2001:db8::2');
const near = parseIp('fe80::2');

describe('the capability', () => {
  test('IPv4 unicast with next hops of IPv6, as octets and as value', () => {
    const octets = bytes('05 06 0001 0001 0002');
    const value = { capability: 'extendedNextHop', families: [{ family: 4, nextHop: 6 }] } as const;
    expect(readCapability(new Reader(octets))).toEqual(value);
    const w = new Writer();
    writeCapability(w, value);
    expect(w.finish()).toEqual(octets);
  });

  test('families that we do not know are left out; a length that cuts one off is refused', () => {
    expect(readCapability(new Reader(bytes('05 12 0001 0080 0002 4004 0001 0002 0001 0001 0002')))).toMatchObject({
      families: [{ family: 4, nextHop: 6 }],
    });
    expect(() => readCapability(new Reader(bytes('05 05 0001 0001 00')))).toThrow('capability.length');
  });

  const config: SessionConfig = {
    asn: 64512,
    identifier: parseIp('10.0.0.1'),
    peerAsn: 65001,
    families: [4, 6],
    extendedNextHop: true,
    holdSeconds: 90,
    restart: { restarted: false, restartSeconds: 120, preserved: false },
    initiative: 'dial',
    connectRetrySeconds: 1,
    idleHoldSeconds: 1,
  };
  const theirs = { ...config, asn: 65001, peerAsn: 64512, identifier: parseIp('10.0.0.2') };

  test.each([
    ['both offer it', {}, {}, true],
    ['the peer does not', {}, { extendedNextHop: false }, false],
    ['we do not', { extendedNextHop: false }, {}, false],
    ['the peer has no IPv4', {}, { families: [6 as const] }, false],
  ])('%s', (_, ours, peers, agreed) => {
    const open = openOf({ ...theirs, ...peers });
    expect(acceptOpen(open, { ...config, ...ours }).extendedNextHop).toBe(agreed);
  });
});

describe('UPDATE', () => {
  const codec = { fourOctetAs: true, external: true, extendedNextHop: true };
  const head = '400101 00 400206 02 01 0000fde9';
  const six = { global: '20010db8000000000000000000000002', near: 'fe800000000000000000000000000002' };
  const families = new Set([4, 6] as const);
  const update = (reach: string) => {
    const value = bytes(reach);
    const attributes = bytes(`${head} 800e ${value.length.toString(16).padStart(2, '0')} ${reach}`);
    return Uint8Array.of(0, 0, attributes.length >> 8, attributes.length & 255, ...attributes);
  };
  const writer = {
    size: (cidr: Cidr) => blockOf(4, [cidr]).octets.length,
    write: (w: Writer, cidr: Cidr) => w.bytes(blockOf(4, [cidr]).octets),
  };

  test.each([
    ['an IPv4 next hop', '04 0a000002', { nextHop: '10.0.0.2' }],
    ['a global one', `10 ${six.global}`, { nextHop: global }],
    ['a link-local one', `10 ${six.near}`, { nextHop: near }],
    ['both', `20 ${six.global} ${six.near}`, { nextHop: global, linkLocal: near }],
    ['the link-local one twice, as FRR says it', `20 ${six.near} ${six.near}`, { nextHop: near }],
    ['the link-local one after ::, as BIRD says it', `20 ${'00'.repeat(16)} ${six.near}`, { nextHop: near }],
    ['one after an IPv4-mapped one', `20 ${'00'.repeat(10)}ffff0a000002 ${six.near}`, { nextHop: near }],
    ['a global one twice', `20 ${six.global} ${six.global}`, { nextHop: global }],
  ])('IPv4 prefixes with %s', (_, hops, expected) => {
    const { announced, faults } = readUpdate(update(`0001 01 ${hops} 00 18 c00002`), codec, families);
    expect(faults).toEqual([]);
    const { asPath, origin: _origin, ...rest } = announced[0]?.attributes ?? expect.fail('nothing announced');
    expect(rest).toEqual(expected);
    expect(asPath).toEqual([{ type: 'sequence', asns: [65001] }]);
    expect(announced.flatMap(({ block }) => cidrsOf(block))).toEqual(['192.0.2.0/24']);
  });

  test.each([
    ['where it was not agreed', `10 ${six.global}`, { ...codec, extendedNextHop: false }],
    ['of eight octets', '08 0a0000020a000003', codec],
    ['of 24 octets', `18 ${'00'.repeat(24)}`, codec],
  ])('an IPv6 next hop %s is a reset', (_, hops, read) => {
    expect(() => readUpdate(update(`0001 01 ${hops} 00 18 c00002`), read, families)).toThrow('MP_REACH_NLRI: next hop');
  });

  test.each([
    [{ nextHop: global }, `10 ${six.global}`],
    [{ nextHop: global, linkLocal: near }, `20 ${six.global} ${six.near}`],
    [{ nextHop: near }, `10 ${six.near}`],
  ])('%j is written in MP_REACH_NLRI, and no NEXT_HOP beside it', (hops, octets) => {
    const attributes: Attributes = { origin: 'igp', asPath: [{ type: 'sequence', asns: [65001] }], ...hops };
    const messages = writeAnnouncements(4, attributes, codec, [parseCidr('192.0.2.0/24')], writer);
    const value = `0001 01 ${octets} 00 18 c00002`;
    const length = bytes(value).length.toString(16).padStart(2, '0');
    const [message] = messages ?? expect.fail('no room');
    expect(message?.subarray(23)).toEqual(bytes(`800e ${length} ${value} ${head}`));
  });

  test('an IPv6 next hop for a peer that does not take it is a mistake of ours', () => {
    const attributes: Attributes = { origin: 'igp', asPath: [], nextHop: global };
    const plain = { ...codec, extendedNextHop: false };
    expect(() => writeAnnouncements(4, attributes, plain, [parseCidr('192.0.2.0/24')], writer)).toThrow('next hop');
  });
});

describe('this node as next hop', () => {
  const addresses = [
    { address: parseIp('10.0.0.1'), subnet: parseCidr('10.0.0.0/24') },
    { address: parseIp('fd99::1'), subnet: parseCidr('fd99::/64') },
  ];
  const loopback = [{ address: parseIp('fd00::1'), subnet: parseCidr('fd00::1/128') }];
  const global6 = { addresses, local: parseIp('fd99::1'), peer: parseIp('fd99::2'), extendedNextHop: true };
  const linked = { ...global6, local: parseIp('fe80::1'), peer: parseIp('fe80::2') };

  test.each([
    ['IPv4 over IPv4', 4, { ...global6, peer: parseIp('10.0.0.2') }, { self: '10.0.0.1', sharedSubnet: '10.0.0.0/24' }],
    ['IPv4 over IPv6', 4, global6, { self: 'fd99::1', sharedSubnet: 'fd99::/64' }],
    ['IPv4 over IPv6, not agreed', 4, { ...global6, extendedNextHop: false }, { self: '10.0.0.1' }],
    ['over a link', 4, linked, { self: 'fd99::1', selfLinkLocal: 'fe80::1' }],
    ['IPv6 over a link', 6, linked, { self: 'fd99::1', selfLinkLocal: 'fe80::1' }],
    ['over a link, with a loopback address', 4, { ...linked, addresses: loopback }, { self: 'fe80::1' }],
    ['over a link, without an address', 6, { ...linked, addresses: [] }, { self: 'fe80::1' }],
    ['without an address that fits', 4, { ...global6, addresses: loopback, extendedNextHop: false }, undefined],
  ] as const)('%s', (_, family, ends, expected) => {
    expect(ownHop(family, ends)).toEqual(expected);
  });
});

describe('routes with IPv6 next hops', () => {
  const path: Attributes = { origin: 'igp', asPath: [{ type: 'sequence', asns: [65001] }] };
  const source = (device: string, kind: Source['kind'] = 'ebgp'): Source => ({
    name: device,
    kind,
    address: near,
    interface: device,
    identifier: parseIp('10.0.0.2'),
  });
  const route = (from: Source, hops: Partial<Attributes>): Candidate => ({
    source: from,
    attributes: { ...path, ...hops },
    stale: false,
  });

  test.each([
    [{ nextHop: near }, 'fe80::2%eth0'],
    [{ nextHop: global, linkLocal: near }, 'fe80::2%eth0'],
    [{ nextHop: global, linkLocal: parseIp('fe80::3') }, global],
    [{ nextHop: global }, global],
    [{ nextHop: parseIp('10.0.0.2') }, '10.0.0.2'],
  ])('%j leads to %s', (hops, expected) => {
    expect(hopOf(route(source('eth0'), hops))).toBe(expected);
  });

  test('the same link-local address on two links is two next hops', () => {
    const routes = ['eth0', 'eth1'].map((device) => route(source(device), { nextHop: near }));
    expect(decide(routes)?.multipath.map(hopOf)).toEqual(['fe80::2%eth0', 'fe80::2%eth1']);
  });

  const context: ExportContext = {
    family: 4,
    asn: 64512,
    external: false,
    fourOctetAs: true,
    self: parseIp('fd99::1'),
    selfLinkLocal: parseIp('fe80::1'),
    extendedNextHop: true,
    nextHopMode: 'keep',
    reflection: { clusterId: parseIp('10.0.0.1'), client: true },
  };
  const hops = (told: Attributes | undefined) => ({ nextHop: told?.nextHop, linkLocal: told?.linkLocal });

  test('a global one is passed on, alone', () => {
    const told = exported(route(source('eth0', 'ibgp'), { nextHop: global, linkLocal: near }), context);
    expect(hops(told)).toEqual({ nextHop: global, linkLocal: undefined });
  });

  test.each([
    ['a link-local one is ours in its place', { nextHop: near }, context, 'fd99::1', 'fe80::1'],
    [
      'an IPv6 one for those who do not take it',
      { nextHop: global },
      { ...context, self: parseIp('10.0.0.1'), selfLinkLocal: undefined, extendedNextHop: false },
      '10.0.0.1',
      undefined,
    ],
    ['what this node originates', {}, context, 'fd99::1', 'fe80::1'],
  ] as const)('%s', (_, received, { selfLinkLocal, ...where }, nextHop, linkLocal) => {
    const told = exported(route(source('eth0', 'ibgp'), received), {
      ...where,
      ...(selfLinkLocal ? { selfLinkLocal } : {}),
    });
    expect(hops(told)).toEqual({ nextHop, linkLocal });
  });
});
