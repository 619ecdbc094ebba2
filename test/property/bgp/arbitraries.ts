import fc from 'fast-check';
import type { Segment } from '../../../src/bgp/wire/aspath.ts';
import type { Attributes } from '../../../src/bgp/wire/attributes.ts';
import { type Cidr, cidrOf, type Family, formatIp, type Ip, isLinkLocal } from '../../../src/model/address.ts';

export const u32 = fc.nat({ max: 0xffffffff });
const asn = fc.integer({ min: 1, max: 0xffffffff });

export const ip4: fc.Arbitrary<Ip> = fc.uint8Array({ minLength: 4, maxLength: 4 }).map(formatIp);
const ip6: fc.Arbitrary<Ip> = fc.uint8Array({ minLength: 16, maxLength: 16 }).map(formatIp);

export function cidr(family: Family): fc.Arbitrary<Cidr> {
  const octets = family === 4 ? 4 : 16;
  return fc
    .tuple(fc.uint8Array({ minLength: octets, maxLength: octets }), fc.nat({ max: octets * 8 }))
    .map(([address, length]) => cidrOf(address, length));
}

const segment: fc.Arbitrary<Segment> = fc.record({
  type: fc.constantFrom('sequence' as const, 'set' as const),
  asns: fc.array(asn, { minLength: 1, maxLength: 8 }),
});

/** A link-local address. */
const near6: fc.Arbitrary<Ip> = fc.uint8Array({ minLength: 16, maxLength: 16 }).map((octets) => {
  octets.set([0xfe, 0x80]);
  return formatIp(octets);
});

/** Any attributes with an IPv6 next hop, which a link-local one may follow. RFC 2545 §3. */
export function attributesOverIpv6(): fc.Arbitrary<Attributes> {
  const global6 = ip6.filter((address) => !address.startsWith('::') && !isLinkLocal(address));
  const hops = fc.oneof(
    fc.record({ nextHop: global6, linkLocal: near6 }),
    fc.record({ nextHop: fc.oneof(global6, near6) }),
  );
  return fc.tuple(attributes(6), hops).map(([rest, told]) => ({ ...rest, ...told }));
}

/** Any attributes that a peer of the same AS may send, with a next hop of the family. */
export function attributes(family: Family): fc.Arbitrary<Attributes> {
  return fc.record(
    {
      origin: fc.constantFrom('igp' as const, 'egp' as const, 'incomplete' as const),
      asPath: fc.array(segment, { maxLength: 4 }),
      nextHop: family === 4 ? ip4 : ip6,
      med: u32,
      localPref: u32,
      atomicAggregate: fc.constant(true as const),
      aggregator: fc.record({ asn, address: ip4 }),
      communities: fc.array(u32, { minLength: 1, maxLength: 80 }),
      extendedCommunities: fc.array(
        fc.uint8Array({ minLength: 8, maxLength: 8 }).map((octets) => Buffer.from(octets).toString('hex')),
        { minLength: 1, maxLength: 5 },
      ),
      largeCommunities: fc.array(fc.tuple(u32, u32, u32), { minLength: 1, maxLength: 5 }),
      originatorId: ip4,
      clusterList: fc.array(ip4, { minLength: 1, maxLength: 4 }),
    },
    { requiredKeys: ['origin', 'asPath', 'nextHop'] },
  );
}
