/*
 * What Calico's documentation says of tiers, orders and global policies, for policies whose selectors are `all()` or
 * `app == 'x'` and whose rules name one peer label or none. It shares nothing with the code under test.
 */

export interface TierRule {
  readonly action: 'Allow' | 'Deny' | 'Pass' | 'Log';
  /** Label `app` of the other end; absent: anything. */
  readonly peer?: string;
  /** Whether the other end must be a member of a global network set instead. */
  readonly global?: boolean;
}

export interface TierPolicy {
  readonly name: string;
  /** Absent: a global policy. */
  readonly namespace?: string;
  readonly tier: string;
  readonly order?: number;
  /** Label `app` of what it selects; absent: all of its place. */
  readonly app?: string;
  /** Namespaces of a global policy by their label `team`; absent: all. */
  readonly team?: string;
  readonly ingress: readonly TierRule[];
}

export interface TierPod {
  readonly name: string;
  readonly namespace: string;
  readonly app: string;
  readonly address: string;
}

export interface TierWorld {
  readonly tiers: readonly { readonly name: string; readonly order: number; readonly defaultAction: 'Deny' | 'Pass' }[];
  readonly policies: readonly TierPolicy[];
  /** Namespace → its label `team`. */
  readonly teams: Readonly<Record<string, string>>;
  readonly pods: readonly TierPod[];
  /** Addresses in the global network set. */
  readonly globals: readonly string[];
}

/** Whether `pod` accepts a packet from the address; profiles allow everything. */
export function accepts(world: TierWorld, pod: TierPod, source: string): boolean {
  const tiers = world.tiers.toSorted((a, b) => a.order - b.order || (a.name < b.name ? -1 : 1));
  for (const tier of tiers) {
    const applying = world.policies.filter((policy) => policy.tier === tier.name && selects(world, policy, pod));
    if (applying.length === 0) continue;
    const outcome = decide(world, applying.toSorted(before), source) ?? tier.defaultAction;
    if (outcome !== 'Pass') return outcome === 'Allow';
  }
  return true;
}

function decide(
  world: TierWorld,
  policies: readonly TierPolicy[],
  source: string,
): 'Allow' | 'Deny' | 'Pass' | undefined {
  for (const policy of policies)
    for (const rule of policy.ingress)
      if (rule.action !== 'Log' && matches(world, policy, rule, source)) return rule.action;
  return undefined;
}

function selects({ teams }: TierWorld, policy: TierPolicy, pod: TierPod): boolean {
  if (policy.namespace !== undefined && policy.namespace !== pod.namespace) return false;
  if (policy.team !== undefined && teams[pod.namespace] !== policy.team) return false;
  return policy.app === undefined || policy.app === pod.app;
}

function matches(world: TierWorld, policy: TierPolicy, rule: TierRule, source: string): boolean {
  if (rule.global) return world.globals.includes(source);
  if (rule.peer === undefined) return true;
  return world.pods.some(
    (pod) =>
      pod.address === source &&
      pod.app === rule.peer &&
      (policy.namespace === undefined || pod.namespace === policy.namespace),
  );
}

function before(a: TierPolicy, b: TierPolicy): number {
  const [first, second] = [a.order ?? Infinity, b.order ?? Infinity];
  if (first !== second) return first < second ? -1 : 1;
  const text = ({ name, namespace = '' }: TierPolicy) =>
    `${name}/${namespace}/${namespace === '' ? 'GlobalNetworkPolicy' : 'NetworkPolicy'}`;
  return text(a) < text(b) ? -1 : 1;
}
