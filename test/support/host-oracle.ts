/*
 * What Calico's documentation says of host endpoints, for one host endpoint whose policies all select it and whose rules
 * name a TCP port or none. It shares nothing with the code under test.
 */

export interface HostRule {
  readonly action: 'Allow' | 'Deny' | 'Pass' | 'Log';
  /** Destination port; absent: anything. */
  readonly port?: number;
}

export interface HostPolicy {
  readonly name: string;
  readonly tier: string;
  readonly order: number;
  /** `host`: of its own traffic alone; `forward`: also of what it forwards; the others before tracking and translation. */
  readonly kind: 'host' | 'forward' | 'doNotTrack' | 'preDNAT';
  /** Absent: the policy is not about the direction. */
  readonly ingress?: readonly HostRule[];
  readonly egress?: readonly HostRule[];
}

export interface HostWorld {
  readonly tiers: readonly { readonly name: string; readonly order: number; readonly defaultAction: 'Deny' | 'Pass' }[];
  readonly policies: readonly HostPolicy[];
  /** Whether its profile allows everything; without a profile nothing is allowed. */
  readonly open: boolean;
  readonly failsafe: { readonly ingress: readonly number[]; readonly egress: readonly number[] };
}

export interface HostPacket {
  readonly direction: 'ingress' | 'egress';
  /** Whether it is not the host's own. */
  readonly forwarded: boolean;
  readonly port: number;
}

/** Whether a TCP connection passes. */
export function hostPasses(world: HostWorld, packet: HostPacket): boolean {
  const { direction, forwarded, port } = packet;
  if (!forwarded && world.failsafe[direction].includes(port)) return true;
  const of = (...kinds: HostPolicy['kind'][]) => world.policies.filter(({ kind }) => kinds.includes(kind));
  // Stateless policies see all that comes in, and what the host itself sends; those before DNAT all that comes in.
  const early = [
    ...(direction === 'ingress' || !forwarded ? [of('doNotTrack')] : []),
    ...(direction === 'ingress' ? [of('preDNAT')] : []),
  ];
  for (const policies of early) {
    const outcome = decide(world, policies, packet, false);
    if (outcome !== undefined) return outcome;
  }
  const normal = decide(world, forwarded ? of('forward') : of('host', 'forward'), packet, true);
  return normal ?? (forwarded || world.open);
}

/** @param ends whether a tier whose policies are about the direction denies what none of them decides */
function decide(
  world: HostWorld,
  policies: readonly HostPolicy[],
  { direction, port }: HostPacket,
  ends: boolean,
): boolean | undefined {
  const tiers = world.tiers.toSorted((a, b) => a.order - b.order || (a.name < b.name ? -1 : 1));
  nextTier: for (const tier of tiers) {
    const applying = policies.filter((policy) => policy.tier === tier.name && policy[direction] !== undefined);
    applying.sort((a, b) => a.order - b.order || (a.name < b.name ? -1 : 1));
    for (const rule of applying.flatMap((policy) => policy[direction] ?? [])) {
      if (rule.action === 'Log' || (rule.port !== undefined && rule.port !== port)) continue;
      if (rule.action === 'Pass') continue nextTier;
      return rule.action === 'Allow';
    }
    if (ends && applying.length > 0 && tier.defaultAction === 'Deny') return false;
  }
  return undefined;
}
