import { expect, test } from 'vitest';
import { type DumpPeer, tableDump } from '../../../src/bgp/mrt.ts';
import type { Candidate } from '../../../src/bgp/rib.ts';
import { parseCidr, parseIp } from '../../../src/model/address.ts';

const peers: DumpPeer[] = [
  { name: 'local', identifier: parseIp('10.0.0.1'), address: parseIp('10.0.0.1'), asn: 64512 },
  { name: 'tor', identifier: parseIp('10.0.0.2'), address: parseIp('fd00::2'), asn: 4200000001 },
];

function candidate(name: string, nextHop?: string): Candidate {
  return {
    source: { name, kind: 'ebgp', identifier: parseIp('10.0.0.2') },
    attributes: {
      origin: 'igp',
      asPath: [{ type: 'sequence', asns: [4200000001] }],
      ...(nextHop ? { nextHop: parseIp(nextHop) } : {}),
    },
    stale: false,
  };
}

const hex = (octets: Uint8Array | undefined): string => Buffer.from(octets ?? []).toString('hex');
const seconds = 0x65000000;
const identifier = parseIp('10.0.0.1');

test('the index of the peers: header, identifier, an empty name, then a peer each', () => {
  const [index] = tableDump({ seconds, identifier, peers, routes: [] });
  expect(hex(index)).toBe(
    [
      '65000000 000d 0001 0000002e',
      '0a000001 0000 0002',
      '02 0a000001 0a000001 0000fc00',
      '03 0a000002 fd000000000000000000000000000002 fa56ea01',
    ]
      .join('')
      .replaceAll(' ', ''),
  );
});

test('an IPv4 prefix with its path, and an IPv6 one whose MP_REACH_NLRI is the next hop alone', () => {
  const routes = [
    { prefix: parseCidr('192.0.2.0/24'), candidates: [candidate('tor', '10.0.0.9')] },
    { prefix: parseCidr('198.51.100.0/22'), candidates: [candidate('local')] },
    { prefix: parseCidr('2001:db8::/32'), candidates: [candidate('tor', 'fd00::9')] },
  ];
  const records = [...tableDump({ seconds, identifier, peers, routes })].slice(1).map(hex);
  const shared = '40010100 400206 0201fa56ea01';
  expect(records).toEqual(
    [
      `65000000 000d 0002 00000026 00000000 18c00002 0001 0001 65000000 0014 ${shared} 4003040a000009`,
      `65000000 000d 0002 00000026 00000001 16c63364 0001 0000 65000000 0014 ${shared} 40030400000000`,
      `65000000 000d 0004 00000034 00000000 2020010db8 0001 0001 65000000 0021 ${shared}
       800e11 10 fd000000000000000000000000000009`,
    ].map((octets) => octets.replaceAll(/\s/g, '')),
  );
});

test('candidates of peers that are not in the index are left out, and prefixes that only they have', () => {
  const routes = [
    { prefix: parseCidr('192.0.2.0/24'), candidates: [candidate('late', '10.0.0.9')] },
    { prefix: parseCidr('192.0.3.0/24'), candidates: [candidate('late', '10.0.0.9'), candidate('tor', '10.0.0.9')] },
  ];
  const [, only, ...rest] = tableDump({ seconds, identifier, peers, routes });
  expect(rest).toEqual([]);
  expect(hex(only)).toContain('18c0000300010001');
});
