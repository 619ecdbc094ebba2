import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { Reader, TruncatedError, Writer } from '../../../src/base/bytes.ts';

describe('Reader', () => {
  test('reads network order and knows what is left', () => {
    const reader = new Reader(Uint8Array.of(1, 2, 3, 4, 5, 6, 7, 8));
    expect([reader.u8('a'), reader.u16('b'), reader.u32('c'), reader.left]).toEqual([1, 0x0203, 0x04050607, 1]);
  });

  test('throws past the end, naming the field, and does not move', () => {
    const reader = new Reader(Uint8Array.of(1, 2, 3));
    expect(() => reader.u32('open.identifier')).toThrow(TruncatedError);
    expect(() => reader.u32('open.identifier')).toThrow(/open\.identifier: 4 octets wanted, 3 left/);
    expect(reader.left).toBe(3);
  });

  test('a sub-reader ends at its own end', () => {
    const reader = new Reader(Uint8Array.of(1, 2, 3, 4));
    const inner = reader.sub(2, 'attributes');
    inner.u16('x');
    expect(() => inner.u8('y')).toThrow(TruncatedError);
    expect(reader.u16('rest')).toBe(0x0304);
  });

  test('works on a view into a larger buffer', () => {
    const whole = Uint8Array.of(9, 9, 1, 2, 9);
    expect(new Reader(whole.subarray(2, 4)).u16('x')).toBe(0x0102);
  });
});

test('what a Writer wrote, a Reader reads', () => {
  const item = fc.oneof(
    fc.record({ size: fc.constant(1), value: fc.nat(0xff) }),
    fc.record({ size: fc.constant(2), value: fc.nat(0xffff) }),
    fc.record({ size: fc.constant(4), value: fc.nat(0xffffffff) }),
  );
  fc.assert(
    fc.property(fc.array(item), fc.uint8Array(), (items, tail) => {
      const writer = new Writer(1);
      for (const { size, value } of items)
        size === 1 ? writer.u8(value) : size === 2 ? writer.u16(value) : writer.u32(value);
      writer.bytes(tail);
      const reader = new Reader(writer.finish());
      for (const { size, value } of items)
        expect(size === 1 ? reader.u8('') : size === 2 ? reader.u16('') : reader.u32('')).toBe(value);
      expect(reader.bytes(tail.length, '')).toEqual(tail);
      expect(reader.left).toBe(0);
    }),
  );
});
