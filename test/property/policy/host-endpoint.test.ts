import fc from 'fast-check';
import { expect, test } from 'vitest';
import { createLog } from '../../../src/base/log.ts';
import type { Event } from '../../../src/datastore/store.ts';
import { parseIp } from '../../../src/model/address.ts';
import { evaluateAtHost } from '../../../src/policy/host.ts';
import type { NodePolicy } from '../../../src/policy/ir.ts';
import { PolicyIndex } from '../../../src/policy/policy-index.ts';
import { answer } from '../../../src/policy/question.ts';
import { defaultRenderOptions, type Filter, renderFilter } from '../../../src/policy/render.ts';
import { calicoEvent, node } from '../../support/cluster.ts';
import { worlds, worldsTimeout } from '../../support/generated.ts';
import {
  type HostPacket,
  type HostPolicy,
  type HostRule,
  type HostWorld,
  hostPasses,
} from '../../support/host-oracle.ts';
import { traverse } from '../../support/netfilter.ts';

const log = createLog('test', 'silent');
const [here, far] = ['192.0.2.1', '198.51.100.9'];
const failsafe = { ingress: [22], egress: [179] };
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

const world: fc.Arbitrary<HostWorld & { readonly device: string }> = fc
  .record({
    defaultAction: fc.constantFrom('Deny' as const, 'Pass' as const),
    policies: fc.array(policy, { maxLength: 6 }),
    open: fc.boolean(),
    device: fc.constantFrom('eth0', '*'),
  })
  .map(({ defaultAction, policies, ...rest }) => ({
    ...rest,
    failsafe,
    tiers: [...builtIn, { name: 'security', order: 5, defaultAction }],
    policies: policies.map((each, i) => ({ ...each, name: `p${i}` })),
  }));

function eventsOf({ tiers, policies, open, device }: HostWorld & { readonly device: string }): Event[] {
  const profiles = open ? ['projectcalico-default-allow'] : [];
  return [
    calicoEvent('HostEndpoint', { name: 'h' }, { node, interfaceName: device, profiles }),
    calicoEvent('Node', { name: node }, { bgp: { ipv4Address: `${here}/24` } }),
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

const tcp = (port: number) => ({ protocol: 6, sourcePort: 40_000, destinationPort: port });
const failsafes = {
  inbound: failsafe.ingress.map((port) => ({ protocol: 'tcp' as const, port })),
  outbound: failsafe.egress.map((port) => ({ protocol: 'tcp' as const, port })),
};

function evaluated(policies: NodePolicy, { direction, forwarded, port }: HostPacket): boolean {
  const [source, destination] = direction === 'egress' ? [here, far] : [far, here];
  const ends = { source: parseIp(source), destination: parseIp(destination) };
  const packet = { endpoint: 'HostEndpoint/h', direction, ...ends, ...tcp(port) };
  return evaluateAtHost(policies, packet, forwarded ? 'forwarded' : 'own', failsafes).verdict === 'allow';
}

const options = {
  ...defaultRenderOptions,
  failsafeInbound: failsafes.inbound,
  failsafeOutbound: failsafes.outbound,
};

/** The way of a packet through the rendered tables; forwarded ones come in by eth0 or leave by it. */
function rendered({ table, early, sets }: Filter, { direction, forwarded, port }: HostPacket): boolean {
  const ingress = direction === 'ingress';
  const devices = {
    input: ingress ? 'eth0' : forwarded ? 'eth9' : '',
    output: ingress ? (forwarded ? 'eth9' : '') : 'eth0',
  };
  const [source, destination] = ingress ? [far, here] : [here, far];
  const packet = { source, destination, forwarded, ...tcp(port), ...devices };
  const received = ingress || forwarded;
  const steps = [
    [early.raw, received ? 'cali-PREROUTING' : 'cali-OUTPUT'],
    ...(received ? [[early.mangle, 'cali-PREROUTING'] as const] : []),
    [table, forwarded ? 'cali-FORWARD' : ingress ? 'cali-INPUT' : 'cali-OUTPUT'],
  ] as const;
  // Another's mark opens nothing.
  let mark = 0x30000;
  for (const [{ chains }, entry] of steps) {
    if (!chains.has(entry)) continue;
    const way = traverse({ chains, insertions: new Map() }, sets, entry, { ...packet, mark });
    if (way.end === 'DROP') return false;
    mark = way.mark;
  }
  return true;
}

const packets: readonly HostPacket[] = (['ingress', 'egress'] as const).flatMap((direction) =>
  [true, false].flatMap((forwarded) => [22, 80, 179, 443].map((port) => ({ direction, forwarded, port }))),
);

test('at host endpoints the evaluator, the rendered tables and explain decide as Calico says', worldsTimeout, () => {
  let denied = 0;
  let compared = 0;
  fc.assert(
    fc.property(world, fc.infiniteStream(fc.nat(1000)), (generated, random) => {
      const index = new PolicyIndex(node, log);
      const events = eventsOf(generated);
      const shuffled = events.map((event) => ({ event, at: random.next().value ?? 0 })).sort((a, b) => a.at - b.at);
      for (const { event } of shuffled) index.apply(event);
      expect(index.problems()).toEqual([]);
      const policies = index.snapshot();
      const filter = renderFilter(policies, 4, options);
      for (const packet of packets) {
        const expected = hostPasses(generated, packet);
        // What `*` forwards passes it twice.
        const turned = packet.direction === 'ingress' ? 'egress' : 'ingress';
        const twice = packet.forwarded && generated.device === '*';
        const through = expected && (!twice || hostPasses(generated, { ...packet, direction: turned }));
        const found = { evaluated: evaluated(policies, packet), rendered: rendered(filter, packet) };
        if (found.evaluated !== expected || found.rendered !== through)
          expect({ packet, ...found }).toEqual({ packet, evaluated: expected, rendered: through });
        compared++;
        if (!expected) denied++;
        if (packet.forwarded || packet.port === 443) continue;
        const [source, destination] =
          packet.direction === 'egress'
            ? [{ host: node }, { address: parseIp(far) }]
            : [{ address: parseIp(far) }, { host: node }];
        const told = answer(events, { source, destination, transport: { protocol: 'tcp', port: packet.port } }, log);
        expect(told.verdict).toBe(expected ? 'allow' : 'deny');
        expect(told.hosts.map(({ verdict }) => verdict)).toEqual([told.verdict]);
      }
    }),
    { numRuns: worlds(120) },
  );
  expect(denied).toBeGreaterThan(compared / 10);
  expect(denied).toBeLessThan((compared * 9) / 10);
});
