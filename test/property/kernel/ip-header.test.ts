import fc from 'fast-check';
import { expect, test } from 'vitest';
import { readPacketHead } from '../../../src/kernel/ip-header.ts';
import { familyOf } from '../../../src/model/address.ts';

const start = fc.constantFrom([0x45], [0x4f], [0x60]).map((first) => Uint8Array.from(first));
const extension = fc.constantFrom(0, 6, 17, 43, 44, 51, 58, 60, 135);

test('whatever the octets, there is a head with addresses of one family, or none', () => {
  fc.assert(
    fc.property(start, fc.uint8Array({ maxLength: 127 }), extension, (first, rest, next) => {
      const packet = Uint8Array.from([...first, ...rest]);
      if (packet.length > 6) packet[6] = next;
      const head = readPacketHead(packet);
      if (!head) {
        expect(packet.length).toBeLessThan(packet[0] === 0x60 ? 40 : 20);
        return;
      }
      expect([familyOf(head.source), familyOf(head.destination)]).toEqual([head.family, head.family]);
      expect(head.protocol).toBeLessThan(256);
    }),
    { numRuns: 3000 },
  );
});
