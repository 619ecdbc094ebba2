import fc from 'fast-check';
import { expect, test } from 'vitest';
import { Engine } from '../../../src/bgp/bfd/engine.ts';
import { states } from '../../../src/bgp/bfd/fsm.ts';
import { type ControlPacket, PacketError, readPacket, writePacket } from '../../../src/bgp/bfd/packet.ts';
import type { BfdTarget } from '../../../src/bgp/bfd/settings.ts';
import { jittered } from '../../../src/bgp/bfd/timing.ts';
import { parseIp } from '../../../src/model/address.ts';
import { ManualClock } from '../../support/manual-clock.ts';

const u32 = fc.nat({ max: 0xffffffff });
const packets: fc.Arbitrary<ControlPacket> = fc.record({
  diagnostic: fc.nat({ max: 31 }),
  state: fc.constantFrom(...states),
  poll: fc.boolean(),
  final: fc.boolean(),
  independent: fc.boolean(),
  demand: fc.boolean(),
  multiplier: fc.integer({ min: 1, max: 255 }),
  myDiscriminator: fc.integer({ min: 1, max: 0xffffffff }),
  yourDiscriminator: fc.integer({ min: 1, max: 0xffffffff }),
  desiredMinTxUs: u32,
  requiredMinRxUs: u32,
  requiredMinEchoRxUs: u32,
});

test('what is written is read back', () => {
  fc.assert(
    fc.property(packets, (packet) => {
      expect(readPacket(writePacket(packet))).toEqual(packet);
    }),
  );
});

test('any octets are a packet or a PacketError', () => {
  const octets = fc.oneof(
    fc.uint8Array({ maxLength: 64 }),
    fc.tuple(packets, fc.nat({ max: 23 }), fc.nat({ max: 255 })).map(([packet, at, value]) => {
      const bytes = writePacket(packet);
      bytes[at] = value;
      return bytes;
    }),
  );
  fc.assert(
    fc.property(octets, (payload) => {
      try {
        readPacket(payload);
      } catch (thrown) {
        expect(thrown).toBeInstanceOf(PacketError);
      }
    }),
    { numRuns: 2000 },
  );
});

test('jitter stays between 75 % and 100 %, or 90 % with a multiplier of 1', () => {
  const unit = fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true });
  fc.assert(
    fc.property(
      fc.integer({ min: 1, max: 1e8 }),
      fc.integer({ min: 1, max: 255 }),
      unit,
      (interval, multiplier, at) => {
        const found = jittered(interval, multiplier, at);
        expect(found).toBeGreaterThanOrEqual(interval * 0.75);
        expect(found).toBeLessThanOrEqual(interval * (multiplier === 1 ? 0.9 : 1));
      },
    ),
  );
});

/** Two engines on a line that delays packets, one more than another, and can be cut. */
function pair(clock: ManualClock, line: { up: boolean; delays: readonly number[] }, a: Partial<BfdTarget>) {
  const base = { minTxMs: 100, minRxMs: 100, multiplier: 3, multihop: false };
  const ends: Engine[] = [];
  const state: string[] = ['Down', 'Down'];
  const arrival = [0, 0];
  let turn = 0;
  let seed = 1;
  for (const side of [0, 1]) {
    const engine = new Engine({
      clock,
      random: () => {
        seed = (seed * 16807) % 2147483647;
        return seed / 2147483647;
      },
      afterReads: (action) => action(),
      count: () => undefined,
      changed: (_, status) => {
        state[side] = status.state;
      },
    });
    ends.push(engine);
  }
  for (const [side, engine] of ends.entries()) {
    const target: BfdTarget = { ...base, ...(side === 0 ? a : {}), name: '', address: parseIp(`10.0.0.${2 - side}`) };
    engine.open(1, target, (packet) => {
      const delay = line.delays[turn++ % line.delays.length] ?? 0;
      arrival[side] = Math.max(arrival[side] ?? 0, clock.monotonic() + delay);
      const wait = arrival[side] - clock.monotonic();
      if (line.up) clock.after(wait, () => ends[1 - side]?.receive(packet, { address: `10.0.0.${side + 1}` }, false));
    });
  }
  return { state };
}

test('two sessions come up over any line that delivers, and go down when it is cut', () => {
  fc.assert(
    fc.property(
      fc.array(fc.nat({ max: 90 }), { minLength: 1, maxLength: 7 }),
      fc.integer({ min: 50, max: 1000 }),
      fc.integer({ min: 50, max: 1000 }),
      fc.integer({ min: 2, max: 5 }),
      (delays, minTxMs, minRxMs, multiplier) => {
        const clock = new ManualClock();
        const line = { up: true, delays };
        const { state } = pair(clock, line, { minTxMs, minRxMs, multiplier });
        clock.advance(10_000);
        expect(state).toEqual(['Up', 'Up']);
        line.up = false;
        // The slowest agreed interval is a second, five times of it the longest detection time.
        clock.advance(6000);
        expect(state).toEqual(['Down', 'Down']);
        line.up = true;
        clock.advance(10_000);
        expect(state).toEqual(['Up', 'Up']);
      },
    ),
    { numRuns: 100 },
  );
});
