import { endianness } from 'node:os';
import { expect, test } from 'vitest';
import { readPacketHead } from '../../../src/kernel/ip-header.ts';
import { readLogged, writeBind } from '../../../src/kernel/nflog.ts';
import { MessageWriter, NetlinkFormatError } from '../../../src/kernel/rtnetlink/message.ts';

/* Bytes as a little-endian kernel has them. */
const little = test.runIf(endianness() === 'LE');
const bytes = (hex: string) => new Uint8Array(Buffer.from(hex.replaceAll(' ', ''), 'hex'));

little('binding to a group says how much and how often', () => {
  const w = new MessageWriter();
  writeBind(w, { group: 0x0150, copy: 128, datagram: 16384, gather: 64, gatherFor: 10 });
  expect(Buffer.from(w.written).toString('hex')).toBe(
    [
      ...['00000150', '0500010001000000', '0a000200', '000000800200', '0000'],
      ...['08000300', '00004000', '08000400', '0000000a', '08000500', '00000040', '060006000001', '0000'],
    ].join(''),
  );
});

little('a logged packet', () => {
  const logged = readLogged(bytes('02 00 0050 0800 0c00 00000102 0800 0a00 447c6100 0600 0900 4500 0000'));
  expect(logged).toEqual({ prefix: 'D|a', sequence: 258, packet: bytes('4500') });
});

little('a logged packet without a number is refused', () => {
  expect(() => readLogged(bytes('02 00 0050 0800 0a00 447c6100'))).toThrow(NetlinkFormatError);
});

const addresses4 = '0a000001 0a000002';
const addresses6 = `fd00${'00'.repeat(13)}01 fd00${'00'.repeat(13)}02`;
const ends4 = { family: 4, source: '10.0.0.1', destination: '10.0.0.2' };
const ends6 = { family: 6, source: 'fd00::1', destination: 'fd00::2' };
const ports = { sourcePort: 40000, destinationPort: 80 };

test.each<[string, string, object | undefined]>([
  ['TCP', `45000028 00000000 40060000 ${addresses4} 9c400050`, { ...ends4, protocol: 6, ...ports }],
  ['options', `46000028 00000000 40110000 ${addresses4} 01010101 9c400050`, { ...ends4, protocol: 17, ...ports }],
  ['an echo', `4500001c 00000000 40010000 ${addresses4} 0800`, { ...ends4, protocol: 1, icmp: { type: 8, code: 0 } }],
  ['a later fragment', `4500001c 00000001 40110000 ${addresses4} 9c400050`, { ...ends4, protocol: 17 }],
  ['no ports copied', `4500001c 00000000 40840000 ${addresses4} 9c40`, { ...ends4, protocol: 132 }],
  ['GRE', `4500001c 00000000 402f0000 ${addresses4} 9c400050`, { ...ends4, protocol: 47 }],
  ['too short', '4500001c 00000000 40060000 0a000001', undefined],
  ['a header of no length', `4400001c 00000000 40060000 ${addresses4}`, undefined],
  ['no IP', '00', undefined],
  ['nothing', '', undefined],
  ['IPv6 UDP', `60000000 00081140 ${addresses6} 9c400050`, { ...ends6, protocol: 17, ...ports }],
  [
    'neighbour discovery',
    `60000000 00083aff ${addresses6} 8700`,
    { ...ends6, protocol: 58, icmp: { type: 135, code: 0 } },
  ],
  [
    'extension headers',
    `60000000 00080040 ${addresses6} 3c00000000000000 0601000000000000 0000000000000000 9c400050`,
    { ...ends6, protocol: 6, ...ports },
  ],
  [
    'an authentication header',
    `60000000 00083340 ${addresses6} 0601000000000000 00000000 9c400050`,
    { ...ends6, protocol: 6, ...ports },
  ],
  [
    'a first fragment',
    `60000000 00082c40 ${addresses6} 0600000100000000 9c400050`,
    { ...ends6, protocol: 6, ...ports },
  ],
  ['a later IPv6 fragment', `60000000 00082c40 ${addresses6} 0600000900000000 9c400050`, { ...ends6, protocol: 6 }],
  ['IPv6 too short', '60000000 00081140', undefined],
])('the head of a packet: %s', (_, hex, expected) => {
  expect(readPacketHead(bytes(hex))).toEqual(expected);
});
