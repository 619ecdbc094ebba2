import type { RuleText } from '../../kernel/types.ts';
import type { EndpointPolicy, NodePolicy, TierPolicies } from '../ir.ts';
import type { Leaf } from './dispatch.ts';
import { acceptMark, chainName, chains, endpointChainName, notPassed, prefixes } from './names.ts';
import { type VerdictLogs, verdictTarget } from './verdict.ts';

export interface EndpointOptions {
  /** UDP port of VXLAN, and IP-in-IP: pods may not send packets that look like the node's own tunnels. */
  readonly vxlanPort: number;
  readonly allowVxlanFromWorkloads: boolean;
  readonly allowIpipFromWorkloads: boolean;
  /** Drops what conntrack finds invalid. */
  readonly dropInvalid: boolean;
  /**
   * Drops TCP packets in the middle of a connection that nothing is known of. Conntrack would take up a connection that
   * was cut from a packet of the end that policy lets open connections.
   */
  readonly dropMidstream: boolean;
  /** Which verdicts of policy the kernel tells of. */
  readonly verdictLogs: VerdictLogs;
}

/** What a dispatch chain has for one endpoint. */
export function endpointLeaf(endpoint: EndpointPolicy, direction: 'ingress' | 'egress'): Leaf {
  const name = endpoint.interfaceName;
  const [own, other] = direction === 'egress' ? ['-i', '-o'] : ['-o', '-i'];
  return {
    name,
    rules: [
      // By way of a service a pod reaches itself whatever its policy, as it does without leaving its namespace.
      `${own} ${name} ${other} ${name} -g ${chains.accept}`,
      `${own} ${name} -g ${endpointChainName(endpoint, direction)}`,
    ],
  };
}

const returnAccepted = `-m mark --mark ${acceptMark} -j RETURN`;

/**
 * The chain of endpoints with equal policies in one direction, by its name. Returns with the accept mark set, or drops.
 * Nothing in it is of one endpoint alone.
 */
export function endpointChain(
  chain: string,
  { tiers, profiles }: Pick<EndpointPolicy, 'tiers' | 'profiles'>,
  direction: 'ingress' | 'egress',
  policy: NodePolicy,
  options: EndpointOptions,
): RuleText[] {
  const rules = [
    '-m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT',
    ...(options.dropInvalid ? ['-m conntrack --ctstate INVALID -j DROP'] : []),
    ...(options.dropMidstream ? ['-p tcp -m tcp ! --syn -m conntrack --ctstate NEW -j DROP'] : []),
    '-j MARK --set-xmark 0x0/0x30000',
    ...(direction === 'egress' ? tunnelDrops(options) : []),
  ];
  return [
    ...rules,
    ...tierRules(chain, tiers, direction, policy, options),
    ...profileRules(profiles, direction, policy),
    ...endRules(chain, options),
  ];
}

/** What nothing allowed is dropped. */
export function endRules(chain: string, { verdictLogs }: EndpointOptions): RuleText[] {
  return [...verdictTarget(verdictLogs, { verdict: 'deny', chain, place: { by: 'end' } }), '-j DROP'];
}

/** Tiers in order; returns with the accept mark set, drops, or goes on where all of them pass. */
export function tierRules(
  chain: string,
  tiers: readonly TierPolicies[],
  direction: 'ingress' | 'egress',
  policy: NodePolicy,
  { verdictLogs }: EndpointOptions,
): RuleText[] {
  return tiers.flatMap((tier) => {
    const names = tier[direction];
    const staged = stagedJumps(tier, direction, policy);
    if (names.length === 0) return [...(staged.length > 0 ? [clearPass] : []), ...staged.map(({ rule }) => rule)];
    const told = verdictTarget(verdictLogs, { verdict: 'deny', chain, place: { by: 'tier', tier: tier.tier } });
    return [
      clearPass,
      ...names.flatMap((name, at) => {
        const target = policy.policies.has(name) ? chainName(prefixes[direction].policy, name) : 'DROP';
        const counted = staged.filter(({ after }) => after === at).map(({ rule }) => rule);
        return [...counted, `-m mark --mark ${notPassed} -j ${target}`, returnAccepted];
      }),
      ...staged.filter(({ after }) => after === names.length).map(({ rule }) => rule),
      ...(tier.defaultAction === 'deny'
        ? [...told, '-j DROP'].map((target) => `-m mark --mark ${notPassed} ${target}`)
        : []),
    ];
  });
}

const clearPass = '-j MARK --set-xmark 0x0/0x20000';

/** Staged policies where they would stand: their chains count and change nothing. */
function stagedJumps(tier: TierPolicies, direction: 'ingress' | 'egress', { policies }: NodePolicy) {
  const places = (tier.staged?.[direction] ?? []).filter(({ policy }) => policies.has(policy));
  return places.map(({ policy, after }) => ({
    after,
    rule: `-m mark --mark ${notPassed} -j ${chainName(prefixes[direction].staged, policy)}`,
  }));
}

/** Profiles in order, up to the first that is missing. */
export function profileRules(
  profiles: readonly string[],
  direction: 'ingress' | 'egress',
  policy: NodePolicy,
): RuleText[] {
  const missing = profiles.findIndex((name) => !policy.profiles.has(name));
  const known = missing < 0 ? profiles : profiles.slice(0, missing);
  return known.flatMap((name) => [`-j ${chainName(prefixes[direction].profile, name)}`, returnAccepted]);
}

function tunnelDrops({ vxlanPort, allowVxlanFromWorkloads, allowIpipFromWorkloads }: EndpointOptions): RuleText[] {
  return [
    ...(allowVxlanFromWorkloads ? [] : [`-p udp -m multiport --dports ${vxlanPort} -j DROP`]),
    ...(allowIpipFromWorkloads ? [] : ['-p 4 -j DROP']),
  ];
}
