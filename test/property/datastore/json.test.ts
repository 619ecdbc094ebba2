import fc from 'fast-check';
import { expect, test } from 'vitest';
import { formatJson, parseJson } from '../../../src/datastore/json.ts';

/** Texts that look like what a fast path might mistake for a key with a long integer. */
const tricky = fc.constantFrom(
  '":1700000000000000000,',
  'a":1700000000000000000}',
  '\\":12345678901234567,',
  '\u00001700000000000000000',
  '1700000000000000000',
  'x\\',
);
const text = fc.oneof(fc.string(), tricky);
const integer = fc.bigInt({ min: -(10n ** 20n), max: 10n ** 20n });
const { value } = fc.letrec((tie) => ({
  value: fc.oneof(
    { maxDepth: 4 },
    text,
    fc.boolean(),
    fc.constant(null),
    fc.double({ noNaN: true, noDefaultInfinity: true }),
    integer,
    fc.array(tie('value'), { maxLength: 5 }),
    fc.dictionary(text, tie('value'), { maxKeys: 5 }),
  ),
}));

/** The text of a value by the grammar (RFC 8259), with or without space between tokens. */
function written(of: unknown, space: string): string {
  if (typeof of === 'bigint') return String(of);
  if (Array.isArray(of)) return `[${of.map((item) => written(item, space)).join(`,${space}`)}]`;
  if (typeof of === 'object' && of !== null)
    return `{${Object.entries(of)
      .map(([key, field]) => `${JSON.stringify(key)}:${space}${written(field, space)}`)
      .join(`,${space}`)}}`;
  return JSON.stringify(of);
}

/** Integers as they are read: exact, a number where that is exact. */
function read(of: unknown): unknown {
  if (typeof of === 'bigint') return Number.isSafeInteger(Number(of)) ? Number(of) : of;
  if (typeof of === 'number') {
    const literal = JSON.stringify(of);
    return /^-?\d+$/.test(literal) && !Number.isSafeInteger(of) ? BigInt(literal) : JSON.parse(literal);
  }
  if (Array.isArray(of)) return of.map(read);
  if (typeof of === 'object' && of !== null)
    return Object.fromEntries(Object.entries(of).map(([key, field]) => [key, read(field)]));
  return of;
}

test('integers of any size are read exactly, wherever they stand and whatever the texts around them say', () => {
  fc.assert(
    fc.property(value, fc.constantFrom('', ' ', '\n'), (of, space) => {
      expect(parseJson(written(of, space))).toEqual(read(of));
    }),
    { numRuns: 2000 },
  );
});

test('what is written reads back the same, integers as literals', () => {
  fc.assert(
    fc.property(value, (of) => {
      expect(formatJson(of)).toBe(written(of, ''));
    }),
    { numRuns: 2000 },
  );
});
