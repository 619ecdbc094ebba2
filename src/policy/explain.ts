import { evaluate, failing, type Packet, type Reason } from './evaluate.ts';
import type { Match, NodePolicy, PolicyRules, PortRange, Rule, SetId, TierPolicies } from './ir.ts';
import { chainName, endpointChainName, prefixes } from './render/names.ts';

/*
 * Why a packet is allowed or denied at an endpoint: every tier, policy and rule that it met, as plain data for a page
 * or JSON. The verdict is that of `evaluate`; this only tells the way there.
 */

export interface Condition {
  /** Name of the condition, as in `Match`. */
  readonly condition: keyof Match;
  /** What it wants, as people write it. */
  readonly wanted: string;
}

export interface RuleTrace {
  /** Index in the policy as written. */
  readonly rule: number;
  /** What its author calls it. */
  readonly name?: string;
  readonly action: Rule['action'];
  readonly matched: boolean;
  /** All conditions of a rule that matched, else the first that failed. */
  readonly conditions: readonly Condition[];
}

export interface PolicyTrace {
  /** As a person calls it. */
  readonly policy: string;
  /** Where its rules are in the kernel's filter table. */
  readonly chain: string;
  /** Up to the one that decided. */
  readonly rules: readonly RuleTrace[];
}

export interface TierTrace {
  readonly tier: string;
  /** `none`: no rule decided, and the tier's default action is to pass on. */
  readonly outcome: 'allow' | 'deny' | 'pass' | 'defaultDeny' | 'none';
  readonly policies: readonly PolicyTrace[];
}

export interface EndpointTrace {
  readonly direction: Packet['direction'];
  readonly verdict: 'allow' | 'deny';
  readonly reason: Reason;
  /** The endpoint's own chain in the kernel's filter table. */
  readonly chain: string;
  readonly tiers: readonly TierTrace[];
  /** Asked when no tier decided. */
  readonly profiles: readonly PolicyTrace[];
}

/** The way of the first packet of a connection through the policy of one endpoint. */
export function explain(policy: NodePolicy, packet: Packet): EndpointTrace {
  const { direction } = packet;
  const { verdict, reason } = evaluate(policy, packet);
  const endpoint = policy.endpoints.get(packet.endpoint);
  return {
    direction,
    verdict,
    reason,
    chain: endpointChainName(endpoint ?? { tiers: [], profiles: [] }, direction),
    tiers: traceTiers(policy, endpoint?.tiers ?? [], packet),
    profiles: byProfile(reason) ? traceProfiles(policy, endpoint?.profiles ?? [], packet) : [],
  };
}

/** Whether no tier decided and the profiles were asked. */
export function byProfile({ by }: { readonly by: string }): boolean {
  return by === 'profile' || by === 'noProfile' || by === 'missingProfile';
}

/** Up to the tier that decides. */
export function traceTiers(policy: NodePolicy, tiers: readonly TierPolicies[], packet: Packet): TierTrace[] {
  const traces: TierTrace[] = [];
  for (const tier of tiers) {
    if (tier[packet.direction].length === 0) continue;
    const trace = traceTier(policy, tier, packet);
    traces.push(trace);
    if (trace.outcome !== 'pass' && trace.outcome !== 'none') break;
  }
  return traces;
}

function traceTier(policy: NodePolicy, tier: TierPolicies, packet: Packet): TierTrace {
  const policies: PolicyTrace[] = [];
  for (const name of tier[packet.direction]) {
    const trace = traceRules(policy, policy.policies.get(name), prefixes[packet.direction].policy, packet);
    policies.push(trace);
    const outcome = decision(trace);
    if (outcome) return { tier: tier.tier, outcome, policies };
  }
  return { tier: tier.tier, outcome: tier.defaultAction === 'deny' ? 'defaultDeny' : 'none', policies };
}

export function traceProfiles(policy: NodePolicy, names: readonly string[], packet: Packet): PolicyTrace[] {
  const traces: PolicyTrace[] = [];
  for (const name of names) {
    const profile = policy.profiles.get(name);
    if (!profile) break;
    const trace = traceRules(policy, profile, prefixes[packet.direction].profile, packet);
    traces.push(trace);
    if (decision(trace)) break;
  }
  return traces;
}

function traceRules(policy: NodePolicy, rules: PolicyRules | undefined, prefix: string, packet: Packet): PolicyTrace {
  const traces: RuleTrace[] = [];
  for (const { index, name, action, match } of rules?.[packet.direction] ?? []) {
    const failed = failing(match, packet, policy.sets);
    const names = failed === undefined ? (Object.keys(match) as (keyof Match)[]) : [failed];
    const conditions = names.map((condition) => ({ condition, wanted: wanted(match, condition, policy.sets) }));
    traces.push({
      rule: index,
      ...(name !== undefined && { name }),
      action,
      matched: failed === undefined,
      conditions,
    });
    if (failed === undefined && action !== 'log') break;
  }
  return { policy: rules?.title ?? '', chain: chainName(prefix, rules?.name ?? ''), rules: traces };
}

/** What the last rule of a trace decided, if it did. */
function decision({ rules }: PolicyTrace): 'allow' | 'deny' | 'pass' | undefined {
  const last = rules.at(-1);
  return last?.matched && last.action !== 'log' ? last.action : undefined;
}

/** What a condition asks for: prefixes, port ranges, or the selectors that its sets stand for. */
function wanted(match: Match, condition: keyof Match, sets: NodePolicy['sets']): string {
  const value = match[condition];
  if (typeof value === 'number') return String(value);
  if (!Array.isArray(value)) {
    const { type, code } = value as NonNullable<Match['icmp']>;
    return code === undefined ? `type ${type}` : `type ${type} code ${code}`;
  }
  if (condition.endsWith('Ports')) return (value as readonly PortRange[]).map(rangeText).join(', ');
  if (!condition.endsWith('Sets')) return value.join(', ');
  return (value as readonly SetId[]).map((id) => sets.get(id)?.description ?? id).join(' and ');
}

function rangeText({ first, last }: PortRange): string {
  return first === last ? String(first) : `${first}-${last}`;
}
