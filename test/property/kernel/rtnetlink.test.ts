import fc from 'fast-check';
import { expect, test } from 'vitest';
import { TruncatedError } from '../../../src/base/bytes.ts';
import { canonicalRoute, withDestination } from '../../../src/kernel/route.ts';
import { readAddress, readNeighbour, writeAddress, writeNeighbour } from '../../../src/kernel/rtnetlink/address.ts';
import { octetsOf } from '../../../src/kernel/rtnetlink/address-bytes.ts';
import { formatMac, parseMac, readLink } from '../../../src/kernel/rtnetlink/link.ts';
import {
  hostU32,
  type Message,
  MessageWriter,
  NetlinkFormatError,
  padded,
  readAttributes,
  readMessages,
} from '../../../src/kernel/rtnetlink/message.ts';
import { readRoute, writeRoute, writeRouteRemoval } from '../../../src/kernel/rtnetlink/route.ts';
import { packedList, RouteWriter } from '../../../src/kernel/rtnetlink/route-batch.ts';
import { cidrsOf, RouteScanner } from '../../../src/kernel/rtnetlink/route-scan.ts';
import type { NextHop, Route } from '../../../src/kernel/types.ts';
import { cidrOf, type Family, familyOf, formatIp, ipBytes, octets } from '../../../src/model/address.ts';

const devices = ['lo', 'eth0', 'cali0123456789a', 'vxlan.calico'];
const indexOf = (device: string) => devices.indexOf(device) + 1;
const nameOf = (index: number) => devices[index - 1];

const family = fc.constantFrom<Family>(4, 6);
const bytesOf = (of: Family) => fc.uint8Array({ minLength: octets(of), maxLength: octets(of) });
const address = (of: Family) => bytesOf(of).map(formatIp);
const anyAddress = family.chain(address);
const mac = fc.uint8Array({ minLength: 6, maxLength: 6 }).map(formatMac);

const nextHop: fc.Arbitrary<NextHop> = fc
  .record(
    {
      gateway: anyAddress,
      device: fc.constantFrom(...devices),
      weight: fc.integer({ min: 1, max: 256 }),
      onlink: fc.boolean(),
    },
    { requiredKeys: [] },
  )
  .filter((hop) => hop.gateway !== undefined || hop.device !== undefined);

const route: fc.Arbitrary<Route> = family.chain((of) =>
  fc.record(
    {
      destination: fc
        .tuple(bytesOf(of), fc.integer({ min: 0, max: octets(of) * 8 }))
        .map(([a, length]) => cidrOf(a, length)),
      type: fc.constantFrom('unicast', 'blackhole'),
      nextHops: fc.array(nextHop, { minLength: 1, maxLength: 5 }),
      protocol: fc.integer({ min: 0, max: 255 }),
      scope: fc.constantFrom('universe', 'link'),
      metric: fc.integer({ min: 0, max: 0xffffffff }),
      table: fc.integer({ min: 1, max: 0xffffffff }),
      source: address(of),
    },
    { requiredKeys: ['destination', 'type', 'nextHops', 'protocol', 'scope', 'metric', 'table'] },
  ),
);

/** What the writer wrote, as one message. */
function message(body: (w: MessageWriter) => void, type = 24): Message {
  const w = new MessageWriter(16);
  const at = w.begin(type, 5, 7);
  body(w);
  w.end(at);
  const [only, ...more] = [...readMessages(w.written)];
  expect(more).toEqual([]);
  return only ?? expect.fail('no message');
}

test('a route reads back in canonical form', () => {
  fc.assert(
    fc.property(route, (one) => {
      const { payload } = message((w) => writeRoute(w, one, indexOf));
      expect(readRoute(payload, nameOf)).toEqual(canonicalRoute(one));
    }),
    { numRuns: 1000 },
  );
});

/** Runs of routes that differ in their destinations only, as those through one gateway do. */
const runs = fc
  .array(
    family.chain((of) =>
      fc.tuple(
        route.filter(({ destination }) => familyOf(destination) === of),
        fc.array(
          fc
            .tuple(bytesOf(of), fc.integer({ min: 0, max: octets(of) * 8 }))
            .map(([bytes, length]) => cidrOf(bytes, length)),
          { maxLength: 4 },
        ),
      ),
    ),
    { maxLength: 6 },
  )
  .map((list) => list.flatMap(([one, more]) => [one, ...more.map((destination) => ({ ...one, destination }))]));

test.each([
  ['set', (w: MessageWriter, one: Route) => writeRoute(w, one, indexOf)],
  ['deleted', writeRouteRemoval],
] as const)('routes %s in a row are each written as if they were alone', (_, body) => {
  fc.assert(
    fc.property(
      runs,
      fc.shuffledSubarray([...Array(30).keys()], { minLength: 30 }),
      fc.integer({ min: 1, max: 40 }),
      (list, order, most) => {
        const mixed = order.flatMap((at) => list[at] ?? []);
        const packed = packedList(mixed);
        // Those of one run share an object, as those of a table do.
        const form = (at: number) => list.find((one) => one.nextHops === mixed[at]?.nextHops) ?? packed.form(at);
        const same = (a: number, b: number) => form(a) === form(b) && packed.family(a) === packed.family(b);
        const alike = (at: number) => {
          const end = mixed.findIndex((_one, other) => other > at && !same(at, other));
          return (end < 0 ? mixed.length : end) - at;
        };
        const w = new MessageWriter(16);
        const writer = new RouteWriter({ type: 24, flags: 4, body });
        // In several parts, as a batch is, each as long as one of both limits has it.
        const parts: { count: number; last: number }[] = [];
        for (let at = 0; at < mixed.length; at += parts.at(-1)?.count ?? 1) {
          const octets = w.length + (at % 2 === 0 ? 1e9 : 300);
          parts.push(writer.write(w, { ...packed, form, alike }, at, { messages: most, octets }, 7 + at));
        }
        const written = [...readMessages(w.written)];
        expect(written).toEqual(
          mixed.map((one, at) => ({ ...message((alone) => body(alone, one)), sequence: 7 + at })),
        );
        expect(parts.every(({ count }) => count >= 1 && count <= most)).toBe(true);
        const { last } = parts.at(-1) ?? {};
        if (last !== undefined) expect(last).toBe(w.length - 16 - (written.at(-1)?.payload.length ?? 0));
      },
    ),
    { numRuns: 500 },
  );
});

test('routes read in a row are each as if they were alone', () => {
  fc.assert(
    fc.property(runs, family, (list, of) => {
      const ofFamily = list.filter(({ destination }) => familyOf(destination) === of);
      const w = new MessageWriter(16);
      for (const one of ofFamily) {
        const at = w.begin(24, 2, 7);
        writeRoute(w, one, indexOf);
        w.end(at);
      }
      const scanner = new RouteScanner(nameOf, of);
      const found: Route[] = [];
      for (let at = 0; at < w.length; ) {
        const { form = expect.fail('nothing read'), prefixes } = scanner.scan(w.written, at, w.length);
        for (const destination of cidrsOf(prefixes, of)) found.push(withDestination(form, destination));
        for (let i = 0; i < prefixes.count; i++) at += padded(hostU32(w.written, at));
      }
      expect(found).toEqual(ofFamily.map(canonicalRoute));
    }),
    { numRuns: 500 },
  );
});

test('the canonical form is its own canonical form', () => {
  fc.assert(
    fc.property(route, (one) => {
      expect(canonicalRoute(canonicalRoute(one))).toEqual(canonicalRoute(one));
    }),
  );
});

test('addresses and neighbours read back', () => {
  fc.assert(
    fc.property(
      anyAddress,
      fc.integer({ min: 0, max: 32 }),
      fc.integer({ min: 1, max: 1 << 30 }),
      mac,
      (ip, length, index, lladdr) => {
        const onLink = message((w) => writeAddress(w, index, `${ip}/${length}`, true));
        expect(readAddress(onLink.payload)).toEqual({
          index,
          address: ip,
          prefixLength: length,
          cidr: `${ip}/${length}`,
          scope: 0,
        });
        const neighbour = message((w) => writeNeighbour(w, index, { address: ip, mac: lladdr }));
        expect(readNeighbour(neighbour.payload)).toEqual({ index, address: ip, mac: lladdr, permanent: true });
      },
    ),
  );
});

test('the short way to the octets of an address leads to the same', () => {
  fc.assert(
    fc.property(anyAddress, (ip) => {
      expect(octetsOf(ip)).toEqual(ipBytes(ip));
    }),
  );
});

test('MAC addresses read back', () => {
  fc.assert(
    fc.property(mac, (text) => {
      expect(formatMac(parseMac(text))).toBe(text);
    }),
  );
});

test('messages and attributes of any length read back, one after the other', () => {
  const attribute = fc.tuple(fc.integer({ min: 1, max: 0x3fff }), fc.uint8Array({ maxLength: 40 }));
  const attributes = fc.uniqueArray(attribute, { selector: ([type]) => type, maxLength: 6 });
  fc.assert(
    fc.property(fc.array(fc.tuple(fc.integer({ min: 0, max: 0xffff }), attributes), { maxLength: 8 }), (all) => {
      const w = new MessageWriter(16);
      for (const [at, [type, list]] of all.entries()) {
        const start = w.begin(type, at, at * 3);
        for (const [kind, payload] of list) w.attribute(kind, payload);
        w.end(start);
      }
      const read = Array.from(readMessages(w.written), ({ type, flags, sequence, payload }) => {
        return {
          type,
          flags,
          sequence,
          list: [...readAttributes(payload, 0)].map(([kind, bytes]) => [kind, [...bytes]]),
        };
      });
      expect(read).toEqual(
        all.map(([type, list], at) => {
          return { type, flags: at, sequence: at * 3, list: list.map(([kind, bytes]) => [kind, [...bytes]]) };
        }),
      );
    }),
  );
});

test('any octets are read or refused, never worse', () => {
  const readers = [
    (bytes: Uint8Array) => [...readMessages(bytes)],
    (bytes: Uint8Array) => readLink(bytes),
    (bytes: Uint8Array) => readRoute(bytes, nameOf),
    (bytes: Uint8Array) => readAddress(bytes),
    (bytes: Uint8Array) => readNeighbour(bytes),
  ];
  const damaged = route.chain((one) => {
    const whole = message((w) => writeRoute(w, one, indexOf)).payload.slice();
    return fc
      .tuple(
        fc.integer({ min: 0, max: whole.length - 1 }),
        fc.integer({ min: 0, max: 255 }),
        fc.integer({ min: 0, max: whole.length }),
      )
      .map(([at, value, end]) => {
        whole[at] = value;
        return whole.slice(0, end);
      });
  });
  fc.assert(
    fc.property(fc.oneof(fc.uint8Array({ maxLength: 200 }), damaged), (bytes) => {
      for (const read of readers)
        try {
          read(bytes);
        } catch (thrown) {
          if (!(thrown instanceof NetlinkFormatError || thrown instanceof TruncatedError)) throw thrown;
        }
    }),
    { numRuns: 2000 },
  );
});
