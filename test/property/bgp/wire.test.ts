import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { Capability } from '../../../src/bgp/wire/capabilities.ts';
import { WireError } from '../../../src/bgp/wire/errors.ts';
import { readFrame, writeFrame } from '../../../src/bgp/wire/framing.ts';
import { readRefresh, writeMessage } from '../../../src/bgp/wire/message.ts';
import { blockOf, cidrsOf } from '../../../src/bgp/wire/nlri.ts';
import { readNotification } from '../../../src/bgp/wire/notification.ts';
import { readOpen } from '../../../src/bgp/wire/open.ts';
import { readUpdate } from '../../../src/bgp/wire/update.ts';
import { writeAnnouncements, writeEndOfRib, writeWithdrawals } from '../../../src/bgp/wire/write-update.ts';
import { type Cidr, type Family, parseIp } from '../../../src/model/address.ts';
import { attributes, attributesOverIpv6, cidr, ip4 } from './arbitraries.ts';

const both: ReadonlySet<Family> = new Set<Family>([4, 6]);

const writerOf = (family: Family) => ({
  size: (item: Cidr) => blockOf(family, [item]).octets.length,
  write: (w: { bytes(octets: Uint8Array): void }, item: Cidr) => w.bytes(blockOf(family, [item]).octets),
});

/** The messages in a stream of octets. */
function frames(stream: Uint8Array) {
  const found = [];
  for (let at = 0; ; ) {
    const frame = readFrame(stream, at);
    if (!frame) return found;
    found.push(frame);
    at += frame.length;
  }
}

describe.each([4, 6] as const)('IPv%d', (family) => {
  test('announcements come back as they were, in messages of at most 4096 octets', () => {
    fc.assert(
      fc.property(
        attributes(family),
        fc.array(cidr(family), { minLength: 1, maxLength: 900 }),
        fc.boolean(),
        (told, prefixes, fourOctetAs) => {
          const codec = { fourOctetAs, external: false };
          const messages =
            writeAnnouncements(family, told, codec, prefixes, writerOf(family)) ?? expect.fail('no room');
          const seen: Cidr[] = [];
          for (const frame of frames(Buffer.concat(messages))) {
            const update = readUpdate(frame.body, codec, both);
            expect(update.faults).toEqual([]);
            for (const { block, attributes: found } of update.announced) {
              seen.push(...cidrsOf(block));
              // AS4_PATH loses how the sequence was cut into segments, and nothing else.
              const flat = ({ asPath, ...rest }: typeof told) => ({
                ...rest,
                path: asPath.flatMap(({ asns }) => asns),
              });
              expect(fourOctetAs ? found : flat(found)).toEqual(fourOctetAs ? told : flat(told));
            }
          }
          expect(seen).toEqual(prefixes);
        },
      ),
      { numRuns: 150 },
    );
  });

  test('withdrawals come back as they were', () => {
    fc.assert(
      fc.property(fc.array(cidr(family), { minLength: 1, maxLength: 900 }), (prefixes) => {
        const messages = writeWithdrawals(family, prefixes, writerOf(family));
        const seen = frames(Buffer.concat(messages)).flatMap((frame) =>
          readUpdate(frame.body, { fourOctetAs: true, external: false }, both).withdrawn.flatMap(cidrsOf),
        );
        expect(seen).toEqual(prefixes);
      }),
      { numRuns: 100 },
    );
  });
});

test.each([4, 6] as const)('IPv%d prefixes with one or two IPv6 next hops come back as they were', (family) => {
  const codec = { fourOctetAs: true, external: false, extendedNextHop: true };
  fc.assert(
    fc.property(attributesOverIpv6(), fc.array(cidr(family), { minLength: 1, maxLength: 900 }), (told, prefixes) => {
      const messages = writeAnnouncements(family, told, codec, prefixes, writerOf(family)) ?? expect.fail('no room');
      const seen: Cidr[] = [];
      for (const frame of frames(Buffer.concat(messages))) {
        expect(frame.length).toBeLessThanOrEqual(4096);
        const update = readUpdate(frame.body, codec, both);
        expect(update.faults).toEqual([]);
        for (const { block, attributes: found } of update.announced) {
          seen.push(...cidrsOf(block));
          expect(found).toEqual(told);
        }
      }
      expect(seen).toEqual(prefixes);
    }),
    { numRuns: 100 },
  );
});

const capability: fc.Arbitrary<Capability> = fc.oneof(
  fc.record({
    capability: fc.constant('extendedNextHop' as const),
    families: fc.array(
      fc.record({ family: fc.constantFrom(4 as const, 6 as const), nextHop: fc.constantFrom(4 as const, 6 as const) }),
      { maxLength: 3 },
    ),
  }),
  fc.record({ capability: fc.constant('multiprotocol' as const), family: fc.constantFrom(4 as const, 6 as const) }),
  fc.record({ capability: fc.constantFrom('routeRefresh', 'enhancedRefresh', 'extendedMessages') }),
  fc.record({
    capability: fc.constant('gracefulRestart' as const),
    restarted: fc.boolean(),
    notification: fc.boolean(),
    restartSeconds: fc.nat({ max: 4095 }),
    families: fc.array(fc.record({ family: fc.constantFrom(4 as const, 6 as const), preserved: fc.boolean() }), {
      maxLength: 3,
    }),
  }),
  fc.record({
    capability: fc.constant('longLivedRestart' as const),
    families: fc.array(
      fc.record({
        family: fc.constantFrom(4 as const, 6 as const),
        preserved: fc.boolean(),
        staleSeconds: fc.nat({ max: 0xffffff }),
      }),
      { maxLength: 2 },
    ),
  }),
  fc.record({ capability: fc.constant('fourOctetAs' as const), asn: fc.nat({ max: 0xffffffff }) }),
  fc.record({
    capability: fc.constant('unknown' as const),
    code: fc.integer({ min: 72, max: 255 }),
    value: fc.uint8Array({ maxLength: 12 }),
  }),
);

const openMessage = fc.record({
  asn: fc.nat({ max: 65535 }),
  holdSeconds: fc.nat({ max: 65535 }),
  identifier: ip4,
  capabilities: fc.array(capability, { maxLength: 8 }),
});

test('an OPEN comes back as it was', () => {
  fc.assert(
    fc.property(openMessage, (open) => {
      const frame = readFrame(writeMessage({ type: 'open', open })) ?? expect.fail('incomplete');
      expect(readOpen(frame.body)).toEqual(open);
    }),
  );
});

test('a NOTIFICATION comes back as it was', () => {
  const octet = fc.nat({ max: 255 });
  fc.assert(
    fc.property(octet, octet, fc.uint8Array({ maxLength: 100 }), (code, subcode, data) => {
      const frame = readFrame(writeMessage({ type: 'notification', notification: { code, subcode, data } }));
      expect(readNotification(frame?.body ?? expect.fail('incomplete'))).toEqual({ code, subcode, data });
    }),
  );
});

/** Takes a stream as a session would, whatever is in it. */
function consume(stream: Uint8Array, fourOctetAs: boolean, external: boolean): void {
  for (let at = 0; ; ) {
    const frame = readFrame(stream, at);
    if (!frame) return;
    at += frame.length;
    if (frame.type === 'open') readOpen(frame.body);
    if (frame.type === 'update') readUpdate(frame.body, { fourOctetAs, external }, both);
    if (frame.type === 'notification') readNotification(frame.body);
    if (frame.type === 'refresh') readRefresh(frame.body);
  }
}

function survives(stream: Uint8Array, fourOctetAs: boolean, external: boolean): void {
  try {
    consume(stream, fourOctetAs, external);
  } catch (thrown) {
    expect(thrown).toBeInstanceOf(WireError);
    expect((thrown as WireError).remedy).toBe('reset');
  }
}

describe('octets from strangers never cause anything but a WireError', () => {
  const change = fc.tuple(fc.nat(), fc.nat({ max: 255 }), fc.constantFrom('set', 'insert', 'remove'));
  const corpus = fc.oneof(
    openMessage.map((open) => writeMessage({ type: 'open', open })),
    fc
      .tuple(attributes(4), fc.array(cidr(4), { minLength: 1, maxLength: 5 }))
      .map(([told, prefixes]) =>
        Buffer.concat(writeAnnouncements(4, told, { fourOctetAs: true, external: false }, prefixes, writerOf(4)) ?? []),
      ),
    fc
      .tuple(attributes(6), fc.array(cidr(6), { minLength: 1, maxLength: 5 }))
      .map(([told, prefixes]) =>
        Buffer.concat(
          writeAnnouncements(6, told, { fourOctetAs: false, external: false }, prefixes, writerOf(6)) ?? [],
        ),
      ),
    fc.constantFrom(writeEndOfRib(4), writeEndOfRib(6), writeMessage({ type: 'refresh', family: 4 })),
  );

  test('mutated messages', () => {
    fc.assert(
      fc.property(
        corpus,
        fc.array(change, { minLength: 1, maxLength: 6 }),
        fc.boolean(),
        fc.boolean(),
        (message, changes, fourOctetAs, external) => {
          const octets = [...message];
          for (const [where, value, how] of changes) {
            // Behind the marker: a broken marker ends the reading at once.
            const at = 16 + (where % Math.max(1, octets.length - 16));
            octets.splice(at, how === 'insert' ? 0 : 1, ...(how === 'remove' ? [] : [value]));
          }
          survives(Uint8Array.from(octets), fourOctetAs, external);
        },
      ),
      { numRuns: 8000 },
    );
  });

  test('random bodies', () => {
    const type = fc.constantFrom('open' as const, 'update' as const, 'refresh' as const);
    fc.assert(
      fc.property(
        type,
        fc.uint8Array({ maxLength: 200 }),
        fc.boolean(),
        fc.boolean(),
        (kind, body, fourOctetAs, external) => {
          survives(
            writeFrame(kind, (w) => w.bytes(body)),
            fourOctetAs,
            external,
          );
        },
      ),
      { numRuns: 5000 },
    );
  });

  test('a stream cut anywhere is incomplete or whole, never wrong', () => {
    const stream = Buffer.concat([writeEndOfRib(4), writeMessage({ type: 'keepalive' }), writeEndOfRib(6)]);
    for (let end = 0; end <= stream.length; end++) consume(stream.subarray(0, end), true, true);
    expect(parseIp('::')).toBe('::');
  });
});
