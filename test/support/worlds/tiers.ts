import fc from 'fast-check';
import type { Event } from '../../../src/datastore/store.ts';
import { calicoEvent, endpointEvent, namespaceEvent } from '../cluster.ts';
import type { TierPolicy, TierRule, TierWorld } from '../tier-oracle.ts';

/** Pods of two namespaces under policies of several tiers, local and global, with network sets. */

const app = fc.constantFrom('a', 'b');
const namespaces = ['one', 'two'];
const builtIn = [
  { name: 'kube-admin', order: 1000, defaultAction: 'Pass' as const },
  { name: 'default', order: 1_000_000, defaultAction: 'Deny' as const },
  { name: 'kube-baseline', order: 10_000_000, defaultAction: 'Pass' as const },
];

const rule: fc.Arbitrary<TierRule> = fc
  .record({
    action: fc.constantFrom<TierRule['action']>('Allow', 'Allow', 'Deny', 'Pass', 'Log'),
    kind: fc.constantFrom('any', 'peer', 'peer', 'global'),
    app,
  })
  .map(({ action, kind, app: peer }) => ({
    action,
    ...(kind === 'peer' && { peer }),
    ...(kind === 'global' && { global: true }),
  }));

const policy: fc.Arbitrary<Omit<TierPolicy, 'name'>> = fc.record(
  {
    namespace: fc.constantFrom(...namespaces),
    tier: fc.constantFrom('kube-admin', 'security', 'platform', 'default', 'kube-baseline'),
    order: fc.constantFrom(1, 2, 2.5),
    app,
    team: fc.constantFrom('x', 'y'),
    ingress: fc.array(rule, { maxLength: 3 }),
  },
  { requiredKeys: ['tier', 'ingress'] },
);

export const tierWorld: fc.Arbitrary<TierWorld> = fc
  .record({
    orders: fc.tuple(fc.constantFrom(5, 500, 2_000_000), fc.constantFrom(5, 600)),
    actions: fc.tuple(
      fc.constantFrom('Deny' as const, 'Pass' as const),
      fc.constantFrom('Deny' as const, 'Pass' as const),
    ),
    policies: fc.array(policy, { maxLength: 8 }),
    teams: fc.record({ one: fc.constantFrom('x', 'y'), two: fc.constantFrom('x', 'y') }),
    apps: fc.tuple(app, app, app, app),
    globals: fc.subarray(['192.0.2.1', '192.0.2.2']),
  })
  .map(({ orders, actions, policies, teams, apps, globals }) => ({
    tiers: [
      ...builtIn,
      { name: 'security', order: orders[0], defaultAction: actions[0] },
      { name: 'platform', order: orders[1], defaultAction: actions[1] },
    ],
    policies: policies.map(({ team, ...each }, i) => ({
      ...each,
      name: `p${i}`,
      ...(each.namespace === undefined && team !== undefined && { team }),
    })),
    teams,
    pods: apps.map((name, i) => ({
      name: `pod-${i}`,
      namespace: namespaces[i % 2] ?? '',
      app: name,
      address: `10.65.0.${i + 1}`,
    })),
    globals,
  }));

function policyOf({ name, namespace, tier, order, app: selected, team, ingress }: TierPolicy): Event {
  const rules = ingress.map(({ action, peer, global }) => ({
    action,
    ...(peer !== undefined && { source: { selector: `app == '${peer}'` } }),
    ...(global && { source: { selector: "kind == 'outside'", namespaceSelector: 'global()' } }),
  }));
  const spec = {
    tier,
    types: ['Ingress'],
    ingress: rules,
    ...(order !== undefined && { order }),
    ...(selected !== undefined && { selector: `app == '${selected}'` }),
    ...(team !== undefined && { namespaceSelector: `team == '${team}'` }),
  };
  return namespace === undefined
    ? calicoEvent('GlobalNetworkPolicy', { name }, spec)
    : calicoEvent('NetworkPolicy', { name, namespace }, spec);
}

export function tierEvents({ tiers, policies, teams, pods, globals }: TierWorld): Event[] {
  return [
    ...tiers.map(({ name, ...spec }) => calicoEvent('Tier', { name }, spec)),
    ...Object.entries(teams).map(([name, team]) => namespaceEvent(name, { team })),
    ...pods.map((pod) => endpointEvent({ ...pod, labels: { app: pod.app }, addresses: [pod.address], ports: [] })),
    ...policies.map(policyOf),
    calicoEvent('GlobalNetworkSet', { name: 'outside', labels: { kind: 'outside' } }, { nets: globals }),
    // In a namespace, so that global() does not reach it.
    calicoEvent(
      'NetworkSet',
      { name: 'inside', namespace: 'one', labels: { kind: 'outside' } },
      { nets: ['192.0.2.3'] },
    ),
  ];
}
