import type { Family } from '../../model/address.ts';
import type { PolicyRules } from '../ir.ts';
import { type Rendered, renderRules } from './rule.ts';
import { noVerdictLogs } from './verdict.ts';

/** Stands for what no rule of a staged policy matches. */
export const noRule = -1;

/**
 * The chain of a staged policy: every line counts and returns, and none decides, marks or logs.
 * @returns also, for each line, the rule as written that it counts for, or `noRule`
 */
export function stagedChain(
  policy: PolicyRules,
  direction: 'ingress' | 'egress',
  family: Family,
): Rendered & { readonly places: readonly number[] } {
  const options = { chain: '', logPrefix: '', verdictLogs: noVerdictLogs, target: '-j RETURN' };
  const parts = policy[direction]
    .filter(({ action }) => action !== 'log')
    .map((rule) => ({ rule: rule.index, ...renderRules([rule], family, options) }));
  return {
    rules: [...parts.flatMap(({ rules }) => rules), '-j RETURN'],
    sets: new Map(parts.flatMap(({ sets }) => [...sets])),
    nets: parts.flatMap(({ nets }) => nets),
    places: [...parts.flatMap(({ rule, rules }) => rules.map(() => rule)), noRule],
  };
}
