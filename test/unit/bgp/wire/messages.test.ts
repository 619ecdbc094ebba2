import { describe, expect, test } from 'vitest';
import type { WireError } from '../../../../src/bgp/wire/errors.ts';
import { readFrame } from '../../../../src/bgp/wire/framing.ts';
import { readRefresh, writeMessage } from '../../../../src/bgp/wire/message.ts';
import {
  describeNotification,
  hardened,
  isFinal,
  notificationOf,
  readNotification,
} from '../../../../src/bgp/wire/notification.ts';
import { asnOf, asTrans, type Open, readOpen } from '../../../../src/bgp/wire/open.ts';
import { parseIp } from '../../../../src/model/address.ts';

const bytes = (hex: string) => Uint8Array.from(Buffer.from(hex.replaceAll(' ', ''), 'hex'));
const marker = 'ff'.repeat(16);

function errorOf(action: () => unknown): Partial<WireError> {
  try {
    action();
  } catch (thrown) {
    const { code, subcode, data, remedy } = thrown as WireError;
    return { code, subcode, remedy, data };
  }
  return expect.fail('no error');
}

describe('framing', () => {
  test('a KEEPALIVE is the header alone', () => {
    const message = bytes(`${marker} 0013 04`);
    expect(writeMessage({ type: 'keepalive' })).toEqual(message);
    expect(readFrame(message)).toEqual({ type: 'keepalive', body: new Uint8Array(0), length: 19 });
  });

  test.each([0, 1, 15, 16, 18])('%d octets of a header are incomplete', (length) => {
    expect(readFrame(bytes(`${marker} 0013 04`).slice(0, length))).toBeUndefined();
  });

  test('a header is judged before its body arrives', () => {
    expect(errorOf(() => readFrame(bytes(`${marker} 1001 02`)))).toEqual({
      code: 'header',
      subcode: 2,
      remedy: 'reset',
      data: bytes('1001'),
    });
  });

  test('longer messages are taken where both sides allow them, but for OPEN and KEEPALIVE', () => {
    const long = Uint8Array.of(...bytes(`${marker} 2000 02`), ...new Uint8Array(0x2000 - 19));
    expect(readFrame(long, 0, 65535)?.length).toBe(0x2000);
    expect(errorOf(() => readFrame(long))).toMatchObject({ subcode: 2, data: bytes('2000') });
    expect(errorOf(() => readFrame(bytes(`${marker} 2000 01`), 0, 65535))).toMatchObject({ subcode: 2 });
  });

  test.each([
    ['a marker that is not all ones', 'fffe', 1, ''],
    ['a length under 19', `${marker} 0012 04`, 2, '0012'],
    ['a KEEPALIVE with a body', `${marker} 0014 04 00`, 2, '0014'],
    ['an OPEN too short', `${marker} 001c 01`, 2, '001c'],
    ['an UPDATE too short', `${marker} 0016 02`, 2, '0016'],
    ['an unknown type', `${marker} 0013 06`, 3, '06'],
  ])('%s', (_, hex, subcode, data) => {
    expect(errorOf(() => readFrame(bytes(hex)))).toMatchObject({ code: 'header', subcode, data: bytes(data) });
  });
});

const open: Open = {
  asn: asTrans,
  holdSeconds: 90,
  identifier: parseIp('10.0.0.1'),
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
      families: [
        { family: 4, preserved: true },
        { family: 6, preserved: false },
      ],
    },
    { capability: 'longLivedRestart', families: [{ family: 4, preserved: true, staleSeconds: 0x015180 }] },
    { capability: 'fourOctetAs', asn: 4200000001 },
  ],
};

describe('OPEN', () => {
  const body =
    '04 5ba0 005a 0a000001 2f 02 2d 01 04 0001 00 01 01 04 0002 00 01 02 00 46 00 06 00 40 0a c078 0001 01 80 0002 01 00 47 07 0001 01 80 015180 41 04 fa56ea01';

  test('with every capability', () => {
    expect(writeMessage({ type: 'open', open })).toEqual(bytes(`${marker} 004c 01 ${body}`));
    expect(readOpen(bytes(body))).toEqual(open);
    expect(asnOf(open)).toBe(4200000001);
  });

  test('without capabilities', () => {
    expect(readOpen(bytes('04 fde9 00b4 0a000002 00'))).toEqual({
      asn: 65001,
      holdSeconds: 180,
      identifier: '10.0.0.2',
      capabilities: [],
    });
  });

  test('capabilities in several parameters, unknown ones and empty parameters are taken', () => {
    const { capabilities } = readOpen(bytes('04 fde9 00b4 0a000002 0c 02 00 02 02 02 00 02 04 49 02 6869'));
    expect(capabilities).toEqual([
      { capability: 'routeRefresh' },
      { capability: 'unknown', code: 73, value: bytes('6869') },
    ]);
  });

  test('families that we do not know are unknown capabilities', () => {
    const { capabilities } = readOpen(bytes('04 fde9 00b4 0a000002 08 02 06 01 04 4004 00 47'));
    expect(capabilities).toEqual([{ capability: 'unknown', code: 1, value: bytes('40040047') }]);
  });

  test('the extended parameter length of RFC 9072', () => {
    expect(readOpen(bytes('04 fde9 00b4 0a000002 ff ff 0005 02 0002 02 00')).capabilities).toEqual([
      { capability: 'routeRefresh' },
    ]);
  });

  test('capabilities too long for the plain form take the extended one, and come back', () => {
    const many = Array.from({ length: 43 }, (_, asn) => ({ capability: 'fourOctetAs', asn }) as const);
    const long: Open = { ...open, asn: 1, capabilities: many };
    const { body: written } = readFrame(writeMessage({ type: 'open', open: long })) ?? expect.fail('incomplete');
    expect(written.slice(9, 16)).toEqual(bytes('ff ff 0105 02 0102'));
    expect(readOpen(written)).toEqual(long);
    const fits: Open = { ...long, capabilities: many.slice(1) };
    const { body: plain } = readFrame(writeMessage({ type: 'open', open: fits })) ?? expect.fail('incomplete');
    expect(plain.slice(9, 12)).toEqual(bytes('fe 02 fc'));
    expect(readOpen(plain)).toEqual(fits);
  });

  test.each([
    ['version 3', '03 fde9 00b4 0a000002 00', 1, '0004'],
    ['an authentication parameter', '04 fde9 00b4 0a000002 03 01 01 00', 4, ''],
    ['parameters longer than the message', '04 fde9 00b4 0a000002 09', 0, ''],
    ['parameters shorter than the message', '04 fde9 00b4 0a000002 00 00', 0, ''],
    ['a parameter that overruns', '04 fde9 00b4 0a000002 02 02 05', 0, ''],
    ['a capability that overruns', '04 fde9 00b4 0a000002 04 02 02 41 04', 0, ''],
    ['a multiprotocol capability of three octets', '04 fde9 00b4 0a000002 07 02 05 01 03 000100', 0, ''],
    ['a long-lived restart capability of six octets', '04 fde9 00b4 0a000002 0a 02 08 47 06 000101800000', 0, ''],
    ['an enhanced refresh capability with a value', '04 fde9 00b4 0a000002 05 02 03 46 01 00', 0, ''],
    ['an extended message capability with a value', '04 fde9 00b4 0a000002 05 02 03 06 01 00', 0, ''],
    ['a graceful restart capability of three octets', '04 fde9 00b4 0a000002 07 02 05 40 03 000100', 0, ''],
  ])('%s is refused', (_, hex, subcode, data) => {
    expect(errorOf(() => readOpen(bytes(hex)))).toMatchObject({ code: 'open', subcode, data: bytes(data) });
  });
});

describe('NOTIFICATION', () => {
  test('code, subcode and data', () => {
    const notification = { code: 2, subcode: 1, data: bytes('0004') };
    expect(writeMessage({ type: 'notification', notification })).toEqual(bytes(`${marker} 0017 03 0201 0004`));
    expect(readNotification(bytes('0201 0004'))).toEqual(notification);
  });

  test('is described in words, with a shutdown text made safe', () => {
    expect(describeNotification({ code: 4, subcode: 0, data: bytes('') })).toBe('hold/0 (4/0)');
    const data = Uint8Array.of(5, ...Buffer.from('bye\u001b!'));
    expect(describeNotification({ code: 6, subcode: 2, data })).toBe('cease/shutdown (6/2) "bye\ufffd!"');
    expect(describeNotification({ code: 6, subcode: 2, data: Uint8Array.of(200, 65) })).toBe(
      'cease/shutdown (6/2) "A"',
    );
    expect(describeNotification({ code: 99, subcode: 7, data: bytes('') })).toBe('99/7 (99/7)');
  });

  test('that is meant for good is wrapped in a hard reset', () => {
    const shutdown = { code: 6, subcode: 2, data: bytes('03 627965') };
    const wrapped = { code: 6, subcode: 9, data: bytes('0602 03 627965') };
    expect(hardened(shutdown)).toEqual(wrapped);
    expect(describeNotification(wrapped)).toBe('cease/hardReset (6/9): cease/shutdown (6/2) "bye"');
    expect([shutdown, wrapped].map(isFinal)).toEqual([true, true]);
    for (const passing of [
      { code: 6, subcode: 4, data: bytes('') },
      { code: 4, subcode: 0, data: bytes('') },
      { code: 3, subcode: 2, data: bytes('') },
    ]) {
      expect(hardened(passing)).toEqual(passing);
      expect(isFinal(passing)).toBe(false);
    }
    const endless = bytes('0609'.repeat(30_000));
    expect(describeNotification({ code: 6, subcode: 9, data: endless })).toBe('cease/hardReset (6/9)');
  });

  test('an error in the header becomes 1/x with its data', () => {
    try {
      readFrame(bytes(`${marker} 0013 2a`));
      expect.fail('no error');
    } catch (thrown) {
      expect(notificationOf(thrown as WireError)).toEqual({ code: 1, subcode: 3, data: bytes('2a') });
    }
  });
});

describe('ROUTE-REFRESH', () => {
  test('asks for a family', () => {
    expect(writeMessage({ type: 'refresh', family: 6 })).toEqual(bytes(`${marker} 0017 05 0002 00 01`));
    expect(readRefresh(bytes('0001 00 01'))).toEqual({ family: 4, subtype: 'request' });
  });

  test('marks begin and end of repeated routes', () => {
    const begin = { type: 'refresh', family: 4, subtype: 'begin' } as const;
    expect(writeMessage(begin)).toEqual(bytes(`${marker} 0017 05 0001 01 01`));
    expect(writeMessage({ ...begin, subtype: 'end' })).toEqual(bytes(`${marker} 0017 05 0001 02 01`));
    expect(readRefresh(bytes('0002 01 01'))).toEqual({ family: 6, subtype: 'begin' });
    expect(readRefresh(bytes('0002 02 01'))).toEqual({ family: 6, subtype: 'end' });
    expect(readRefresh(bytes('0002 03 01'))).toBeUndefined();
  });

  test('of an unknown family is ignored, of a wrong length refused with 7/1', () => {
    expect(readRefresh(bytes('0001 00 80'))).toBeUndefined();
    expect(errorOf(() => readRefresh(bytes('0001 00')))).toMatchObject({ code: 'refresh', subcode: 1 });
  });
});
