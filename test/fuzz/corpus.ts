import type { Attributes } from '../../src/bgp/wire/attributes.ts';
import { writeMessage } from '../../src/bgp/wire/message.ts';
import { blockOf } from '../../src/bgp/wire/nlri.ts';
import { writeAnnouncements, writeEndOfRib, writeWithdrawals } from '../../src/bgp/wire/write-update.ts';
import { type Cidr, type Family, parseCidr, parseIp } from '../../src/model/address.ts';

const prefixes: Readonly<Record<Family, readonly Cidr[]>> = {
  4: ['0.0.0.0/0', '10.65.0.0/26', '192.0.2.0/24', '198.51.100.7/32'].map((text) => parseCidr(text)),
  6: ['::/0', '2001:db8::/32', 'fd65:1::/122', '2001:db8::1/128'].map((text) => parseCidr(text)),
};

/** Encodes prefixes that are text. */
export const cidrWriter = (family: Family) => ({
  size: (item: Cidr) => blockOf(family, [item]).octets.length,
  write: (w: { bytes(octets: Uint8Array): void }, item: Cidr) => w.bytes(blockOf(family, [item]).octets),
});

const rich: Attributes = {
  origin: 'egp',
  asPath: [
    { type: 'sequence', asns: [4200000001, 65001, 7] },
    { type: 'set', asns: [1, 2, 3] },
  ],
  med: 50,
  localPref: 200,
  atomicAggregate: true,
  aggregator: { asn: 4200000001, address: parseIp('10.0.0.9') },
  communities: [0xfde90001, 0xffffff01],
  extendedCommunities: ['0002fde900000001'],
  largeCommunities: [[4200000001, 1, 2]],
  originatorId: parseIp('10.0.0.7'),
  clusterList: [parseIp('10.0.0.1'), parseIp('10.0.0.2')],
  unknown: [{ code: 99, flags: 0xc0, value: Uint8Array.of(1, 2, 3, 4) }],
};
const plain: Attributes = { origin: 'igp', asPath: [{ type: 'sequence', asns: [65001] }] };

const opens = [
  writeMessage({
    type: 'open',
    open: {
      asn: 23456,
      holdSeconds: 90,
      identifier: parseIp('10.0.0.2'),
      capabilities: [
        { capability: 'multiprotocol', family: 4 },
        { capability: 'multiprotocol', family: 6 },
        { capability: 'routeRefresh' },
        { capability: 'enhancedRefresh' },
        { capability: 'extendedMessages' },
        {
          capability: 'gracefulRestart',
          restarted: true,
          notification: true,
          restartSeconds: 120,
          families: [{ family: 4, preserved: true }],
        },
        { capability: 'fourOctetAs', asn: 4200000001 },
        { capability: 'unknown', code: 73, value: Uint8Array.of(1, 65, 0) },
      ],
    },
  }),
  writeMessage({
    type: 'open',
    open: { asn: 65001, holdSeconds: 0, identifier: parseIp('10.0.0.3'), capabilities: [] },
  }),
];

function updates(family: Family): Uint8Array[] {
  const nextHop = parseIp(family === 4 ? '10.0.0.2' : 'fd99::2');
  const found: Uint8Array[] = [];
  for (const fourOctetAs of [true, false]) {
    for (const attributes of [plain, rich]) {
      const codec = { fourOctetAs, external: false };
      const writer = cidrWriter(family);
      const told = { ...attributes, nextHop };
      found.push(...(writeAnnouncements(family, told, codec, prefixes[family], writer) ?? []));
    }
  }
  return [...found, ...writeWithdrawals(family, prefixes[family], cidrWriter(family)), writeEndOfRib(family)];
}

/** Whole, valid messages of every kind. */
export const corpus: readonly Uint8Array[] = [
  ...opens,
  ...updates(4),
  ...updates(6),
  writeMessage({ type: 'keepalive' }),
  writeMessage({ type: 'refresh', family: 4 }),
  writeMessage({ type: 'refresh', family: 6 }),
  writeMessage({
    type: 'notification',
    notification: { code: 6, subcode: 2, data: Uint8Array.of(3, 98, 121, 101) },
  }),
];
