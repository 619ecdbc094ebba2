import { endianness } from 'node:os';
import { expect, test } from 'vitest';
import {
  type Flow,
  places,
  readConnection,
  readEntries,
  readFlow,
  writeDeletion,
  writeFilteredQuery,
  writeQuery,
} from '../../../src/kernel/ctnetlink.ts';
import { MessageWriter, NetlinkFormatError } from '../../../src/kernel/rtnetlink/message.ts';
import { parseIp } from '../../../src/model/address.ts';

/* Bytes as a little-endian kernel has them. */
const little = test.runIf(endianness() === 'LE');

const bytes = (hex: string) => new Uint8Array(Buffer.from(hex.replaceAll(' ', ''), 'hex'));
const written = (body: (w: MessageWriter) => void) => {
  const w = new MessageWriter();
  body(w);
  return Buffer.from(w.written).toString('hex');
};

/** UDP 10.0.0.1:1000 → 10.0.0.2:2000 as the kernel tells it. */
const original =
  '1400 0180 0800 0100 0a000001 0800 0200 0a000002 1c00 0280 0500 0100 11000000 0600 0200 03e80000 0600 0300 07d00000';
const reply =
  '1400 0180 0800 0100 0a000002 0800 0200 0a000003 1c00 0280 0500 0100 11000000 0600 0200 07d00000 0600 0300 03e80000';
const payload = bytes(`02 00 0000 3400 0180 ${original} 3400 0280 ${reply} 0800 0c00 deadbeef 0600 1200 00070000`);

const flow: Flow = {
  family: 4,
  addresses: ['10.0.0.1', '10.0.0.2', '10.0.0.2', '10.0.0.3'].map((address) => parseIp(address)),
  tuple: bytes(original),
  id: bytes('deadbeef'),
  zone: bytes('0007'),
};

little('a flow is read with its four addresses and what names it', () => {
  expect(readFlow(payload)).toEqual(flow);
});

little('a connection is what forwarding rules see: the translated destination, the original source', () => {
  expect(readConnection(payload, flow)).toEqual({
    source: '10.0.0.1',
    destination: '10.0.0.2',
    protocol: 17,
    sourcePort: 1000,
    destinationPort: 2000,
    expected: false,
  });
  const from = reply.replace('0a000002', '0a000009').replace('07d00000', '07d10000');
  const toService = bytes(`02 00 0000 3400 0180 ${original} 3400 0280 ${from} 0800 0c00 deadbeef`);
  const service = readFlow(toService);
  expect(service && readConnection(toService, service)).toMatchObject({
    destination: '10.0.0.9',
    destinationPort: 2001,
    sentTo: { destination: '10.0.0.2', destinationPort: 2000 },
  });
  const echo = (head: string) =>
    `${head} 2400 0280 0500 0100 01000000 0600 0400 00070000 0500 0500 08000000 0500 0600 00000000`;
  const ips = (a: string, b: string) => `1400 0180 0800 0100 ${a} 0800 0200 ${b}`;
  const [there, back] = [echo(ips('0a000001', '0a000002')), echo(ips('0a000002', '0a000001'))];
  const ping = bytes(`02 00 0000 3c00 0180 ${there} 3c00 0280 ${back} 0800 0300 00000009 0800 0c00 deadbeef`);
  const found = readFlow(ping);
  expect(found && readConnection(ping, found)).toEqual({
    source: '10.0.0.1',
    destination: '10.0.0.2',
    protocol: 1,
    icmp: { type: 8, code: 0 },
    expected: true,
  });
});

little('a deletion names the flow by tuple, identifier and zone', () => {
  const body = bytes(`02 00 0000 3400 0180 ${original} 0800 0c00 deadbeef 0600 1200 00070000`);
  expect(written((w) => writeDeletion(w, flow))).toBe(Buffer.from(body).toString('hex'));
});

little('a filter asks for one place of the address', () => {
  const body = '0a 00 0000 1c00 0280 1800 0180 1400 0400 fd000000000000000000000000000001'.concat(
    '1400 1980 0800 0100 00000000 0800 0200 02000000',
  );
  const place = { direction: 'reply', side: 'destination' } as const;
  expect(places).toContainEqual(place);
  expect(written((w) => writeFilteredQuery(w, parseIp('fd00::1'), place))).toBe(body.replaceAll(' ', ''));
});

test('a query of a family is its head alone', () => {
  expect(written((w) => writeQuery(w, 4))).toBe('02000000');
  expect(written((w) => writeQuery(w, 6))).toBe('0a000000');
});

little('statistics give the number of entries, in network order', () => {
  expect(readEntries(bytes('00 00 0000 0800 0100 00000102'))).toBe(258);
  expect(() => readEntries(bytes('00 00 0000'))).toThrow(NetlinkFormatError);
});

little('a flow without tuple or identifier is passed over, so that nothing is deleted by less', () => {
  expect(readFlow(bytes(`02 00 0000 3400 0280 ${reply} 0800 0c00 deadbeef`))).toBeUndefined();
  expect(readFlow(bytes(`02 00 0000 3400 0180 ${original} 3400 0280 ${reply}`))).toBeUndefined();
  expect(readFlow(bytes('11 00 0000'))).toBeUndefined();
});

little('an address of the wrong size is refused', () => {
  const short = '1000 0180 0600 0100 0a000000 0600 0200 0a000000';
  expect(() => readFlow(bytes(`02 00 0000 1400 0180 ${short} 1400 0280 ${short} 0800 0c00 deadbeef`))).toThrow(
    NetlinkFormatError,
  );
});
