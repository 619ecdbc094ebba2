import fc from 'fast-check';
import { expect, test } from 'vitest';
import { ServiceIndex } from '../../../src/bgp/service-index.ts';
import { type Announcer, type ServiceRanges, serviceOriginations } from '../../../src/bgp/services.ts';
import { type Cidr, parseCidr } from '../../../src/model/address.ts';
import { type EndpointSlice, parseResource, type Service } from '../../../src/model/kinds.ts';

const apiVersion = 'projectcalico.org/v3';
const name = fc.constantFrom('s0', 's1');
const addressOf = (range: string) => fc.constantFrom(1, 2, 3).map((last) => `${range}${last}`);
const policy = fc.constantFrom('Cluster', 'Local', 'Local');

const service = fc
  .record({
    name,
    type: fc.constantFrom('ClusterIP', 'NodePort', 'LoadBalancer', 'LoadBalancer', 'ExternalName'),
    clusterIPs: fc.uniqueArray(fc.oneof(addressOf('10.96.0.'), addressOf('fd96::')), { minLength: 1, maxLength: 2 }),
    externalIPs: fc.uniqueArray(addressOf('192.0.2.'), { maxLength: 2 }),
    loadBalancerIPs: fc.uniqueArray(addressOf('198.51.100.'), { maxLength: 2 }),
    externalTrafficPolicy: policy,
    internalTrafficPolicy: policy,
  })
  .map(
    ({ name: own, ...spec }): Service =>
      parseResource('Service', { kind: 'Service', apiVersion, metadata: { name: own, namespace: 'n' }, spec }),
  );

const slice = fc
  .record({
    name: fc.constantFrom('e0', 'e1', 'e2'),
    service: fc.option(name, { nil: undefined, freq: 8 }),
    addressType: fc.constantFrom('IPv4', 'IPv6'),
    endpoints: fc.array(
      fc.record({
        nodeName: fc.constantFrom('a', 'b'),
        conditions: fc.record({ ready: fc.constantFrom(true, true, false) }),
      }),
      { maxLength: 2 },
    ),
  })
  .map(
    ({ name: own, service: of, ...rest }): EndpointSlice =>
      parseResource('EndpointSlice', {
        kind: 'EndpointSlice',
        apiVersion,
        metadata: { name: own, namespace: 'n' },
        spec: { ...rest, ...(of ? { service: of } : {}) },
      }),
  );

const someOf = (...cidrs: string[]) =>
  fc.oneof(fc.constant(cidrs), fc.subarray(cidrs)).map((chosen): Cidr[] => chosen.map((text) => parseCidr(text)));
const ranges: fc.Arbitrary<ServiceRanges> = fc.record({
  cluster: someOf('10.96.0.0/16', 'fd96::/112', '10.96.0.2/32'),
  external: someOf('192.0.2.0/24', '192.0.2.2/32'),
  loadBalancer: someOf('198.51.100.0/24', '198.51.100.1/32'),
  aggregate: fc.boolean(),
});
const announcer: fc.Arbitrary<Announcer> = fc.record({
  node: fc.constantFrom('a', 'a', 'b'),
  excluded: fc.nat(9).map((n) => n === 0),
});

type Step =
  | { readonly do: 'service'; readonly value: Service }
  | { readonly do: 'slice'; readonly value: EndpointSlice }
  | { readonly do: 'forget'; readonly what: 'service' | 'slice'; readonly name: string }
  | { readonly do: 'configure'; readonly ranges: ServiceRanges; readonly announcer: Announcer };

const step: fc.Arbitrary<Step> = fc.oneof(
  service.map((value): Step => ({ do: 'service', value })),
  slice.map((value): Step => ({ do: 'slice', value })),
  fc.record({ do: fc.constant('forget'), what: fc.constant('service'), name }) as fc.Arbitrary<Step>,
  fc.record({
    do: fc.constant('forget'),
    what: fc.constant('slice'),
    name: fc.constantFrom('e0', 'e1', 'e2'),
  }) as fc.Arbitrary<Step>,
  fc.record({ do: fc.constant('configure'), ranges, announcer }) as fc.Arbitrary<Step>,
);
/** The first ones make it likely that something is announced. */
const script = fc
  .tuple(
    fc.array(service, { minLength: 2, maxLength: 2 }),
    fc.array(slice, { minLength: 3, maxLength: 3 }),
    fc.array(step, { maxLength: 30 }),
  )
  .map(([services, slices, steps]): Step[] => [
    ...services.map((value): Step => ({ do: 'service', value })),
    ...slices.map((value): Step => ({ do: 'slice', value })),
    ...steps,
  ]);

test('whatever order things come in, the outcome is that of computing afresh, and a change is never missed', () => {
  fc.assert(
    fc.property(ranges, announcer, script, (initialRanges, initialAnnouncer, steps) => {
      const index = new ServiceIndex();
      const services = new Map<string, Service>();
      const slices = new Map<string, EndpointSlice>();
      let settings = { ranges: initialRanges, announcer: initialAnnouncer };
      let before = index.originations(settings.ranges, settings.announcer);
      for (const each of steps) {
        let changed = true;
        if (each.do === 'configure') settings = each;
        else changed = applied(index, services, slices, each);
        const after = index.originations(settings.ranges, settings.announcer);
        const afresh = serviceOriginations(services.values(), slices.values(), settings.ranges, settings.announcer);
        expect(after).toEqual(afresh);
        if (!changed) expect(after).toBe(before);
        before = after;
      }
    }),
    { numRuns: 500 },
  );
});

function applied(
  index: ServiceIndex,
  services: Map<string, Service>,
  slices: Map<string, EndpointSlice>,
  each: Exclude<Step, { do: 'configure' }>,
): boolean {
  switch (each.do) {
    case 'service':
      services.set(each.value.metadata.name, each.value);
      return index.setService(each.value);
    case 'slice':
      slices.set(each.value.metadata.name, each.value);
      return index.setSlice(each.value);
    case 'forget':
      if (each.what === 'service') {
        services.delete(each.name);
        return index.deleteService('n', each.name);
      }
      slices.delete(each.name);
      return index.deleteSlice('n', each.name);
  }
}
