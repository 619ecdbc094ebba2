import type { NodePolicy, PolicyRules } from '../../policy/ir.ts';
import { chainName, endpointChainName, hostPrefixes, prefixes } from '../../policy/render/names.ts';
import { tierToken, type VerdictMark } from '../../policy/render/verdict.ts';
import type { FlowReason } from './flow.ts';

/** Names that were shortened in their chains, kept for what the kernel tells after their policy has gone. */
const mostNames = 4096;

type Direction = 'ingress' | 'egress';

/** What a prefix of ours means: the rule, by the names that people know. */
export class VerdictPlaces {
  /** By chain. */
  readonly #titles = new Map<string, string>();
  #found: { readonly policy: NodePolicy; readonly reasons: Map<string, FlowReason> } | undefined;

  constructor(private readonly policy: () => NodePolicy) {}

  /** @param prefix that `mark` was read from */
  reasonOf(prefix: string, mark: VerdictMark): FlowReason {
    const policy = this.policy();
    if (this.#found?.policy !== policy) this.#found = { policy, reasons: new Map() };
    const known = this.#found.reasons.get(prefix);
    if (known) return known;
    const reason = this.#resolve(policy, mark);
    this.#found.reasons.set(prefix, reason);
    return reason;
  }

  /** Title of the last policy of a tier at the endpoints of a chain: the one that is named for the tier's end, as in Calico. */
  lastOf(chain: string, tier: string): string | undefined {
    const { endpoints, policies } = this.policy();
    const direction = directionOf(chain);
    if (!direction) return undefined;
    for (const endpoint of endpoints.values()) {
      if (endpointChainName(endpoint, direction) !== chain) continue;
      const name = endpoint.tiers.find((each) => each.tier === tier)?.[direction].at(-1);
      return name === undefined ? undefined : policies.get(name)?.title;
    }
    return undefined;
  }

  #resolve(policy: NodePolicy, { chain, place }: VerdictMark): FlowReason {
    switch (place.by) {
      case 'rule':
        return this.#rule(policy, chain, place.rule);
      case 'tier':
        return { by: 'tierDefault', tier: tierOf(policy, (tier) => tierToken(tier) === place.tier) ?? place.tier };
      case 'end':
        return { by: 'noProfile' };
    }
  }

  #rule(policy: NodePolicy, chain: string, rule: number): FlowReason {
    const kind = kindOf(chain);
    const of = kind === 'policy' ? policy.policies : policy.profiles;
    const found = kind && rulesOf(of, chain, kind);
    const title = found?.title ?? this.#titles.get(chain);
    if (!kind || title === undefined) return { by: 'unknown' };
    if (this.#titles.size >= mostNames) this.#titles.clear();
    this.#titles.set(chain, title);
    const name = found?.name ?? '';
    const tier = kind === 'policy' ? tierOf(policy, (_, names) => names.includes(name)) : undefined;
    return { by: kind, ...(tier !== undefined && { tier }), policy: title, rule };
  }
}

/** Of the packets that a chain decides. */
export function directionOf(chain: string): Direction | undefined {
  return (['ingress', 'egress'] as const).find((direction) =>
    [...Object.values(prefixes[direction]), ...Object.values(hostPrefixes[direction])].some((prefix) =>
      chain.startsWith(prefix),
    ),
  );
}

function kindOf(chain: string): 'policy' | 'profile' | undefined {
  const all = [prefixes.ingress, prefixes.egress];
  return (['policy', 'profile'] as const).find((kind) => all.some((each) => chain.startsWith(each[kind])));
}

/** A name stands in its chain's whole, or else all are tried. */
function rulesOf(
  all: ReadonlyMap<string, PolicyRules>,
  chain: string,
  kind: 'policy' | 'profile',
): PolicyRules | undefined {
  const prefix = [prefixes.ingress[kind], prefixes.egress[kind]].find((each) => chain.startsWith(each)) ?? '';
  const whole = all.get(chain.slice(prefix.length));
  if (whole) return whole;
  for (const rules of all.values()) if (chainName(prefix, rules.name) === chain) return rules;
  return undefined;
}

function tierOf(
  { endpoints }: NodePolicy,
  wanted: (tier: string, names: readonly string[]) => boolean,
): string | undefined {
  for (const { tiers, host } of endpoints.values())
    for (const { tier, ingress, egress } of [
      ...tiers,
      ...(host ? [...host.forward, ...host.untracked, ...host.preDnat] : []),
    ])
      if (wanted(tier, ingress) || wanted(tier, egress)) return tier;
  return undefined;
}
