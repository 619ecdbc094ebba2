import fc from 'fast-check';
import { expect, test } from 'vitest';
import { rangeFor } from '../../../src/bgp/dynamic.ts';
import type { RangeConfig } from '../../../src/bgp/settings.ts';
import { compileStandalone } from '../../../src/bgp/standalone.ts';
import { cidrOf, cidrParts, contains, formatIp } from '../../../src/model/address.ts';

const noFiles = (path: string): string => {
  throw Object.assign(new Error(path), { syscall: 'open' });
};

const valid = {
  asn: 64512,
  routerId: '10.0.0.1',
  listen: { port: 179, addresses: ['10.0.0.1'] },
  addresses: ['10.0.0.1/24', 'fd00::1/64'],
  originate: ['192.0.2.0/24'],
  filters: { f: { importV4: [{ action: 'Reject', cidr: '10.0.0.0/8', matchOperator: 'In' }] } },
  neighbors: [
    { address: '10.0.0.2', asn: 65001, password: 'x', filters: ['f'] },
    { name: 'six', address: 'fe80::2%eth0', asn: 64512, routeReflectorClient: true, bfd: {} },
  ],
  ranges: [{ prefix: '10.1.0.0/16', asn: 64512, limit: 5, maxPrefixes: { limit: 9 } }],
};

/** Every place in a value, as a path. */
function places(value: unknown, path: readonly (string | number)[] = []): (readonly (string | number)[])[] {
  if (typeof value !== 'object' || value === null) return [path];
  const inner = Array.isArray(value) ? [...value.entries()] : Object.entries(value);
  return [path, ...inner.flatMap(([key, item]) => places(item, [...path, key]))];
}

function replaced(value: unknown, [step, ...rest]: readonly (string | number)[], by: unknown): unknown {
  if (step === undefined) return by;
  const copy = structuredClone(value) as Record<string | number, unknown>;
  copy[step] = replaced(copy[step], rest, by);
  return copy;
}

test('a file with anything anywhere is understood or refused with paths, and never throws', () => {
  expect(compileStandalone(valid, noFiles)).toHaveProperty('setup');
  fc.assert(
    fc.property(fc.constantFrom(...places(valid)), fc.jsonValue(), (path, by) => {
      const result = compileStandalone(replaced(valid, path, by), noFiles);
      if ('setup' in result) return;
      expect(result.problems.length).toBeGreaterThan(0);
      for (const { expected } of result.problems) expect(expected).not.toBe('');
    }),
    { numRuns: 2000 },
  );
});

test('whatever is no object is refused', () => {
  fc.assert(
    fc.property(fc.jsonValue(), (value) => {
      expect(compileStandalone(value, noFiles)).toHaveProperty('problems');
    }),
  );
});

test('the range of an address contains it, and no longer one does', () => {
  const octets = fc.uint8Array({ minLength: 4, maxLength: 4 });
  // Few bits set, so that ranges meet.
  const near = octets.map((bytes) => bytes.map((byte) => byte & 0x81));
  const peer: RangeConfig['peer'] = {
    role: 'peer',
    asn: 1,
    families: [4],
    holdSeconds: 90,
    restartSeconds: 120,
    acceptDefault: false,
    nextHopMode: 'auto',
  };
  const range = fc.tuple(near, fc.integer({ min: 0, max: 32 })).map(([bytes, length]) => {
    const prefix = cidrOf(bytes, length);
    return { name: prefix, prefix, limit: 1, peer };
  });
  fc.assert(
    fc.property(fc.array(range, { maxLength: 12 }), near, (ranges, bytes) => {
      const address = formatIp(bytes);
      const holding = ranges.filter(({ prefix }) => contains(prefix, address));
      const found = rangeFor(ranges, { address });
      expect(found === undefined).toBe(holding.length === 0);
      if (!found) return;
      const longest = Math.max(...holding.map(({ prefix }) => cidrParts(prefix).length));
      expect(cidrParts(found.prefix).length).toBe(longest);
      expect(holding).toContain(found);
    }),
  );
});
