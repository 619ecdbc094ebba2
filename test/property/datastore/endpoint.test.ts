import fc from 'fast-check';
import { expect, test } from 'vitest';
import { buildEndpoint } from '../../../src/cni/endpoint.ts';
import type { Attachment } from '../../../src/cni/request.ts';
import { decode, encode } from '../../../src/datastore/codec.ts';
import { parseIp } from '../../../src/model/address.ts';

const labels = fc.dictionary(
  fc.oneof(
    fc.stringMatching(/^[a-z]{1,8}$/),
    fc.constantFrom('__proto__', 'constructor', 'projectcalico.org/serviceaccount'),
  ),
  fc.stringMatching(/^[a-zA-Z0-9._-]{0,12}$/),
);
const addresses = fc.subarray(['10.65.0.1', 'fd00::1']).map((list) => list.map((text) => parseIp(text)));
const bandwidth = fc.option(fc.record({ ingressBandwidth: fc.integer({ min: 1000, max: 1_000_000 }) }), {
  nil: undefined,
});

test('what a store keeps of an endpoint that it wrote is what it would read', () => {
  const key = { type: 'WorkloadEndpoint', namespace: 'shop', name: 'n1-k8s-web-eth0' } as const;
  fc.assert(
    fc.property(
      labels,
      addresses,
      bandwidth,
      fc.bigInt({ min: 1n, max: 2n ** 63n }),
      (given, ips, shaped, revision) => {
        const network = { labels: given, ...(shaped && { bandwidth: shaped }) };
        const attachment = { containerId: 'c1', ifName: 'eth0', network } as unknown as Attachment;
        const pod = { namespace: 'shop', name: 'web' };
        const facts = { node: 'n1', interfaceName: 'cali1', mac: '02:00:00:00:00:01', uid: 'u', now: new Date(0) };
        const endpoint = buildEndpoint({ ...facts, name: key.name, pod, attachment, addresses: ips });
        const { text, decoded } = encode(key, endpoint);
        expect(decoded?.(String(revision))).toEqual(decode(key, text, String(revision)));
      },
    ),
    { numRuns: 500 },
  );
});
