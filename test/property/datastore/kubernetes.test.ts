import fc from 'fast-check';
import { expect, test } from 'vitest';
import { formatJson, parseJson } from '../../../src/datastore/json.ts';
import { blockSource } from '../../../src/datastore/kubernetes/ipam.ts';
import { convertUid, readMetadata, writeMetadata } from '../../../src/datastore/kubernetes/metadata.ts';
import { affinityName, cidrName, hostnameHash, parseCidrName } from '../../../src/datastore/kubernetes/names.ts';
import { formatRevisions, parseRevisions } from '../../../src/datastore/kubernetes/revision.ts';
import { type Cidr, cidrOf } from '../../../src/model/address.ts';
import { endpointName, parseEndpointName } from '../../../src/model/endpoint-name.ts';
import type { Block } from '../../../src/model/ipam.ts';

const cidr: fc.Arbitrary<Cidr> = fc
  .oneof(
    fc.tuple(fc.uint8Array({ minLength: 4, maxLength: 4 }), fc.integer({ min: 20, max: 32 })),
    fc.tuple(
      // Runs of zeros are what IPv6 texts abbreviate.
      fc
        .array(fc.constantFrom(0, 0, 1, 0xfd, 0xff), { minLength: 16, maxLength: 16 })
        .map((bytes) => Uint8Array.from(bytes)),
      fc.integer({ min: 116, max: 128 }),
    ),
  )
  .map(([address, length]) => cidrOf(address, length));

const part = fc.stringMatching(/^[a-z0-9]([-a-z0-9]{0,10}[a-z0-9])?$/);
const text = fc.string({ unit: 'binary', maxLength: 12 });
const map = fc.dictionary(
  fc.oneof(
    part,
    part.map((name) => `projectcalico.org/${name}`),
    part.map((name) => `operator.tigera.io/${name}`),
  ),
  text,
  { minKeys: 1, maxKeys: 4 },
);

test('a block’s name tells its prefix', () => {
  fc.assert(
    fc.property(cidr, (prefix) => {
      expect(parseCidrName(cidrName(prefix))).toBe(prefix);
    }),
  );
});

test('an affinity’s name and its labels are such as the API takes', () => {
  fc.assert(
    fc.property(fc.stringMatching(/^[a-z0-9]([-a-z0-9]{0,250}[a-z0-9])?$/), cidr, (host, prefix) => {
      expect(affinityName(host, prefix).length).toBeLessThanOrEqual(253);
      expect(hostnameHash(host)).toMatch(/^[A-Z2-7]{52}$/);
    }),
  );
});

test('an endpoint’s name tells its parts', () => {
  fc.assert(
    fc.property(part, part, (node, pod) => {
      expect(parseEndpointName(endpointName(node, pod, 'eth0'))).toEqual({ node, pod, endpoint: 'eth0' });
    }),
  );
});

test('a UID is converted both ways, and never to itself by chance of version', () => {
  fc.assert(
    fc.property(fc.uuid(), (uid) => {
      expect(convertUid(convertUid(uid))).toBe(uid);
      expect(convertUid(uid)[14]).toBe(uid[14]);
    }),
  );
});

test('metadata comes back as it was given, whatever the storage has beside it', () => {
  fc.assert(
    fc.property(
      fc.record({ name: part, labels: map, annotations: map }, { requiredKeys: ['name'] }),
      fc.boolean(),
      map,
      (given, policy, outer) => {
        const stored = writeMetadata(given, 'stored', policy);
        // Others' labels on the storage are not Calico's, unless they say so.
        const foreign = Object.fromEntries(
          Object.entries(outer).map(([name, value]) => [`helm.sh/${name.length}`, value]),
        );
        const found = { ...stored, labels: { ...foreign, ...stored.labels } };
        expect(readMetadata(found, 'x')).toEqual({ ...given, name: policy ? given.name : 'stored' });
      },
    ),
  );
});

test('revisions of lists come back as they were given', () => {
  const revisions = fc.dictionary(part, fc.nat().map(String), { minKeys: 1 });
  fc.assert(
    fc.property(revisions, (given) => {
      expect(Object.fromEntries(parseRevisions(formatRevisions(new Map(Object.entries(given)))))).toEqual(given);
    }),
  );
});

test('a block comes back from its resource as it was, exact numbers included', () => {
  const sequence = fc.bigInt({ min: 0n, max: 2n ** 63n - 1n });
  const slots = fc.array(fc.boolean(), { minLength: 4, maxLength: 4 });
  fc.assert(
    fc.property(slots, sequence, fc.option(part, { nil: null }), (taken, sequenceNumber, host) => {
      const ordinals = [0, 1, 2, 3];
      const block = {
        cidr: '10.0.0.0/30' as Cidr,
        affinity: host === null ? null : `host:${host}`,
        ...(host === null ? {} : { affinity_claim_time: '2026-03-02T10:11:12Z' }),
        allocations: ordinals.map((at) => (taken[at] ? 0 : null)),
        unallocated: ordinals.filter((at) => !taken[at]),
        attributes: [{ handle_id: 'net.a', secondary: { node: 'n' } }],
        sequenceNumber,
        sequenceNumberForAllocation: Object.fromEntries(
          ordinals.filter((at) => taken[at]).map((at) => [at, sequenceNumber]),
        ),
        deleted: false,
      } as Block;
      const key = { type: 'Block', cidr: block.cidr } as const;
      const { writer } = blockSource;
      if (writer?.by !== 'replace') return expect.fail('blocks are written whole');
      const object = parseJson(formatJson(writer.write(key, block))) as Parameters<typeof blockSource.read>[0];
      const wide = (value: unknown) => formatJson(value);
      expect(blockSource.keyOf(object)).toEqual(key);
      expect(parseJson(wide(blockSource.read(object, key)))).toEqual(parseJson(wide(block)));
    }),
  );
});
