import { type Cidr, contains, type Family, familyOf } from '../model/address.ts';
import { byProfiles, byTiers, type Packet, type Reason, type RuleHit, verdictOf } from './evaluate.ts';
import { byProfile, type PolicyTrace, type TierTrace, traceProfiles, traceTiers } from './explain.ts';
import type { EndpointPolicy, NodePolicy, TierPolicies } from './ir.ts';
import { portProtocolNumbers } from './port-protocols.ts';
import type { Failsafe } from './render/failsafe.ts';
import { nameOf } from './render/host.ts';

/*
 * What host endpoints decide, evaluated as the rendered chains do: a packet that comes in meets the policies before
 * connection tracking, those before its destination is translated, and then those for the host itself or for what it
 * forwards; one that leaves meets those before connection tracking only if the host sends it.
 */

/** Whether the host itself receives or sends the packet. */
export type Passage = 'own' | 'forwarded';
export type HostStage = 'untracked' | 'preDnat' | 'own' | 'forward';

/** The ports of a host that no policy closes. */
export interface Failsafes {
  readonly inbound: readonly Failsafe[];
  readonly outbound: readonly Failsafe[];
}

export type HostReason =
  | (Reason & { readonly stage: HostStage })
  /** A failsafe port of the host itself. */
  | { readonly by: 'failsafe' }
  /** Router and neighbour discovery, without which there is no IPv6. */
  | { readonly by: 'neighbourDiscovery' }
  /** No policy with `applyOnForward` decides it. */
  | { readonly by: 'forwarding' };

export interface HostVerdict {
  readonly verdict: 'allow' | 'deny';
  readonly reason: HostReason;
  /** Log and pass rules that matched before the one that decided. */
  readonly passed: readonly RuleHit[];
}

/** Before its destination was translated, where that is another: what the early stages see. */
export type HostPacket = Packet & { readonly sentTo?: Pick<Packet, 'destination' | 'destinationPort'> };

/** The verdict on the first packet of a connection at a host endpoint, `packet.endpoint` being its key. */
export function evaluateAtHost(
  policy: NodePolicy,
  packet: HostPacket,
  passage: Passage,
  failsafes: Failsafes,
): HostVerdict {
  const endpoint = policy.endpoints.get(packet.endpoint);
  const passed: RuleHit[] = [];
  if (!endpoint?.host) return { verdict: 'deny', reason: { by: 'unknownEndpoint', stage: 'own' }, passed };
  const always = alwaysPasses(packet, passage, failsafes);
  if (always) return { verdict: 'allow', reason: { by: always }, passed };
  for (const stage of stagesOf(packet.direction, passage)) {
    const early = stage === 'untracked' || stage === 'preDnat';
    const seen = early ? { ...packet, ...packet.sentTo } : packet;
    const reason = byTiers(policy, tiersOf(endpoint, stage), seen, passed);
    if (reason) return { verdict: verdictOf(reason), reason: { ...reason, stage }, passed };
  }
  if (passage === 'forwarded') return { verdict: 'allow', reason: { by: 'forwarding' }, passed };
  const reason = byProfiles(policy, endpoint, packet, passed);
  return { verdict: verdictOf(reason), reason: { ...reason, stage: 'own' }, passed };
}

/** The stages that a packet meets, in order. */
export function stagesOf(direction: Packet['direction'], passage: Passage): readonly HostStage[] {
  if (direction === 'ingress') return ['untracked', 'preDnat', passage === 'own' ? 'own' : 'forward'];
  return passage === 'own' ? ['untracked', 'own'] : ['forward'];
}

/** In the early stages what no rule decides goes on. */
export function tiersOf({ tiers, host }: EndpointPolicy, stage: HostStage): readonly TierPolicies[] {
  if (stage === 'own') return tiers;
  if (stage === 'forward') return host?.forward ?? [];
  return (host?.[stage] ?? []).map((tier) => ({ ...tier, defaultAction: 'pass' as const }));
}

function alwaysPasses(
  packet: Packet,
  passage: Passage,
  { inbound, outbound }: Failsafes,
): 'failsafe' | 'neighbourDiscovery' | undefined {
  if (passage === 'forwarded') return undefined;
  const type = packet.protocol === 58 ? packet.icmp?.type : undefined;
  if (type !== undefined && 130 <= type && type <= 136) return 'neighbourDiscovery';
  const [ports, other] = packet.direction === 'ingress' ? [inbound, packet.source] : [outbound, packet.destination];
  const meant = ports.some(
    ({ protocol, port, net }) =>
      portProtocolNumbers[protocol] === packet.protocol && port === packet.destinationPort && inNet(net, other),
  );
  return meant ? 'failsafe' : undefined;
}

function inNet(net: Cidr | undefined, address: Packet['source']): boolean {
  const family: Family = familyOf(address);
  return net === undefined || (familyOf(net) === family && contains(net, address));
}

/** One stage that was asked. */
export interface StageTrace {
  readonly stage: HostStage;
  /** The kernel's table, and the endpoint's own chain in it. */
  readonly table: 'raw' | 'mangle' | 'filter';
  readonly chain: string;
  readonly tiers: readonly TierTrace[];
  /** Asked when no tier decided. */
  readonly profiles: readonly PolicyTrace[];
}

export interface HostTrace {
  readonly direction: Packet['direction'];
  readonly passage: Passage;
  readonly verdict: 'allow' | 'deny';
  readonly reason: HostReason;
  /** Up to the one that decided; those without a policy are left out. */
  readonly stages: readonly StageTrace[];
}

const tables = { untracked: 'raw', preDnat: 'mangle', own: 'filter', forward: 'filter' } as const;

/**
 * The way of a packet through the stages of a host endpoint.
 * @param device for the names of the chains
 */
export function explainAtHost(
  policy: NodePolicy,
  packet: Packet,
  passage: Passage,
  failsafes: Failsafes,
  device: string,
): HostTrace {
  const { direction } = packet;
  const { verdict, reason } = evaluateAtHost(policy, packet, passage, failsafes);
  const endpoint = policy.endpoints.get(packet.endpoint);
  const asked = stagesOf(direction, passage);
  const last = 'stage' in reason ? asked.indexOf(reason.stage) + 1 : reason.by === 'forwarding' ? asked.length : 0;
  const stages = asked.slice(0, last).map((stage): StageTrace => {
    const decided = 'stage' in reason && reason.stage === stage && byProfile(reason);
    return {
      stage,
      table: tables[stage],
      chain: nameOf(device, direction, stage === 'forward' ? 'forward' : 'endpoint'),
      tiers: endpoint ? traceTiers(policy, tiersOf(endpoint, stage), packet) : [],
      profiles: decided ? traceProfiles(policy, endpoint?.profiles ?? [], packet) : [],
    };
  });
  const told = stages.filter(({ stage, tiers }) => stage === 'own' || tiers.length > 0);
  return { direction, passage, verdict, reason, stages: told };
}
