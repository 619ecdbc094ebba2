import { type Cidr, contains, type Family, familyOf, hostCidr, type Ip } from '../model/address.ts';
import type { PacketFields } from '../model/packet.ts';
import type { EndpointPolicy, Match, NodePolicy, PolicyRules, PortRange, Rule, SetId, TierPolicies } from './ir.ts';
import { portProtocolOf } from './port-protocols.ts';

export interface Packet extends PacketFields {
  /** Key of the local endpoint that sends (`egress`) or receives (`ingress`) it. */
  readonly endpoint: string;
  readonly direction: 'ingress' | 'egress';
}

/** A rule that decided or was passed on the way, with the place it stands in. */
export interface RuleHit {
  readonly tier?: string;
  readonly policy: string;
  /** Index in the policy as written. */
  readonly rule: number;
  readonly action: Rule['action'];
}

export type Reason =
  | ({ readonly by: 'policy' } & RuleHit)
  | ({ readonly by: 'profile' } & RuleHit)
  /** Policies of the tier apply to the endpoint and none had a matching rule. */
  | { readonly by: 'tierDefault'; readonly tier: string; readonly policies: readonly string[] }
  | { readonly by: 'missingProfile'; readonly profile: string }
  | { readonly by: 'noProfile' }
  | { readonly by: 'unknownEndpoint' };

export interface Verdict {
  readonly verdict: 'allow' | 'deny';
  readonly reason: Reason;
  /** Log and pass rules that matched before the one that decided. */
  readonly passed: readonly RuleHit[];
}

/** The verdict on the first packet of a connection at one endpoint, with the rule that made it. */
export function evaluate(policy: NodePolicy, packet: Packet): Verdict {
  const endpoint = policy.endpoints.get(packet.endpoint);
  const passed: RuleHit[] = [];
  if (!endpoint) return { verdict: 'deny', reason: { by: 'unknownEndpoint' }, passed };
  const reason = byTiers(policy, endpoint.tiers, packet, passed) ?? byProfiles(policy, endpoint, packet, passed);
  return { verdict: verdictOf(reason), reason, passed };
}

export function verdictOf(reason: Reason): Verdict['verdict'] {
  return 'action' in reason && reason.action === 'allow' ? 'allow' : 'deny';
}

/** @param passed takes the log and pass rules on the way */
export function byTiers(
  policy: NodePolicy,
  tiers: readonly TierPolicies[],
  packet: Packet,
  passed: RuleHit[],
): Reason | undefined {
  for (const tier of tiers) {
    const names = tier[packet.direction];
    if (names.length === 0) continue;
    const decided = inTier(policy, tier, packet, passed);
    if (decided === 'pass') continue;
    if (decided) return decided;
    if (tier.defaultAction === 'deny') return { by: 'tierDefault', tier: tier.tier, policies: names };
  }
  return undefined;
}

function inTier(
  policy: NodePolicy,
  tier: TierPolicies,
  packet: Packet,
  passed: RuleHit[],
): Reason | 'pass' | undefined {
  for (const name of tier[packet.direction]) {
    const hit = firstHit(policy, policy.policies.get(name), packet, passed, tier.tier);
    if (hit?.action === 'pass') {
      passed.push(hit);
      return 'pass';
    }
    if (hit) return { by: 'policy', ...hit };
  }
  return undefined;
}

export function byProfiles(
  policy: NodePolicy,
  { profiles }: EndpointPolicy,
  packet: Packet,
  passed: RuleHit[],
): Reason {
  for (const name of profiles) {
    const profile = policy.profiles.get(name);
    if (!profile) return { by: 'missingProfile', profile: name };
    const hit = firstHit(policy, profile, packet, passed);
    if (hit) return { by: 'profile', ...hit };
  }
  return { by: 'noProfile' };
}

/** The first rule that matches and is not a log. */
function firstHit(
  { sets }: NodePolicy,
  rules: PolicyRules | undefined,
  packet: Packet,
  passed: RuleHit[],
  tier?: string,
): RuleHit | undefined {
  for (const { action, match, index } of rules?.[packet.direction] ?? []) {
    if (failing(match, packet, sets) !== undefined) continue;
    const hit: RuleHit = { ...(tier !== undefined && { tier }), policy: rules?.name ?? '', rule: index, action };
    if (action !== 'log') return hit;
    passed.push(hit);
  }
  return undefined;
}

type Sets = NodePolicy['sets'];

/** Name of the first condition of `match` that the packet does not meet, undefined when it meets all. */
export function failing(match: Match, packet: Packet, sets: Sets): keyof Match | undefined {
  const family: Family = familyOf(packet.source);
  if (match.family !== undefined && match.family !== family) return 'family';
  if (match.protocol !== undefined && match.protocol !== packet.protocol) return 'protocol';
  if (match.notProtocol !== undefined && match.notProtocol === packet.protocol) return 'notProtocol';
  if (match.icmp && !sameIcmp(match.icmp, packet.icmp)) return 'icmp';
  if (match.notIcmp && sameIcmp(match.notIcmp, packet.icmp)) return 'notIcmp';
  return failingEnd(match, packet, 'source', sets) ?? failingEnd(match, packet, 'destination', sets);
}

function failingEnd(match: Match, packet: Packet, side: 'source' | 'destination', sets: Sets): keyof Match | undefined {
  const address = packet[side];
  const port = packet[`${side}Port`];
  const capital = side === 'source' ? 'Source' : 'Destination';
  const inNet = (net: string) => contains(net as Cidr, address);
  const inSet = (id: SetId) => holdsAddress(sets, id, address);
  const inRange = ({ first, last }: PortRange) => port !== undefined && first <= port && port <= last;
  const inPortSet = (id: SetId) => holdsPort(sets, id, address, packet.protocol, port);

  const nets = match[`${side}Nets`];
  if (nets && !nets.some(inNet)) return `${side}Nets`;
  if (match[`not${capital}Nets`]?.some(inNet)) return `not${capital}Nets`;
  if (!(match[`${side}Sets`]?.every(inSet) ?? true)) return `${side}Sets`;
  if (match[`not${capital}Sets`]?.some(inSet)) return `not${capital}Sets`;
  const ranges = match[`${side}Ports`];
  const named = match[`${side}PortSets`];
  if ((ranges || named) && !ranges?.some(inRange) && !named?.some(inPortSet))
    return ranges ? `${side}Ports` : `${side}PortSets`;
  if (match[`not${capital}Ports`]?.some(inRange)) return `not${capital}Ports`;
  if (match[`not${capital}PortSets`]?.some(inPortSet)) return `not${capital}PortSets`;
  return undefined;
}

function sameIcmp(wanted: { type: number; code?: number }, found: Packet['icmp']): boolean {
  return found?.type === wanted.type && (wanted.code === undefined || wanted.code === found.code);
}

function holdsAddress(sets: Sets, id: SetId, address: Ip): boolean {
  const members = sets.get(id)?.members;
  if (!members) return false;
  const host = hostCidr(address);
  if (members.has(host)) return true;
  const suffix = host.slice(host.indexOf('/'));
  for (const member of members) if (!member.endsWith(suffix) && contains(member as Cidr, address)) return true;
  return false;
}

function holdsPort(sets: Sets, id: SetId, address: Ip, protocol: number, port: number | undefined): boolean {
  return sets.get(id)?.members.has(`${address},${portProtocolOf(protocol)}:${port}`) ?? false;
}
