import type { NodePolicy, Rule, TierPolicies } from './ir.ts';
import { portProtocolNumbers, portProtocols } from './port-protocols.ts';
import type { Failsafe } from './render/failsafe.ts';

/* What a preview has to ask: whose policy differs, and on which ports. */

export interface Asked {
  readonly protocol: 'tcp' | 'udp' | 'sctp';
  readonly number: number;
  readonly port: number;
}

const protocols = portProtocols.map((name) => [name, portProtocolNumbers[name]] as const);

/** Everything that an endpoint is subject to, as text to compare. */
export function view(policy: NodePolicy, key: string): string {
  const endpoint = policy.endpoints.get(key);
  const { host, tiers = [] } = endpoint ?? {};
  const profiles = endpoint?.profiles.map((name) => policy.profiles.get(name)) ?? [];
  const early = host ? [...host.forward, ...host.untracked, ...host.preDnat] : [];
  return JSON.stringify([endpoint, rulesOf(policy, [...tiers, ...early]), profiles]);
}

/** The same of what passes a host endpoint without being the host's own. */
export function forwardView(policy: NodePolicy, key: string): string {
  const { host } = policy.endpoints.get(key) ?? {};
  return JSON.stringify([host, rulesOf(policy, host ? [...host.forward, ...host.untracked, ...host.preDnat] : [])]);
}

function rulesOf({ policies }: NodePolicy, tiers: readonly TierPolicies[]): unknown[] {
  return tiers.flatMap(({ ingress, egress }) => [...ingress, ...egress]).map((name) => policies.get(name));
}

export function sameMembers(a: ReadonlySet<string>, b: ReadonlySet<string> | undefined): boolean {
  return b === undefined || (a.size === b.size && [...a].every((member) => b.has(member)));
}

/**
 * Both ends of every range and every named port that a rule has, per protocol, and the lowest TCP port of none.
 * @param others that are asked, too
 */
export function portsOf(policies: readonly NodePolicy[], others: readonly Failsafe[]): Asked[] {
  const found = new Map<string, Asked>();
  for (const policy of policies)
    for (const rules of [...policy.policies.values(), ...policy.profiles.values()])
      for (const { match } of [...rules.ingress, ...rules.egress])
        for (const [protocol, number] of protocols)
          if (match.protocol === number)
            for (const port of portsNamed(match, policy)) found.set(`${protocol} ${port}`, { protocol, number, port });
  for (const [protocol, number] of protocols)
    for (const { port } of others.filter((each) => each.protocol === protocol))
      found.set(`${protocol} ${port}`, { protocol, number, port });
  let other = 1;
  while (found.has(`tcp ${other}`)) other++;
  return [...found.values(), { protocol: 'tcp', number: 6, port: other }];
}

function portsNamed(match: Rule['match'], { sets }: NodePolicy): number[] {
  const ranges = [...(match.destinationPorts ?? []), ...(match.notDestinationPorts ?? [])];
  const named = [...(match.destinationPortSets ?? []), ...(match.notDestinationPortSets ?? [])];
  const numbers = named.flatMap((id) =>
    [...(sets.get(id)?.members ?? [])].map((member) => Number(member.split(':').at(-1))),
  );
  return [...ranges.flatMap(({ first, last }) => [first, last]), ...numbers].filter((port) => port > 0);
}
