import type { RuleText } from '../../kernel/types.ts';
import type { EndpointPolicy, NodePolicy } from '../ir.ts';
import { acceptMark, chainName, notPassed, prefixes } from './names.ts';

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
}

const returnAccepted = `-m mark --mark ${acceptMark} -j RETURN`;

/** The chain of one endpoint and direction. Returns with the accept mark set, or drops. */
export function endpointChain(
  { tiers, profiles }: EndpointPolicy,
  direction: 'ingress' | 'egress',
  policy: NodePolicy,
  options: EndpointOptions,
): RuleText[] {
  const prefix = prefixes[direction];
  const rules = [
    '-m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT',
    ...(options.dropInvalid ? ['-m conntrack --ctstate INVALID -j DROP'] : []),
    ...(options.dropMidstream ? ['-p tcp -m tcp ! --syn -m conntrack --ctstate NEW -j DROP'] : []),
    '-j MARK --set-xmark 0x0/0x30000',
    ...(direction === 'egress' ? tunnelDrops(options) : []),
  ];
  for (const tier of tiers) {
    const names = tier[direction];
    if (names.length === 0) continue;
    rules.push('-j MARK --set-xmark 0x0/0x20000');
    for (const name of names) {
      const target = policy.policies.has(name) ? chainName(prefix.policy, name) : 'DROP';
      rules.push(`-m mark --mark ${notPassed} -j ${target}`, returnAccepted);
    }
    if (tier.defaultAction === 'deny') rules.push(`-m mark --mark ${notPassed} -j DROP`);
  }
  for (const name of profiles) {
    if (!policy.profiles.has(name)) break;
    rules.push(`-j ${chainName(prefix.profile, name)}`, returnAccepted);
  }
  return [...rules, '-j DROP'];
}

function tunnelDrops({ vxlanPort, allowVxlanFromWorkloads, allowIpipFromWorkloads }: EndpointOptions): RuleText[] {
  return [
    ...(allowVxlanFromWorkloads ? [] : [`-p udp -m multiport --dports ${vxlanPort} -j DROP`]),
    ...(allowIpipFromWorkloads ? [] : ['-p 4 -j DROP']),
  ];
}
