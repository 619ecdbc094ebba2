import type { CompiledPolicy } from './compile.ts';
import type { EarlyStage, PolicyRules, StagedPlace, TierPolicies } from './ir.ts';
import { LabelIndex, type LabelMap } from './labels.ts';
import { type SetUser, sameRules } from './profiles.ts';
import type { TierTable } from './tiers.ts';

/** `forward`: those of `normal` that apply to what a host forwards, too. */
export type Stage = 'normal' | 'forward' | EarlyStage;

/**
 * Policies against local endpoints: which apply to each, in order. Only policies that select a local endpoint hold
 * IP sets.
 */
export class PolicyTable {
  readonly #compiled = new Map<string, CompiledPolicy>();
  readonly #index = new LabelIndex({
    join: (policy, endpoint) => this.#joined(policy, endpoint, 1),
    leave: (policy, endpoint) => this.#joined(policy, endpoint, -1),
  });
  /** Policy key → how many local endpoints it selects. */
  readonly #uses = new Map<string, number>();
  #snapshot: ReadonlyMap<string, PolicyRules> | undefined;

  /** @param dirty called with the key of every endpoint whose policies may have changed */
  constructor(
    private readonly sets: SetUser,
    private readonly tiers: TierTable,
    private readonly dirty: (endpoint: string) => void,
  ) {}

  set(key: string, policy: CompiledPolicy): void {
    const before = this.#compiled.get(key);
    const same = before && sameRules(before.rules, policy.rules);
    this.#compiled.set(key, same ? { ...policy, rules: before.rules } : policy);
    if (before && this.#uses.has(key)) {
      if (!same) this.#replace(before, policy);
      for (const endpoint of this.#index.members(key)) this.dirty(endpoint);
    }
    this.#index.setSelector(key, policy.selector);
  }

  delete(key: string): void {
    this.#index.deleteSelector(key);
    this.#compiled.delete(key);
  }

  setEndpoint(key: string, labels: LabelMap): void {
    this.#index.setItem(key, labels);
  }

  deleteEndpoint(key: string): void {
    this.#index.deleteItem(key);
  }

  /** Rules of the policies that select a local endpoint, by name. */
  snapshot(): ReadonlyMap<string, PolicyRules> {
    this.#snapshot ??= new Map(
      [...this.#uses.keys()].flatMap((key) => {
        const rules = this.#compiled.get(key)?.rules;
        return rules ? [[rules.name, rules] as const] : [];
      }),
    );
    return this.#snapshot;
  }

  /** The tiers with a policy for the endpoint in one stage, in order, each with its policies in order. */
  tiersOf(endpoint: string, stage: Stage = 'normal'): TierPolicies[] {
    const matching = [...this.#index.matches(endpoint)].flatMap((key) => this.#compiled.get(key) ?? []);
    const applying = matching.filter(({ rules, forward }) =>
      stage === 'forward' ? forward && !rules.stage : (rules.stage ?? 'normal') === stage,
    );
    applying.sort(compareOrder);
    const byTier = Map.groupBy(applying, ({ tier }) => tier);
    return this.tiers.inOrder().flatMap(([tier, { defaultAction }]) => {
      const policies = byTier.get(tier);
      if (!policies) return [];
      const names = (direction: 'ingress' | 'egress') =>
        policies.filter((policy) => policy[direction] && !policy.rules.staged).map(({ rules }) => rules.name);
      const staged = policies.some(({ rules }) => rules.staged) && {
        staged: { ingress: stagedPlaces(policies, 'ingress'), egress: stagedPlaces(policies, 'egress') },
      };
      return [{ tier, defaultAction, ingress: names('ingress'), egress: names('egress'), ...staged }];
    });
  }

  /** New sets are held before old ones go, so that a shared one stays as it is. */
  #replace(before: CompiledPolicy, after: CompiledPolicy): void {
    for (const request of after.requests) this.sets.retain(request);
    for (const request of before.requests) this.sets.release(request);
    this.#snapshot = undefined;
  }

  #joined(key: string, endpoint: string, change: 1 | -1): void {
    this.dirty(endpoint);
    const policy = this.#compiled.get(key);
    const uses = (this.#uses.get(key) ?? 0) + change;
    if (uses > 0) this.#uses.set(key, uses);
    else this.#uses.delete(key);
    if (uses > 1 || (uses === 1 && change < 0)) return;
    for (const request of policy?.requests ?? []) {
      if (change > 0) this.sets.retain(request);
      else this.sets.release(request);
    }
    this.#snapshot = undefined;
  }
}

function stagedPlaces(policies: readonly CompiledPolicy[], direction: 'ingress' | 'egress'): StagedPlace[] {
  const places: StagedPlace[] = [];
  let after = 0;
  for (const policy of policies) {
    if (!policy[direction]) continue;
    if (policy.rules.staged) places.push({ policy: policy.rules.name, after });
    else after++;
  }
  return places;
}

/** A staged policy comes before the one that it would replace. */
function compareOrder(a: CompiledPolicy, b: CompiledPolicy): number {
  if (a.order !== b.order) return a.order < b.order ? -1 : 1;
  if (a.sortKey === b.sortKey) return a.rules.staged ? -1 : 1;
  return a.sortKey < b.sortKey ? -1 : a.sortKey > b.sortKey ? 1 : 0;
}
