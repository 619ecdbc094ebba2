import type { Counters } from '../kernel/iptables/counters.ts';
import type { TableName } from '../kernel/types.ts';
import type { Family } from '../model/address.ts';
import type { NodePolicy, PolicyRules } from '../policy/ir.ts';
import { chainName, prefixes } from '../policy/render/names.ts';
import { noRule, stagedChain } from '../policy/render/staged.ts';

/** What the kernel has counted for one rule of a staged policy on this node. */
export interface StagedCount {
  /** As a person calls it: `StagedNetworkPolicy shop/web`. */
  readonly policy: string;
  readonly direction: 'ingress' | 'egress';
  /** As written, from 0; -1 for connections that none of its rules matches. */
  readonly rule: number;
  /** What the rule would do; without a rule, what the end of its tier would, if no other policy decides. */
  readonly action: 'allow' | 'deny' | 'pass' | 'none';
  /** First packets of connections since the chain was written; with doNotTrack all packets. */
  readonly packets: number;
  readonly bytes: number;
}

/** The tables that staged policies have chains in. */
export function stagedTables(policy: NodePolicy): TableName[] {
  const stages = new Set([...policy.policies.values()].flatMap(({ staged, stage }) => (staged ? [stage] : [])));
  return (
    [
      ['raw', 'untracked'],
      ['mangle', 'preDnat'],
      ['filter', undefined],
    ] as const
  ).flatMap(([table, stage]) => (stages.has(stage) ? [table] : []));
}

/**
 * The counters of staged policies' chains, which stand in one table each, sums over the families. A chain that is being written has other lines than the
 * policy of now: it is left out.
 */
export function stagedCounts(policy: NodePolicy, tables: ReadonlyMap<Family, Counters>): StagedCount[] {
  const tiers = [...policy.endpoints.values()].flatMap((endpoint) => [
    ...endpoint.tiers,
    ...(endpoint.host ? [...endpoint.host.forward, ...endpoint.host.untracked, ...endpoint.host.preDnat] : []),
  ]);
  const counts = (['ingress', 'egress'] as const).flatMap((direction) => {
    const names = new Set(tiers.flatMap(({ staged }) => (staged?.[direction] ?? []).map((place) => place.policy)));
    const rules = [...names].flatMap((name) => policy.policies.get(name) ?? []);
    return rules.flatMap((each) => countsOf(each, direction, tables));
  });
  return counts.sort((a, b) => (a.policy < b.policy ? -1 : a.policy > b.policy ? 1 : 0));
}

function countsOf(
  rules: PolicyRules,
  direction: 'ingress' | 'egress',
  tables: ReadonlyMap<Family, Counters>,
): StagedCount[] {
  const sums = new Map<number, { packets: number; bytes: number }>();
  let known = false;
  for (const [family, counters] of tables) {
    const lines = counters.get(chainName(prefixes[direction].staged, rules.name));
    const { places } = stagedChain(rules, direction, family);
    if (lines?.length !== places.length) continue;
    known = true;
    for (const [at, { packets, bytes }] of lines.entries()) {
      const place = places[at] ?? noRule;
      const sum = sums.get(place) ?? { packets: 0, bytes: 0 };
      sums.set(place, { packets: sum.packets + packets, bytes: sum.bytes + bytes });
    }
  }
  if (!known) return [];
  const counted = rules[direction].filter(({ action }) => action !== 'log');
  const actions = new Map(counted.map(({ index, action }) => [index, action as StagedCount['action']]));
  return [...actions, [noRule, 'none'] as const].map(([rule, action]) => ({
    policy: rules.title,
    direction,
    rule,
    action,
    ...(sums.get(rule) ?? { packets: 0, bytes: 0 }),
  }));
}
