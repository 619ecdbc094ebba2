import fc from 'fast-check';
import type { Event } from '../../../src/datastore/store.ts';
import { calicoEvent, node } from '../cluster.ts';
import type { HostPacket, HostPolicy, HostRule, HostWorld } from '../host-oracle.ts';

/** One host endpoint of this node under policies of every kind, and a host beyond it. */

export const hostAddresses = { here: '192.0.2.129', far: '192.0.2.130' };
export const failsafe = { ingress: [22], egress: [179] };
const builtIn = [{ name: 'default', order: 1_000_000, defaultAction: 'Deny' as const }];

const rule: fc.Arbitrary<HostRule> = fc.record(
  {
    action: fc.constantFrom<HostRule['action']>('Allow', 'Allow', 'Deny', 'Pass', 'Log'),
    port: fc.constantFrom(22, 80, 179),
  },
  { requiredKeys: ['action'] },
);
const rules = fc.array(rule, { maxLength: 3 });
const policy: fc.Arbitrary<Omit<HostPolicy, 'name'>> = fc
  .record({
    tier: fc.constantFrom('security', 'default'),
    order: fc.constantFrom(1, 2),
    kind: fc.constantFrom<HostPolicy['kind']>('host', 'forward', 'doNotTrack', 'preDNAT'),
    ingress: rules,
    egress: rules,
    which: fc.constantFrom('ingress', 'egress', 'both'),
  })
  .map(({ ingress, egress, which, ...rest }) => ({
    ...rest,
    ...((which !== 'egress' || rest.kind === 'preDNAT') && { ingress }),
    ...(which !== 'ingress' && rest.kind !== 'preDNAT' && { egress }),
  }));

/** A world and the device that its host endpoint protects. */
export interface GeneratedHost extends HostWorld {
  readonly device: string;
}

export const hostWorld: fc.Arbitrary<GeneratedHost> = fc
  .record({
    defaultAction: fc.constantFrom('Deny' as const, 'Pass' as const),
    policies: fc.array(policy, { maxLength: 6 }),
    open: fc.boolean(),
    device: fc.constantFrom('uplink', '*'),
  })
  .map(({ defaultAction, policies, ...rest }) => ({
    ...rest,
    failsafe,
    tiers: [...builtIn, { name: 'security', order: 5, defaultAction }],
    policies: policies.map((each, i) => ({ ...each, name: `p${i}` })),
  }));

export function hostEvents({ tiers, policies, open, device }: GeneratedHost): Event[] {
  const profiles = open ? ['projectcalico-default-allow'] : [];
  return [
    calicoEvent('HostEndpoint', { name: 'h', labels: { role: 'edge' } }, { node, interfaceName: device, profiles }),
    calicoEvent('Node', { name: node }, { bgp: { ipv4Address: `${hostAddresses.here}/24` } }),
    calicoEvent(
      'FelixConfiguration',
      { name: 'default' },
      {
        failsafeInboundHostPorts: failsafe.ingress.map((port) => ({ protocol: 'TCP', port })),
        failsafeOutboundHostPorts: failsafe.egress.map((port) => ({ protocol: 'TCP', port })),
      },
    ),
    ...tiers.map(({ name, ...spec }) => calicoEvent('Tier', { name }, spec)),
    ...policies.map(({ name, kind, ingress, egress, ...spec }) => {
      const written = (list: readonly HostRule[]) =>
        list.map(({ action, port }) => ({
          action,
          ...(port !== undefined && { protocol: 'TCP', destination: { ports: [port] } }),
        }));
      return calicoEvent(
        'GlobalNetworkPolicy',
        { name },
        {
          ...spec,
          selector: "role == 'edge'",
          types: [...(ingress ? ['Ingress'] : []), ...(egress ? ['Egress'] : [])],
          ...(ingress && { ingress: written(ingress) }),
          ...(egress && { egress: written(egress) }),
          applyOnForward: kind !== 'host',
          ...(kind === 'doNotTrack' || kind === 'preDNAT' ? { [kind]: true } : {}),
        },
      );
    }),
  ];
}

export const hostPackets: readonly HostPacket[] = (['ingress', 'egress'] as const).flatMap((direction) =>
  [true, false].flatMap((forwarded) => [22, 80, 179, 443].map((port) => ({ direction, forwarded, port }))),
);
