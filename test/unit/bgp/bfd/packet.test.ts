import { describe, expect, test } from 'vitest';
import { type ControlPacket, PacketError, readPacket, writePacket } from '../../../../src/bgp/bfd/packet.ts';

const up: ControlPacket = {
  diagnostic: 0,
  state: 'Up',
  poll: true,
  final: false,
  independent: false,
  demand: false,
  multiplier: 3,
  myDiscriminator: 0x01020304,
  yourDiscriminator: 0xa0b0c0d0,
  desiredMinTxUs: 300_000,
  requiredMinRxUs: 100_000,
  requiredMinEchoRxUs: 0,
};
const octets = '20e0031801020304a0b0c0d0000493e0000186a000000000';

const bytes = (hex: string): Uint8Array => Uint8Array.from(Buffer.from(hex, 'hex'));

/** The packet with some octets replaced. */
function patched(changes: Readonly<Record<number, number>>): Uint8Array {
  const packet = bytes(octets);
  for (const [at, value] of Object.entries(changes)) packet[Number(at)] = value;
  return packet;
}

test('a packet and its octets', () => {
  expect(Buffer.from(writePacket(up)).toString('hex')).toBe(octets);
  expect(readPacket(bytes(octets))).toEqual(up);
});

test.each([
  ['Down, detection time expired', '2140031801020304000000000001', { diagnostic: 1, state: 'Down', poll: false }],
  ['AdminDown', '2700031801020304000000000001', { diagnostic: 7, state: 'AdminDown' }],
  ['Init with the final bit', '2090031801020304000000010001', { state: 'Init', final: true, poll: false }],
  ['Up, independent, on demand', '20ca051801020304000000010001', { independent: true, demand: true, multiplier: 5 }],
])('%s', (_, head, fields) => {
  expect(readPacket(bytes(head.padEnd(48, '0')))).toMatchObject(fields);
});

test('octets past the packet are no part of it', () => {
  expect(readPacket(bytes(`${octets}ffff`))).toEqual(up);
});

describe('discarded, RFC 5880 §6.8.6', () => {
  test.each<[string, string, Uint8Array]>([
    ['version', 'version 0', patched({ 0: 0x00 })],
    ['version', 'version 2', patched({ 0: 0x40 })],
    ['length', 'length 23', patched({ 3: 23 })],
    ['length', 'a length past the datagram', patched({ 3: 25 })],
    ['multiplier', 'multiplier 0', patched({ 2: 0 })],
    ['flags', 'the multipoint bit', patched({ 1: 0xe1 })],
    ['flags', 'authentication that was not agreed on', patched({ 1: 0xe4 })],
    ['myDiscriminator', 'no discriminator of the sender', patched({ 4: 0, 5: 0, 6: 0, 7: 0 })],
    ['yourDiscriminator', 'Up without our discriminator', patched({ 8: 0, 9: 0, 10: 0, 11: 0 })],
    ['version', 'nothing', new Uint8Array(0)],
    ['length', 'half a packet', bytes(octets.slice(0, 24))],
  ])('%s: %s', (field, _, packet) => {
    const read = () => readPacket(packet);
    expect(read).toThrow(PacketError);
    expect(read).toThrow(new RegExp(`^${field}: `));
  });
});
