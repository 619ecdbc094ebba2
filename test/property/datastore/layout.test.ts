import fc from 'fast-check';
import { expect, test } from 'vitest';
import { formatJson, parseJson } from '../../../src/datastore/json.ts';
import { etcdKey, etcdPrefix, parseEtcdKey } from '../../../src/datastore/layout.ts';
import type { Key } from '../../../src/datastore/store.ts';
import { cidrOf } from '../../../src/model/address.ts';

const name = fc.stringMatching(/^[a-z0-9][a-z0-9.-]{0,20}$/);
const cidr = fc.oneof(
  fc
    .tuple(fc.uint8Array({ minLength: 4, maxLength: 4 }), fc.integer({ min: 20, max: 32 }))
    .map(([address, length]) => cidrOf(address, length)),
  fc
    .tuple(fc.uint8Array({ minLength: 16, maxLength: 16 }), fc.integer({ min: 116, max: 128 }))
    .map(([address, length]) => cidrOf(address, length)),
);
const key: fc.Arbitrary<Key> = fc.oneof(
  fc.record({ type: fc.constantFrom('IPPool', 'Node', 'Profile', 'BGPPeer'), name }),
  fc.record({
    type: fc.constantFrom('WorkloadEndpoint', 'NetworkPolicy', 'Service', 'EndpointSlice'),
    namespace: name,
    name,
  }),
  fc.record({ type: fc.constant('Block'), cidr }),
  fc.record({ type: fc.constant('BlockAffinity'), host: name, cidr }),
  fc.record({ type: fc.constant('Handle'), id: fc.string({ minLength: 1 }) }),
  fc.constant({ type: 'IpamConfig' }),
) as fc.Arbitrary<Key>;

test('every key has one place, below its type’s prefix, and is found there', () => {
  fc.assert(
    fc.property(key, (each) => {
      const place = etcdKey(each);
      expect(parseEtcdKey(place)).toEqual(each);
      expect(place.startsWith(etcdPrefix(each.type))).toBe(true);
    }),
  );
});

test('no text below /calico/ makes the key parser throw, and what it takes it gives back', () => {
  const text = fc
    .array(fc.oneof(name, fc.constantFrom('ipam', 'v2', 'host', 'block', 'ipv4', '10.0.0.0-26', '', '..')), {
      maxLength: 8,
    })
    .map((parts) => `/calico/${parts.join('/')}`);
  fc.assert(
    fc.property(text, (each) => {
      const found = parseEtcdKey(each);
      if (found) expect(etcdKey(found)).toBe(each);
    }),
  );
});

test('JSON keeps integers of any size', () => {
  const large = fc
    .bigInt({ min: -(2n ** 70n), max: 2n ** 70n })
    .filter((value) => !Number.isSafeInteger(Number(value)));
  const value = fc.letrec((tie) => ({
    any: fc.oneof(
      { depthSize: 'small' },
      large,
      fc.integer(),
      fc.string(),
      fc.boolean(),
      fc.constant(null),
      fc.array(tie('any')),
      fc.dictionary(
        fc.string().filter((text) => text !== '__proto__'),
        tie('any'),
        { noNullPrototype: true },
      ),
    ),
  })).any;
  fc.assert(
    fc.property(value, (each) => {
      expect(parseJson(formatJson(each))).toEqual(each);
    }),
  );
});
