import fc from 'fast-check';
import type { Event } from '../../../src/datastore/store.ts';
import { calicoEvent, endpointEvent, namespaceEvent, sliceEvent } from '../cluster.ts';

/** A pod whose policy names services in both directions, and who is behind these. */

const four = ['10.65.0.2', '10.65.0.3', '192.0.2.1'];
const six = ['fd00::2', 'fd00::3', 'fd00:1::1'];
export const serviceOthers = [...four, ...six];
export const servicePod = {
  name: 'pod-0',
  namespace: 'one',
  labels: {},
  addresses: ['10.65.0.1', 'fd00::1'],
  ports: [],
};

const port = fc.record({
  protocol: fc.constantFrom('TCP' as const, 'UDP' as const, 'SCTP' as const),
  port: fc.constantFrom(53, 80),
});
const slice = fc.record({
  namespace: fc.constantFrom('one', 'one', 'two'),
  service: fc.constantFrom('a', 'b'),
  addresses: fc.oneof(fc.subarray(four, { minLength: 1 }), fc.subarray(six, { minLength: 1 })),
  ports: fc.uniqueArray(port, { maxLength: 3, selector: (each) => JSON.stringify(each) }),
});
const rule = fc.record(
  {
    action: fc.constantFrom('Allow', 'Allow', 'Deny', 'Pass'),
    name: fc.constantFrom('a', 'a', 'b', 'none'),
    namespace: fc.constantFrom('one', 'two'),
  },
  { requiredKeys: ['action', 'name'] },
);
const rules = fc.array(rule, { minLength: 1, maxLength: 3 });

export interface ServiceRule {
  readonly action: string;
  readonly name: string;
  /** Absent: the policy's own, `one`. */
  readonly namespace?: string;
}

export interface ServiceWorld {
  readonly slices: readonly {
    readonly namespace: string;
    readonly service: string;
    readonly addresses: readonly string[];
    readonly ports: readonly { readonly protocol: string; readonly port: number }[];
  }[];
  readonly ingress: readonly ServiceRule[];
  readonly egress: readonly ServiceRule[];
}

export const serviceWorld: fc.Arbitrary<ServiceWorld> = fc.record({
  slices: fc.array(slice, { minLength: 2, maxLength: 5 }),
  ingress: rules,
  egress: rules,
});

/** The pod and its policy, and the slices. */
export function serviceEvents({ slices, ingress, egress }: ServiceWorld): {
  readonly policy: Event;
  readonly rest: readonly Event[];
} {
  const refer = ({ name, namespace }: ServiceRule) => ({
    services: { name, ...(namespace !== undefined && { namespace }) },
  });
  const spec = {
    types: ['Ingress', 'Egress'],
    ingress: ingress.map((each) => ({ action: each.action, source: refer(each) })),
    egress: egress.map((each) => ({ action: each.action, destination: refer(each) })),
  };
  return {
    policy: calicoEvent('NetworkPolicy', { name: 'p', namespace: 'one' }, spec),
    rest: [
      namespaceEvent('one', {}),
      endpointEvent(servicePod),
      ...slices.map((each, i) => sliceEvent(each.namespace, each.service, each.addresses, each.ports, `s${i}`)),
    ],
  };
}

export interface ServicePacket {
  readonly direction: 'ingress' | 'egress';
  /** The end that is not the pod. */
  readonly other: string;
  readonly protocol: 'TCP' | 'UDP' | 'SCTP';
  readonly port: number;
}

/** The verdict as the documentation of Calico has it: the first rule whose service the other end is behind. */
export function serviceAllows({ slices, ...rulesOf }: ServiceWorld, packet: ServicePacket): boolean {
  const { direction, other, protocol, port: number } = packet;
  const hit = rulesOf[direction].find((each) =>
    slices.some(
      (behind) =>
        behind.service === each.name &&
        behind.namespace === (each.namespace ?? 'one') &&
        behind.addresses.includes(other) &&
        (direction === 'ingress' || behind.ports.some((open) => open.protocol === protocol && open.port === number)),
    ),
  );
  // Pass leads to the namespace's profile, which allows.
  return hit !== undefined && hit.action !== 'Deny';
}

export const servicePackets: readonly ServicePacket[] = serviceOthers.flatMap((other) =>
  (['TCP', 'UDP', 'SCTP'] as const).flatMap((protocol) =>
    [53, 80].flatMap((number) =>
      (['ingress', 'egress'] as const).map((direction) => ({ direction, other, protocol, port: number })),
    ),
  ),
);
