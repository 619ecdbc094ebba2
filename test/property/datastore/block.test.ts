import fc from 'fast-check';
import { expect, test } from 'vitest';
import { InputError } from '../../../src/base/errors.ts';
import { decode, encode } from '../../../src/datastore/codec.ts';
import { parseJson } from '../../../src/datastore/json.ts';
import { parseBlock } from '../../../src/datastore/schemas.ts';
import { parseCidr } from '../../../src/model/address.ts';
import type { Block } from '../../../src/model/ipam.ts';

const cidr = parseCidr('10.65.3.64/30');
const text = fc.option(fc.string({ maxLength: 4 }));
const attribute = fc.record(
  {
    handle_id: text,
    secondary: fc.option(fc.dictionary(fc.string({ maxLength: 3 }), fc.string({ maxLength: 3 }), { maxKeys: 3 })),
    releasedAt: fc.string({ maxLength: 4 }),
    other: fc.integer(),
  },
  { requiredKeys: [] },
);
const junk = fc.oneof(fc.constant(null), fc.string(), fc.double(), fc.boolean(), fc.array(fc.integer()), fc.object());

const stored = fc
  .record({
    attributes: fc.array(attribute, { minLength: 1, maxLength: 3 }),
    taken: fc.array(fc.boolean(), { minLength: 4, maxLength: 4 }),
    rest: fc.record(
      { affinity: text, affinity_claim_time: text, hostAffinity: text, deleted: fc.boolean(), unknown: junk },
      { requiredKeys: [] },
    ),
    sequence: fc.nat(),
    damage: fc.option(
      fc.record({
        field: fc.constantFrom(
          'cidr',
          'affinity',
          'allocations',
          'unallocated',
          'attributes',
          'deleted',
          'hostAffinity',
        ),
        value: junk,
      }),
      { freq: 3 },
    ),
  })
  .map(({ attributes, taken, rest, sequence, damage }) => ({
    sequence,
    fields: {
      cidr,
      ...rest,
      allocations: taken.map((is, at) => (is ? at % attributes.length : null)),
      unallocated: taken.flatMap((is, at) => (is ? [] : [at])),
      attributes,
      ...(damage && { [damage.field]: damage.value }),
    },
  }));

function outcome(value: unknown): unknown {
  try {
    return parseBlock(value, cidr);
  } catch (thrown) {
    if (thrown instanceof InputError) return `${thrown.field}: ${thrown.message}`;
    throw thrown;
  }
}

test('a block is read or refused as its schema says, whichever way it is checked', () => {
  fc.assert(
    fc.property(stored, ({ fields, sequence }) => {
      // A number is what only the schema takes.
      const bySchema = outcome({ ...fields, sequenceNumber: sequence });
      expect(outcome({ ...fields, sequenceNumber: BigInt(sequence) })).toEqual(bySchema);
    }),
    { numRuns: 1000 },
  );
});

test('what a store keeps of a block that it wrote is what it would read', () => {
  const key = { type: 'Block', cidr } as const;
  fc.assert(
    fc.property(stored, fc.bigInt({ min: 0n, max: 2n ** 63n }), ({ fields }, sequenceNumber) => {
      const block = outcome({ ...(parseJson(JSON.stringify(fields)) as object), sequenceNumber });
      if (typeof block === 'string') return;
      const { text, decoded } = encode(key, block as Block);
      expect(decoded?.('7')).toEqual(decode(key, text, '7'));
    }),
    { numRuns: 1000 },
  );
});
