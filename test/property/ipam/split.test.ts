import fc from 'fast-check';
import { expect, test } from 'vitest';
import { splitPool } from '../../../src/ipam/split.ts';
import { bits, cidrOf, cidrParts, contains, ipFromNumber, ipNumber, parseCidr } from '../../../src/model/address.ts';
import { poolValue } from '../../support/ipam.ts';

test('the parts are as many as asked, equal, side by side, and together the whole; no block is cut', () => {
  const pool = fc
    .tuple(
      fc.constantFrom(4 as const, 6 as const),
      fc.bigInt({ min: 0n, max: (1n << 128n) - 1n }),
      fc.nat(8),
      fc.nat(5),
    )
    .map(([family, number, above, below]) => {
      const blockSize = family === 4 ? 26 : 122;
      const address = ipFromNumber(family === 4 ? number & 0xffffffffn : number, family);
      const octets = Uint8Array.from(
        Buffer.from(
          ipNumber(address)
            .toString(16)
            .padStart(bits(family) / 4, '0'),
          'hex',
        ),
      );
      const cidr = cidrOf(octets, blockSize - above - 1);
      return { cidr, blockSize, count: 2 ** Math.min(below + 1, above + 1) };
    });
  fc.assert(
    fc.property(pool, ({ cidr, blockSize, count }) => {
      const parts = splitPool(poolValue('p', cidr, { blockSize, natOutgoing: true }), count);
      expect(parts).toHaveLength(count);
      let next = ipNumber(cidrParts(cidr).address);
      for (const { metadata, spec } of parts) {
        const part = parseCidr(spec.cidr);
        const { address, length, family } = cidrParts(part);
        expect(ipNumber(address)).toBe(next);
        expect(contains(cidr, part) && length <= blockSize).toBe(true);
        next += 1n << BigInt(bits(family) - length);
        expect([spec.natOutgoing, metadata.name.startsWith('split-p-')]).toEqual([true, true]);
      }
      const { length, family, address } = cidrParts(cidr);
      expect(next - ipNumber(address)).toBe(1n << BigInt(bits(family) - length));
    }),
  );
});
