import { type Cidr, contains, type Family, familyOf } from '../model/address.ts';
import type { Match, PolicyRules, Rule } from './ir.ts';

/** Something that is legal, but hardly meant. */
export interface Warning {
  /** `ingress[2]`: where in the policy's spec. */
  readonly field: string;
  readonly problem: string;
}

/**
 * What is surprising in a policy's rules: rules that no packet can match, and a log of what is then denied anyway.
 * @param defaultDeny whether its tier denies what no rule decides
 */
export function ruleWarnings(rules: PolicyRules, defaultDeny: boolean): Warning[] {
  return (['ingress', 'egress'] as const).flatMap((direction) => {
    const list = rules[direction];
    const warnings = list.flatMap((rule, at): Warning[] => {
      const problem =
        unmatchable(rule.match) ?? shadowed(list.slice(0, at).filter(({ index }) => index !== rule.index));
      return problem === undefined ? [] : [{ field: `${direction}[${rule.index}]`, problem }];
    });
    const last = list.at(-1);
    if (last?.action !== 'log' || !defaultDeny) return warnings;
    const problem =
      'the last rule only logs; what it logs is denied by the end of the tier unless a later policy allows it';
    return [...warnings, { field: `${direction}[${last.index}]`, problem }];
  });
}

/** Why no packet can match, undefined when one can. */
function unmatchable(match: Match): string | undefined {
  if (match.protocol !== undefined && match.protocol === match.notProtocol)
    return 'cannot match: protocol and notProtocol are the same';
  const families: (Family | undefined)[] = [
    match.family,
    onlyFamily(match.sourceNets),
    onlyFamily(match.destinationNets),
  ];
  if (new Set(families.filter((family) => family !== undefined)).size > 1)
    return 'cannot match: its conditions ask for IPv4 and IPv6 at once';
  if (covered(match.sourceNets, match.notSourceNets)) return 'cannot match: source.notNets hold all of source.nets';
  if (covered(match.destinationNets, match.notDestinationNets))
    return 'cannot match: destination.notNets hold all of destination.nets';
  return undefined;
}

function onlyFamily(nets: readonly string[] | undefined): Family | undefined {
  const found = new Set((nets as readonly Cidr[] | undefined)?.map(familyOf));
  return found.size === 1 ? [...found][0] : undefined;
}

function covered(nets: readonly string[] | undefined, notNets: readonly string[] | undefined): boolean {
  if (!nets || !notNets) return false;
  return (nets as readonly Cidr[]).every((net) => (notNets as readonly Cidr[]).some((not) => contains(not, net)));
}

function shadowed(before: readonly Rule[]): string | undefined {
  const all = before.find(({ action, match }) => action !== 'log' && Object.keys(match).length === 0);
  return all && `cannot match: rule ${all.index + 1} before it decides everything`;
}
