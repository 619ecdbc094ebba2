import { createHash } from 'node:crypto';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { InputError } from '../../../src/base/errors.ts';
import { handleOf, isManaged, planService } from '../../../src/controllers/service-addresses.ts';
import type { Ip } from '../../../src/model/address.ts';
import { type IpPool, parseResource, type Service } from '../../../src/model/kinds.ts';
import { apiVersion } from '../../../src/model/resource.ts';

type Annotations = Readonly<Record<string, string>>;

function service(annotations: Annotations = {}, spec: object = {}): Service {
  const named = Object.entries(annotations).map(([name, text]) => [`projectcalico.org/${name}`, text]);
  return parseResource('Service', {
    ...{ kind: 'Service', apiVersion },
    metadata: { name: 'Web', namespace: 'shop', uid: 'UID-1', annotations: Object.fromEntries(named) },
    spec: { type: 'LoadBalancer', clusterIPs: ['10.96.0.9'], ...spec },
  });
}

const pool = (name: string, cidr: string, more: object = {}): IpPool =>
  parseResource('IPPool', {
    ...{ kind: 'IPPool', apiVersion, metadata: { name } },
    spec: { cidr, allowedUses: ['LoadBalancer'], ...more },
  });
const pools = [
  pool('auto', '192.0.2.0/24'),
  pool('manual', '198.51.100.0/24', { assignmentMode: 'Manual' }),
  pool('six', '2001:db8::/112'),
];
const plan = (annotations: Annotations, held: readonly string[], spec: object = {}) =>
  planService(service(annotations, spec), held as readonly Ip[], pools);

test.each([
  ['any, where all are', {}, {}, 'AllServices', true],
  ['of another type', {}, { type: 'NodePort' }, 'AllServices', false],
  ['of another class', { ipv4pools: '["auto"]' }, { loadBalancerClass: 'metallb' }, 'AllServices', false],
  ['of our class', {}, { loadBalancerClass: 'calico' }, 'RequestedServicesOnly', true],
  ['that asks for nothing', {}, {}, 'RequestedServicesOnly', false],
  ['that asks for pools', { ipv6pools: '["six"]' }, {}, 'RequestedServicesOnly', true],
  ['that asks for addresses', { loadBalancerIPs: '["192.0.2.1"]' }, {}, 'RequestedServicesOnly', true],
  ['where none are', { loadBalancerIPs: '["192.0.2.1"]' }, {}, undefined, false],
] as const)('a service %s', (_what, annotations, spec, assignIps, expected) => {
  expect(isManaged(service(annotations, spec), assignIps)).toBe(expected);
});

test('the handle is made of name, namespace and UID in lower case, as Calico makes it', () => {
  const digest = createHash('sha256').update('web-shop-uid-1').digest('base64');
  expect(handleOf(service())).toBe(`lb-${digest.replaceAll(/[+/=]/g, '')}`);
});

const both = { clusterIPs: ['10.96.0.9', 'fd00::9'] };
test.each([
  ['nothing held', {}, [], {}, { keep: [], release: [], assign: { families: [4] } }],
  ['two families', {}, [], both, { keep: [], release: [], assign: { families: [4, 6] } }],
  ['one of two held', {}, ['192.0.2.7'], both, { keep: ['192.0.2.7'], release: [], assign: { families: [6] } }],
  ['all held', {}, ['192.0.2.7'], {}, { keep: ['192.0.2.7'], release: [], assign: undefined }],
  [
    'a second of a family',
    {},
    ['192.0.2.7', '192.0.2.8'],
    {},
    { keep: ['192.0.2.7'], release: ['192.0.2.8'], assign: undefined },
  ],
  [
    'a family that it lost',
    {},
    ['192.0.2.7', '2001:db8::1'],
    {},
    { keep: ['192.0.2.7'], release: ['2001:db8::1'], assign: undefined },
  ],
  [
    'of a pool that must be asked for',
    {},
    ['198.51.100.7'],
    {},
    { keep: [], release: ['198.51.100.7'], assign: { families: [4] } },
  ],
  [
    'of another pool than asked for',
    { ipv4pools: '["manual"]' },
    ['192.0.2.7'],
    both,
    { keep: [], release: ['192.0.2.7'], assign: { families: [4, 6], pools: ['manual'] } },
  ],
  [
    'another address asked for',
    { loadBalancerIPs: '["192.0.2.9","2001:db8::9"]', ipv4pools: '["manual"]' },
    ['192.0.2.7', '2001:db8::9'],
    {},
    { keep: ['2001:db8::9'], release: ['192.0.2.7'], assign: { families: [4], addresses: ['192.0.2.9'] } },
  ],
])('%s', (_what, annotations, held, spec, expected) => {
  expect(plan(annotations as Annotations, held, spec)).toEqual(expected);
});

test.each(['x', '[]', '["192.0.2.1","192.0.2.2"]', '[7]', '["192.0.2.1/32"]', '{}'])(
  'loadBalancerIPs: %s is refused by name',
  (text) => expect(() => plan({ loadBalancerIPs: text }, [])).toThrow('Service(shop/Web).metadata.annotations'),
);

test('whatever is asked for, what is kept was held, and carried out leaves nothing more to do', () => {
  const address = fc.constantFrom('192.0.2.1', '192.0.2.2', '198.51.100.1', '2001:db8::1', '203.0.113.1');
  const text = fc.oneof(
    fc.array(address).map((list) => JSON.stringify(list)),
    fc.constantFrom('["auto"]', '["manual","six"]', 'x'),
  );
  const annotations = fc.dictionary(fc.constantFrom('loadBalancerIPs', 'ipv4pools', 'ipv6pools'), text);
  fc.assert(
    fc.property(annotations, fc.uniqueArray(address), fc.boolean(), (asked, held, dual) => {
      try {
        const { keep, release, assign } = plan(asked, held, dual ? both : {});
        expect([...keep, ...release].sort()).toEqual([...held].sort());
        const again = plan(asked, keep, dual ? both : {});
        expect(again).toEqual({ keep, release: [], assign });
      } catch (thrown) {
        expect(thrown).toBeInstanceOf(InputError);
      }
    }),
  );
});
