import type { RuleText } from '../../kernel/types.ts';
import type { Family } from '../../model/address.ts';
import type { EndpointTrace, PolicyTrace } from '../explain.ts';
import type { NodePolicy, PolicyRules, Rule, TierPolicies } from '../ir.ts';
import { chainName, endpointChainName, notPassed, prefixes } from './names.ts';
import { type RuleOptions, renderRules } from './rule.ts';
import { noVerdictLogs } from './verdict.ts';

/** Where a verdict is made in the filter table. */
export interface VerdictLines {
  readonly chain: string;
  /** Any of these; a rule of policy may be several of the kernel. */
  readonly texts: readonly RuleText[];
  /** How many rules with the same text stand before it in the chain. */
  readonly after: number;
}

/** The lines of the rule that decided at an endpoint; undefined when the policy has changed since, or it is of another node. */
export function decidingLines(
  policy: NodePolicy,
  endpoint: string,
  family: Family,
  { direction, reason, tiers, profiles }: EndpointTrace,
): VerdictLines | undefined {
  const own = policy.endpoints.get(endpoint);
  if (!own) return undefined;
  const chain = endpointChainName(own, direction);
  switch (reason.by) {
    case 'policy':
      return linesOf('policy', policy.policies.get(reason.policy), tiers.at(-1)?.policies.at(-1), direction, family);
    case 'profile':
      return linesOf('profile', policy.profiles.get(reason.policy), profiles.at(-1), direction, family);
    case 'tierDefault':
      return tierEnd(chain, own.tiers, reason.tier, direction);
    default:
      return { chain, texts: ['-j DROP'], after: 0 };
  }
}

/** The end of a tier that denies. */
export function tierEnd(
  chain: string,
  tiers: readonly TierPolicies[],
  tier: string,
  direction: 'ingress' | 'egress',
): VerdictLines {
  const asked = tiers.filter((each) => each[direction].length > 0 && each.defaultAction === 'deny');
  const before = asked.findIndex((each) => each.tier === tier);
  return { chain, texts: [`-m mark --mark ${notPassed} -j DROP`], after: Math.max(0, before) };
}

/** A trace ends with the rule that decided, and tells of all before it. */
export function linesOf(
  kind: 'policy' | 'profile',
  rules: PolicyRules | undefined,
  trace: PolicyTrace | undefined,
  direction: 'ingress' | 'egress',
  family: Family,
): VerdictLines | undefined {
  const at = (trace?.rules.length ?? 0) - 1;
  const rule: Rule | undefined = rules?.[direction][at];
  if (!rules || !rule || rule.action !== trace?.rules[at]?.action) return undefined;
  const chain = chainName(prefixes[direction][kind], rules.name);
  const options: RuleOptions = { chain, logPrefix: '', verdictLogs: noVerdictLogs };
  return { chain, texts: renderRules([rule], family, options).rules, after: 0 };
}
