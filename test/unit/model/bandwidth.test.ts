import { expect, test } from 'vitest';
import { InputError } from '../../../src/base/errors.ts';
import { endpointWishes } from '../../../src/model/bandwidth.ts';
import { parseResource } from '../../../src/model/kinds.ts';
import { apiVersion } from '../../../src/model/resource.ts';

function wishes(annotations: Record<string, string>, spec: object = {}) {
  const endpoint = parseResource('WorkloadEndpoint', {
    kind: 'WorkloadEndpoint',
    apiVersion,
    metadata: { name: 'w', namespace: 'shop', annotations },
    spec: { orchestrator: 'k8s', node: 'n1', endpoint: 'eth0', interfaceName: 'calia', ...spec },
  });
  return endpointWishes(endpoint);
}

test.each([
  [{ 'kubernetes.io/ingress-bandwidth': '10M' }, { ingress: { rate: 10e6 } }],
  [{ 'kubernetes.io/egress-bandwidth': '1.5Gi' }, { egress: { rate: 1.5 * 2 ** 30 } }],
  [
    { 'kubernetes.io/ingress-bandwidth': '10M', 'qos.projectcalico.org/ingressBandwidth': '20k' },
    { ingress: { rate: 20_000 } },
  ],
  [
    { 'qos.projectcalico.org/egressBandwidth': '1', 'qos.projectcalico.org/egressBurst': '4M' },
    { egress: { rate: 1000, burst: 4e6 } },
  ],
  [{ 'kubernetes.io/ingress-bandwidth': '9999P' }, { ingress: { rate: 1e15 } }],
  [{ 'qos.projectcalico.org/egressBurst': '4M' }, {}],
  [{ 'qos.projectcalico.org/ingressPacketRate': '500' }, { ingressPackets: { rate: 500, burst: 5 } }],
  [
    { 'qos.projectcalico.org/egressPacketRate': '1M', 'qos.projectcalico.org/egressPacketBurst': '2k' },
    { egressPackets: { rate: 10_000, burst: 2000 } },
  ],
  [
    { 'qos.projectcalico.org/ingressMaxConnections': '7', 'qos.projectcalico.org/egressMaxConnections': '10G' },
    { ingressConnections: 7, egressConnections: 2 ** 32 - 1 },
  ],
])('%o', (annotations, wanted) => {
  expect(wishes(annotations)).toEqual({ sourcePrefixes: [], ...wanted });
});

test('the fields of the spec come before the annotations', () => {
  const annotations = {
    'kubernetes.io/ingress-bandwidth': '10M',
    'cni.projectcalico.org/allowedSourcePrefixes': '["10.9.0.0/16"]',
  };
  expect(wishes(annotations).sourcePrefixes).toEqual(['10.9.0.0/16']);
  const packets = { egressPacketRate: 9, egressPacketBurst: 0, egressMaxConnections: 3 };
  expect(wishes({ 'qos.projectcalico.org/egressMaxConnections': '4' }, { qosControls: packets })).toEqual({
    egressPackets: { rate: 9, burst: 5 },
    egressConnections: 3,
    sourcePrefixes: [],
  });
  const spec = { qosControls: { ingressBandwidth: 5000 }, allowSpoofedSourcePrefixes: ['fd09::1/64'] };
  expect(wishes(annotations, spec)).toEqual({ ingress: { rate: 5000 }, sourcePrefixes: ['fd09::/64'] });
});

test.each([
  { 'kubernetes.io/ingress-bandwidth': '10X' },
  { 'kubernetes.io/ingress-bandwidth': '-1' },
  { 'kubernetes.io/egress-bandwidth': '' },
  { 'kubernetes.io/egress-bandwidth': '1toString' },
  { 'qos.projectcalico.org/ingressMaxConnections': 'many' },
  { 'cni.projectcalico.org/allowedSourcePrefixes': '10.0.0.0/8' },
  { 'cni.projectcalico.org/allowedSourcePrefixes': '[1]' },
  { 'cni.projectcalico.org/allowedSourcePrefixes': '["10.0.0.0/99"]' },
])('%o is refused and named', (annotations) => {
  expect(() => wishes(annotations)).toThrow(InputError);
  expect(() => wishes(annotations)).toThrow(Object.keys(annotations)[0] ?? '');
});
