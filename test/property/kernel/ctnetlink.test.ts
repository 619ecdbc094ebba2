import fc from 'fast-check';
import { expect, test } from 'vitest';
import { TruncatedError } from '../../../src/base/bytes.ts';
import { type Flow, places, readFlow, writeDeletion, writeFilteredQuery } from '../../../src/kernel/ctnetlink.ts';
import { MessageWriter, NetlinkFormatError, readAttributes } from '../../../src/kernel/rtnetlink/message.ts';
import { type Family, formatIp, type Ip, ipBytes, octets } from '../../../src/model/address.ts';

const family = fc.constantFrom<Family>(4, 6);
const address = (of: Family) => fc.uint8Array({ minLength: octets(of), maxLength: octets(of) }).map(formatIp);

/** CTA_TUPLE_*: addresses, then any protocol's part. */
function tuple(of: Family, source: Ip, destination: Ip, protocol: Uint8Array): Uint8Array {
  const w = new MessageWriter();
  const ip = w.nest(0x8001);
  w.attribute(of === 4 ? 1 : 3, ipBytes(source));
  w.attribute(of === 4 ? 2 : 4, ipBytes(destination));
  w.close(ip);
  w.attribute(0x8002, protocol);
  return w.written.slice();
}

const entry = family.chain((of) =>
  fc.record({
    of: fc.constant(of),
    addresses: fc.tuple(address(of), address(of), address(of), address(of)),
    protocol: fc.uint8Array({ maxLength: 24 }),
    id: fc.uint8Array({ minLength: 4, maxLength: 4 }),
    zone: fc.option(fc.uint8Array({ minLength: 2, maxLength: 2 }), { nil: undefined }),
  }),
);

type Entry = typeof entry extends fc.Arbitrary<infer T> ? T : never;

/** IPCTNL_MSG_CT_NEW as the kernel writes it. */
function payloadOf({ of, addresses: [a, b, c, d], protocol, id, zone }: Entry): Uint8Array {
  const w = new MessageWriter();
  w.u8(of === 4 ? 2 : 10);
  w.u8(0);
  w.u16(0);
  w.attribute(0x8001, tuple(of, a, b, protocol));
  w.attribute(0x8002, tuple(of, c, d, protocol));
  w.attribute(12, id);
  if (zone) w.attribute(18, zone);
  return w.written.slice();
}

test('what is read of a flow is what the kernel wrote, and its deletion names just that', () => {
  fc.assert(
    fc.property(entry, (given) => {
      const payload = payloadOf(given);
      const flow = readFlow(payload);
      expect(flow).toMatchObject({ family: given.of, addresses: given.addresses, id: given.id });
      expect(flow?.zone).toEqual(given.zone);
      const w = new MessageWriter();
      writeDeletion(w, flow as Flow);
      const [asked, told] = [readAttributes(w.written, 4), readAttributes(payload, 4)];
      expect(w.written.slice(0, 4)).toEqual(payload.slice(0, 4));
      for (const type of [1, 12, 18]) expect(asked.get(type)).toEqual(told.get(type));
      expect(asked.has(2)).toBe(false);
    }),
  );
});

test('a filter holds the address in its place and no other', () => {
  fc.assert(
    fc.property(family.chain(address), fc.constantFrom(...places), (ip, place) => {
      const w = new MessageWriter();
      writeFilteredQuery(w, ip, place);
      const attributes = readAttributes(w.written, 4);
      const [own, other] = place.direction === 'original' ? [1, 2] : [2, 1];
      expect(attributes.has(other)).toBe(false);
      const fields = readAttributes(
        readAttributes(attributes.get(own) ?? new Uint8Array(), 0).get(1) ?? new Uint8Array(),
        0,
      );
      expect([...fields.values()]).toEqual([ipBytes(ip)]);
      const flags = readAttributes(attributes.get(25) ?? new Uint8Array(), 0);
      expect(new Uint32Array((flags.get(own) ?? new Uint8Array(4)).slice().buffer)[0]).toBe(
        place.side === 'source' ? 1 : 2,
      );
      expect(new Uint32Array((flags.get(other) ?? new Uint8Array(4)).slice().buffer)[0]).toBe(0);
    }),
  );
});

test('mangled messages are refused or passed over, never worse', () => {
  fc.assert(
    fc.property(
      entry,
      fc.array(fc.tuple(fc.nat(), fc.integer({ min: 0, max: 255 })), { maxLength: 6 }),
      fc.nat(),
      (given, edits, cut) => {
        const payload = payloadOf(given);
        for (const [at, value] of edits) payload[at % payload.length] = value;
        const bytes = payload.subarray(0, 1 + (cut % payload.length));
        try {
          const flow = readFlow(bytes);
          if (flow) expect(flow.addresses).toHaveLength(4);
        } catch (thrown) {
          expect(thrown instanceof NetlinkFormatError || thrown instanceof TruncatedError).toBe(true);
        }
      },
    ),
  );
});
