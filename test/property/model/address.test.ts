import fc from 'fast-check';
import { Address6 } from 'ip-address';
import { expect, test } from 'vitest';
import { InputError } from '../../../src/base/errors.ts';
import {
  bits,
  cidrOf,
  cidrParts,
  contains,
  formatIp,
  ipBytes,
  ipFromNumber,
  ipNumber,
  parseCidr,
  parseIp,
} from '../../../src/model/address.ts';

const bytes = fc.oneof(fc.uint8Array({ minLength: 4, maxLength: 4 }), fc.uint8Array({ minLength: 16, maxLength: 16 }));

test('octets → text → octets is the identity, and text is canonical', () => {
  fc.assert(
    fc.property(bytes, (octets) => {
      const text = formatIp(octets);
      expect(ipBytes(text)).toEqual(octets);
      expect(parseIp(text)).toBe(text);
      expect(ipFromNumber(ipNumber(text), octets.length === 4 ? 4 : 6)).toBe(text);
    }),
  );
});

test('a prefix holds exactly the addresses that share its leading bits', () => {
  const pair = fc
    .constantFrom(4, 16)
    .chain((size) =>
      fc.tuple(
        fc.uint8Array({ minLength: size, maxLength: size }),
        fc.uint8Array({ minLength: size, maxLength: size }),
        fc.nat({ max: size * 8 }),
        fc.nat({ max: size }),
      ),
    );
  fc.assert(
    fc.property(pair, ([a, random, length, shared]) => {
      // Half-equal addresses make both answers likely.
      const b = Uint8Array.from(random, (octet, i) => (i < shared ? (a[i] ?? 0) : octet));
      const binary = (octets: Uint8Array) => [...octets].map((octet) => octet.toString(2).padStart(8, '0')).join('');
      const expected = binary(a).slice(0, length) === binary(b).slice(0, length);
      const cidr = cidrOf(a, length);
      expect(contains(cidr, formatIp(b))).toBe(expected);
      expect(parseCidr(cidr)).toBe(cidr);
      const { family } = cidrParts(cidr);
      expect(contains(cidr, cidrOf(b, bits(family)))).toBe(expected);
    }),
  );
});

test('IPv6 text is what the ip-address library calls the correct form', () => {
  // Runs of zeros, which random octets would hardly ever hold.
  const group = fc.oneof({ weight: 2, arbitrary: fc.constant([0, 0]) }, fc.tuple(fc.nat(255), fc.nat(255)));
  fc.assert(
    fc.property(fc.array(group, { minLength: 8, maxLength: 8 }), (groups) => {
      const octets = groups.flat();
      expect(formatIp(Uint8Array.from(octets))).toBe(Address6.fromByteArray(octets).correctForm());
    }),
    { numRuns: 2000 },
  );
});

test('an IPv6 address is read as by others, in every spelling', () => {
  const group = fc.stringMatching(/^[0-9a-fA-F]{0,5}$/);
  const text = fc
    .tuple(fc.array(group, { maxLength: 9 }), fc.array(group, { maxLength: 9 }), fc.boolean())
    .map(([left, right, gap]) => (gap ? `${left.join(':')}::${right.join(':')}` : [...left, ...right].join(':')))
    .filter((each) => each.includes(':'));
  const octet = fc.oneof(
    { weight: 8, arbitrary: fc.nat(255).map(String) },
    fc.constantFrom('256', '', 'a', '1000', '-1', ' 1'),
  );
  const quad = fc.array(octet, { minLength: 3, maxLength: 5 }).map((octets) => octets.join('.'));
  // Mapped and compatible addresses, and quads where none may be.
  const mixed = fc
    .tuple(
      fc.oneof(fc.constantFrom('::', '::ffff', '64:ff9b:', '::ffff:0', '1:2:3:4:5:6', '', ':'), text),
      quad,
      fc.boolean(),
    )
    .map(([before, after, gap]) => `${before}${gap ? ':' : ''}${after}`)
    .filter((each) => each.includes(':'));
  const theirs = (each: string) =>
    Address6.isValid(each) ? new Address6(each).canonicalForm().replaceAll(':', '') : undefined;
  const ours = (each: string) => {
    try {
      return Buffer.from(ipBytes(each)).toString('hex');
    } catch (thrown) {
      if (thrown instanceof InputError) return undefined;
      throw thrown;
    }
  };
  fc.assert(
    fc.property(fc.oneof(text, mixed), (each) => {
      expect(ours(each)).toBe(theirs(each));
    }),
    { numRuns: 4000 },
  );
});
