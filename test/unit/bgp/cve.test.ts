import { describe, expect, test } from 'vitest';
import { rejectAttributes } from '../../../src/bgp/importing.ts';
import { defaultLimits } from '../../../src/bgp/limits.ts';
import type { Attributes, Codec } from '../../../src/bgp/wire/attributes.ts';
import { WireError } from '../../../src/bgp/wire/errors.ts';
import { readFrame, writeFrame } from '../../../src/bgp/wire/framing.ts';
import { cidrsOf } from '../../../src/bgp/wire/nlri.ts';
import { describeNotification, readNotification } from '../../../src/bgp/wire/notification.ts';
import { readOpen } from '../../../src/bgp/wire/open.ts';
import { readUpdate, type Update } from '../../../src/bgp/wire/update.ts';
import { writeAnnouncements } from '../../../src/bgp/wire/write-update.ts';
import { type Family, parseIp } from '../../../src/model/address.ts';
import { cidrWriter } from '../../fuzz/corpus.ts';

/*
 * Published crashes of BGP speakers, each as octets of its kind. None may do more here than the remedy that the RFCs name:
 * a reset with its code, a withdrawal, or an attribute that is left out or passed on unread. Those of parsers of MRT and
 * BMP (CVE-2026-7736, CVE-2026-7737 of GoBGP) are not here: the speaker writes both and reads neither.
 */

const bytes = (hex: string) => Uint8Array.from(Buffer.from(hex.replaceAll(' ', ''), 'hex'));
const both: ReadonlySet<Family> = new Set<Family>([4, 6]);
const external: Codec = { fourOctetAs: true, external: true };
const old: Codec = { fourOctetAs: false, external: true };

const origin = '400101 00';
const path = '400206 02 01 0000fde9';
const nextHop = '400304 0a000002';
const good = `${origin}${path}${nextHop}`;
const nlri = '18 c00002';

function update(attributes: string, announced = nlri, codec = external, withdrawn = ''): Update {
  const [w, a, n] = [bytes(withdrawn), bytes(attributes), bytes(announced)];
  const body = Uint8Array.of(w.length >> 8, w.length & 255, ...w, a.length >> 8, a.length & 255, ...a, ...n);
  return readUpdate(body, codec, both);
}

/** The code and subcode that the session ends with. */
function reset(read: () => unknown): string {
  try {
    read();
  } catch (thrown) {
    if (thrown instanceof WireError && thrown.remedy === 'reset') return `${thrown.code}/${thrown.subcode}`;
    throw thrown;
  }
  return 'none';
}

const context = {
  asns: [64512],
  allowedLocalAs: 0,
  identifier: parseIp('10.0.0.1'),
  clusterId: parseIp('10.0.0.1'),
  peerAsn: 65001,
  external: true,
  ownAddresses: new Set([parseIp('10.0.0.1')]),
  acceptDefault: false,
  limits: defaultLimits,
};

function withdrawn(found: Update): void {
  expect(found.announced).toEqual([]);
  expect(found.withdrawn.flatMap(cidrsOf)).toContain('192.0.2.0/24');
  expect(found.faults.map(({ remedy }) => remedy)).toContain('withdraw');
}

function announced(found: Update): Attributes {
  return found.announced[0]?.attributes ?? expect.fail('nothing announced');
}

describe('OPEN', () => {
  const start = '04 fde9 00b4 0a000002';
  test.each([
    ['CVE-2022-40302 (FRR): extended parameters that end after their mark', `${start} ff ff`],
    ['CVE-2022-40302 (FRR): extended parameters shorter than told', `${start} ff ff 0010 02 0002 0200`],
    ['CVE-2022-40318 (FRR): an extended parameter without its length', `${start} ff ff 0002 02 00`],
    ['CVE-2022-43681 (FRR): a parameter that is its type only', `${start} 01 02`],
    ['CVE-2022-43681 (FRR): a capability that overruns its parameter', `${start} 04 02 02 41 ff`],
    ['CVE-2023-46565 (GoBGP): parameters longer than the message', `${start} 10 02 06 01 04 00 01 00 01`],
    ['CVE-2025-43971 (GoBGP): a four-octet AS capability of no octets', `${start} 04 02 02 41 00`],
    ['CVE-2025-43971 (GoBGP): a graceful restart capability of one octet', `${start} 05 02 03 40 01 00`],
    ['CVE-2025-43973 (GoBGP): a capability of its code only', `${start} 03 02 01 41`],
  ])('%s', (_, hex) => {
    expect(reset(() => readOpen(bytes(hex)))).toBe('open/0');
  });

  test('CVE-2025-43970 (GoBGP): a software version capability whose inner length lies is left unread', () => {
    for (const value of ['4b 00', '4b 01 00', '4b 01 ff', '4b 03 09 41 42']) {
      const capability = bytes(value);
      const head = bytes(start);
      const open = Uint8Array.of(...head, capability.length + 2, 2, capability.length, ...capability);
      expect(readOpen(open).capabilities).toMatchObject([{ capability: 'unknown', code: 75 }]);
    }
  });
});

describe('NOTIFICATION', () => {
  test('CVE-2025-59688 (BIRD 3): every code, subcode and length of data can be read and shown', () => {
    for (let code = 0; code < 256; code++) {
      for (const subcode of [0, 2, 4, 255]) {
        for (const data of ['', '00', 'ff', 'ff 41', '03 41', '02 c3 28']) {
          const message = writeFrame('notification', (w) => w.bytes(Uint8Array.of(code, subcode, ...bytes(data))));
          const frame = readFrame(message) ?? expect.fail('incomplete');
          expect(describeNotification(readNotification(frame.body))).toContain(`(${code}/${subcode})`);
        }
      }
    }
  });
});

describe('UPDATE: paths and lengths', () => {
  test('CVE-2026-49943 (BIRD): a path as long as a message holds is read, and refused by the limit', () => {
    const segment = `02 ff ${'0000fde9'.repeat(255)}`;
    const value = bytes(segment.repeat(3));
    const header = `50 02 ${value.length.toString(16).padStart(4, '0')}`;
    const attributes = announced(update(`${origin}${header}${Buffer.from(value).toString('hex')}${nextHop}`));
    expect(rejectAttributes(attributes, context)).toBe('asPathTooLong');
  });

  test('GHSA-frrj-87jh-2772 (GoBGP): an AS_PATH of no octets from another AS is refused at import', () => {
    const attributes = announced(update(`${origin}4002 00${nextHop}`));
    expect(rejectAttributes(attributes, context)).toBe('firstAs');
  });

  test('CVE-2026-30405 (GoBGP): a NEXT_HOP of three octets', () => withdrawn(update(`${origin}${path}400303 0a0000`)));

  test.each([
    ['of no octets', '4002 00'],
    ['with an empty segment', '4002 02 02 00'],
    ['with a segment that overruns', '4002 06 02 09 0000fde9'],
    ['of a single octet', '4002 01 02'],
  ])('CVE-2026-37461 (GoBGP): an AS_PATH %s', (what, attribute) => {
    const found = update(`${origin}${attribute}${nextHop}`);
    // An empty path is well-formed; a neighbour in another AS may not send it, which import refuses.
    if (what === 'of no octets') expect(announced(found).asPath).toEqual([]);
    else withdrawn(found);
  });

  test('CVE-2026-41642 (GoBGP): an unknown well-known attribute', () => {
    expect(reset(() => update(`${good} 40 63 01 00`))).toBe('update/2');
  });

  test('CVE-2026-41643 (GoBGP): AS4_PATH before, without and longer than AS_PATH', () => {
    const as4 = 'c011 06 02 01 fa56ea01';
    const two = '400204 02 01 5ba0';
    expect(announced(update(`${as4}${origin}${two}${nextHop}`, nlri, old)).asPath).toEqual([
      { type: 'sequence', asns: [4200000001] },
    ]);
    withdrawn(update(`${as4}${origin}${nextHop}`, nlri, old));
    const longer = 'c011 0a 02 02 fa56ea01 fa56ea02';
    expect(announced(update(`${origin}${two}${nextHop}${longer}`, nlri, old)).asPath).toEqual([
      { type: 'sequence', asns: [23456] },
    ]);
  });

  test('CVE-2026-42285 (GoBGP): a withdrawal of what was never announced, with attributes or none', () => {
    for (const attributes of ['', good]) {
      const found = update(attributes, '', external, nlri);
      expect(found.withdrawn.flatMap(cidrsOf)).toEqual(['192.0.2.0/24']);
      expect(found.announced).toEqual([]);
    }
  });

  test('CVE-2025-43972 (GoBGP): every attribute code with a length of 0, 1 and 255 of nothing', () => {
    for (let code = 0; code < 256; code++) {
      for (const flags of [0x40, 0x80, 0xc0, 0xd0]) {
        for (const rest of ['00', '01 00', '0000', 'ff', 'ffff']) {
          const attribute = `${Buffer.from([flags, code]).toString('hex')} ${rest}`;
          for (const codec of [external, old]) {
            const outcome = reset(() => update(`${good} ${attribute}`, nlri, codec));
            expect(outcome).toMatch(/^none$|^update\/\d+$/);
          }
        }
      }
    }
  });
});

describe('UPDATE: multiprotocol', () => {
  test.each([
    ['no octets', '80 0e 00'],
    ['an AFI only', '80 0e 02 0002'],
    ['a next hop that overruns', '80 0e 05 0002 01 10 20'],
    ['a next hop of no octets', '80 0e 05 0002 01 00 00'],
    ['no reserved octet', '80 0e 14 0002 01 10 20010db8000000000000000000000001'],
  ])('CVE-2023-46752 (FRR): MP_REACH_NLRI with %s', (_, attribute) => {
    expect(reset(() => update(`${origin}${path}${attribute}`, ''))).toBe('update/9');
  });

  test.each([
    ['ORIGIN', `${path}${nextHop}`],
    ['AS_PATH', `${origin}${nextHop}`],
    ['NEXT_HOP', `${origin}${path}`],
    ['every mandatory attribute', ''],
  ])('CVE-2023-46753 (FRR): without %s', (_, attributes) => withdrawn(update(attributes)));

  test('CVE-2023-47234 (FRR): MP_UNREACH_NLRI beside NLRI without mandatory attributes', () => {
    withdrawn(update('80 0f 04 0002 01 00'));
  });

  test('CVE-2023-47235 (FRR): what looks like an end-of-RIB mark but carries more is none', () => {
    const found = update(`80 0f 03 0002 01 ${origin}`, '');
    expect(found.endOfRib).toBeUndefined();
    expect(found.announced).toEqual([]);
  });

  test('CVE-2026-37457 (FRR): FlowSpec that was never negotiated is left unread', () => {
    const found = update(`${good} 80 0e 0a 0001 85 00 00 f001ff0102`);
    expect(found.faults).toMatchObject([{ remedy: 'discard', field: 'MP_REACH_NLRI' }]);
    expect(found.announced).toHaveLength(1);
  });
});

describe('UPDATE: attributes that we do not read', () => {
  test.each([
    ['CVE-2023-38802 (FRR): a tunnel encapsulation whose TLV overruns', 'c0 17 06 0008 ffff 0102'],
    ['CVE-2024-44070 (FRR): a tunnel encapsulation without its TLV length', 'c0 17 02 0008'],
    ['CVE-2026-37459 (FRR): a prefix SID whose TLV underflows', 'c0 28 03 01 0000'],
    ['CVE-2026-7734 (GoBGP): a prefix SID with an SRv6 L3 service of one octet', 'c0 28 04 05 0001 00'],
    ['CVE-2026-37460 (FRR): a VNC attribute of one octet', 'c0 ff 01 00'],
    ['OTC of October 2025 (BIRD 2.0.8): a wrong length', 'c0 23 03 00fde9'],
    ['CVE-2026-37462 (GoBGP): an AIGP of a TLV without value, made transitive', 'c0 1a 02 01 00'],
  ])('%s is passed on as it came, with the partial bit', (_, hex) => {
    const attributes = announced(update(`${good}${hex}`));
    const value = bytes(hex).subarray(3);
    expect(attributes.unknown).toMatchObject([{ value }]);
    const codec = { fourOctetAs: true, external: false };
    const [message] =
      writeAnnouncements(4, attributes, codec, cidrsOf({ family: 4, octets: bytes(nlri) }), cidrWriter(4)) ?? [];
    const sent = Buffer.from(message ?? expect.fail('nothing written')).toString('hex');
    const [, code = 0, length = 0] = bytes(hex);
    expect(sent).toContain(Buffer.from([0xe0, code, length, ...value]).toString('hex'));
  });

  test.each([
    ['ORIGIN', '400101 09', ''],
    ['AS_PATH', '400203 09 01 00', ''],
    ['MULTI_EXIT_DISC', '800403 000001', good],
    ['COMMUNITIES', 'c00803 fde900', good],
    ['EXTENDED COMMUNITIES', 'c01007 0002fde9000000', good],
    ['LARGE_COMMUNITY', 'c0200b 0000000100000002000000', good],
  ])('VU#347067: a malformed %s withdraws the routes and keeps the session', (_, attribute, others) => {
    const rest = others || (attribute.startsWith('400101') ? `${path}${nextHop}` : `${origin}${nextHop}`);
    withdrawn(update(`${attribute}${rest}`));
  });

  test('VU#347067: a malformed AGGREGATOR and ATOMIC_AGGREGATE are left out, the routes stay', () => {
    for (const attribute of ['c00705 0000fde90a', '400601 00']) {
      const found = update(`${good}${attribute}`);
      expect(announced(found).aggregator).toBeUndefined();
      expect(found.faults).toMatchObject([{ remedy: 'discard' }]);
    }
  });
});
