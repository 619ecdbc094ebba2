import fc from 'fast-check';
import type { Event } from '../../../src/datastore/store.ts';
import { calicoPolicyEvent, cluster, connections, endpointEvent, namespaceEvent, policyEvent } from '../cluster.ts';
import { clusterNodeEvent, clusterPolicyEvent, policyWorld } from '../cluster-policies.ts';
import { worldPermits } from '../cluster-policy-oracle.ts';
import { hostPasses } from '../host-oracle.ts';
import { type Cluster, type Connection, type Pod, permits } from '../oracle.ts';
import { baseEvents } from '../policy-kernel.ts';
import type { RawPacket } from '../raw-packets.ts';
import { ruleMatches } from '../rule-oracle.ts';
import { accepts } from '../tier-oracle.ts';
import { hostAddresses, hostEvents, hostPackets, hostWorld } from './hosts.ts';
import { fieldEvents, fieldPackets, fieldRules, fieldSpec, fieldWorld } from './rules.ts';
import { serviceAllows, serviceEvents, servicePackets, servicePod, serviceWorld } from './services.ts';
import { tierEvents, tierWorld } from './tiers.ts';

/*
 * The generated worlds of every kind as packets with what their truth tables say of them, for those who send such packets.
 * All pods are on this node.
 */

export interface Trial {
  readonly packet: RawPacket;
  /** Whether it passes both ends and the host endpoints on its way. */
  readonly expected: boolean;
}

export interface TriedWorld {
  readonly events: readonly Event[];
  readonly trials: readonly Trial[];
}

/** Addresses in the worlds that are no pod's. */
export const outsideAddresses = [
  ...['192.0.2.130', '192.0.2.1', '192.0.2.2', '192.0.2.3', '10.65.0.200'],
  ...['fd00::8', 'fd00::99', 'fd00:1::1'],
];
const numbers = { TCP: 6, UDP: 17, SCTP: 132 } as const;
const from = 40_000;

function packetOf({ source, destination, protocol, port }: Connection): RawPacket {
  if (protocol !== 'ICMP')
    return {
      source,
      destination,
      protocol: numbers[protocol],
      sourcePort: from,
      ...(port && { destinationPort: port }),
    };
  const six = source.includes(':');
  return { source, destination, protocol: six ? 58 : 1, icmp: { type: six ? 128 : 8, code: 0 } };
}

type Direction = 'Ingress' | 'Egress';
type Permits = (pod: Pod, direction: Direction, connection: Connection) => boolean;

/** Every connection between two parties of a cluster. */
function trialsOf(world: Cluster, allows: Permits): Trial[] {
  const owner = (address: string) => world.pods.find(({ addresses }) => addresses.includes(address));
  return connections(world).flatMap((connection) => {
    const [sender, receiver] = [owner(connection.source), owner(connection.destination)];
    if (sender === receiver) return [];
    const expected =
      (!sender || allows(sender, 'Egress', connection)) && (!receiver || allows(receiver, 'Ingress', connection));
    return [{ packet: packetOf(connection), expected }];
  });
}

const kubernetes: fc.Arbitrary<TriedWorld> = cluster.map((world) => ({
  events: [...baseEvents(world), ...world.policies.map(policyEvent)],
  trials: trialsOf(world, (pod, direction, connection) => permits(world, pod, direction, connection)),
}));

const clusterPolicies: fc.Arbitrary<TriedWorld> = policyWorld.map((world) => ({
  events: [
    ...baseEvents(world),
    ...world.policies.map(policyEvent),
    ...world.nodes.map(clusterNodeEvent),
    ...world.clusterPolicies.map(clusterPolicyEvent),
  ],
  trials: trialsOf(world, (pod, direction, connection) => worldPermits(world, pod, direction, connection)),
}));

const tiers: fc.Arbitrary<TriedWorld> = tierWorld.map((world) => {
  const sources = [...world.pods.map(({ address }) => address), '192.0.2.1', '192.0.2.2', '192.0.2.3'];
  return {
    events: tierEvents(world),
    trials: world.pods.flatMap((pod) =>
      sources
        .filter((source) => source !== pod.address)
        .map((source) => ({
          packet: packetOf({ source, destination: pod.address, protocol: 'TCP', port: 80 }),
          expected: accepts(world, pod, source),
        })),
    ),
  };
});

const directions = fc.constantFrom('ingress' as const, 'egress' as const);
const fields: fc.Arbitrary<TriedWorld> = fc.tuple(fieldRules, directions).map(([rules, direction]) => {
  const types = [direction === 'ingress' ? 'Ingress' : 'Egress'];
  const policy = calicoPolicyEvent('p', 'one', { types, [direction]: rules.map(fieldSpec) });
  return {
    events: [...fieldEvents, policy],
    trials: fieldPackets
      // GRE has no ports: the other way would be a reply.
      .filter(({ protocol, source, destination }) => protocol !== 47 || source < destination)
      .map((packet) => {
        const own = direction === 'ingress' ? packet.destination : packet.source;
        const subject = fieldWorld.pods.some((pod) => pod.namespace === 'one' && pod.addresses.includes(own));
        const hit = rules.find((each) => ruleMatches(fieldWorld, 'one', each, packet));
        return { packet, expected: !subject || hit?.action === 'Allow' };
      }),
  };
});

const services: fc.Arbitrary<TriedWorld> = serviceWorld.map((world) => {
  const { policy, rest } = serviceEvents(world);
  // Pods in the way of the services' endpoints, without a policy.
  const others = [2, 3].map((i) =>
    endpointEvent({ ...servicePod, name: `pod-${i - 1}`, namespace: 'two', addresses: [`10.65.0.${i}`, `fd00::${i}`] }),
  );
  return {
    events: [...rest, policy, namespaceEvent('two', {}), ...others],
    trials: servicePackets.map((packet) => {
      const { other, protocol, port } = packet;
      const own = servicePod.addresses[other.includes(':') ? 1 : 0] ?? '';
      const [source, destination] = packet.direction === 'ingress' ? [other, own] : [own, other];
      return { packet: packetOf({ source, destination, protocol, port }), expected: serviceAllows(world, packet) };
    }),
  };
});

/** What is forwarded goes to and comes from a pod that no policy selects. */
const hosts: fc.Arbitrary<TriedWorld> = hostWorld.map((world) => ({
  events: [...hostEvents(world), namespaceEvent('one', {}), endpointEvent(servicePod)],
  trials: hostPackets.map((packet) => {
    const { here, far } = hostAddresses;
    const near = packet.forwarded ? (servicePod.addresses[0] ?? '') : here;
    const [source, destination] = packet.direction === 'ingress' ? [far, near] : [near, far];
    const connection = { source, destination, protocol: 'TCP', port: packet.port } as const;
    return { packet: packetOf(connection), expected: hostPasses(world, packet) };
  }),
}));

/** The worlds by kind. */
export const triedWorlds: Readonly<Record<string, fc.Arbitrary<TriedWorld>>> = {
  NetworkPolicy: kubernetes,
  'AdminNetworkPolicy, BaselineAdminNetworkPolicy and ClusterNetworkPolicy': clusterPolicies,
  'tiers, orders, global policies and network sets': tiers,
  'fields of a rule': fields,
  'services in rules': services,
  'host endpoints': hosts,
};
