import { type Cidr, type Family, familyOf } from '../model/address.ts';
import { covers, netsHold, rangesHold, sameIcmp } from './covers.ts';
import type { Match, PolicyRules, Rule } from './ir.ts';

/** Something that is legal, but hardly meant. */
export interface Warning {
  /** `ingress[2]`: where in the policy's spec. */
  readonly field: string;
  readonly problem: string;
}

/** Rules before a rule that it is compared with. */
const mostBefore = 200;

/**
 * What is surprising in a policy's rules: rules that no packet can match, and a log of what is then denied anyway.
 * @param defaultDeny whether its tier denies what no rule decides
 */
export function ruleWarnings(rules: PolicyRules, defaultDeny: boolean): Warning[] {
  return (['ingress', 'egress'] as const).flatMap((direction) => {
    const list = rules[direction];
    const warnings = asWritten(list).flatMap(([index, lines]): Warning[] => {
      const problems = lines.map(({ match }) => unmatchable(match) ?? shadowed(match, index, list));
      const [problem] = problems;
      return problem === undefined || problems.includes(undefined)
        ? []
        : [{ field: `${direction}[${index}]`, problem }];
    });
    const last = list.at(-1);
    if (last?.action !== 'log' || !defaultDeny) return warnings;
    const problem =
      'the last rule only logs; what it logs is denied by the end of the tier unless a later policy allows it';
    return [...warnings, { field: `${direction}[${last.index}]`, problem }];
  });
}

/** The rules that stand for each one of the author's. */
export function asWritten(rules: readonly Rule[]): [number, readonly Rule[]][] {
  return [...Map.groupBy(rules, ({ index }) => index)];
}

/** Why no packet can match, undefined when one can. */
function unmatchable(match: Match): string | undefined {
  const { protocol, icmp, notIcmp } = match;
  if (protocol !== undefined && protocol === match.notProtocol)
    return 'cannot match: protocol and notProtocol are the same';
  const families: (Family | undefined)[] = [
    match.family,
    onlyFamily(match.sourceNets),
    onlyFamily(match.destinationNets),
  ];
  if (new Set(families.filter((family) => family !== undefined)).size > 1)
    return 'cannot match: its conditions ask for IPv4 and IPv6 at once';
  if (icmp && sameIcmp(notIcmp, icmp)) return 'cannot match: notICMP holds all of icmp';
  return unmatchableEnd(match, 'source') ?? unmatchableEnd(match, 'destination');
}

function unmatchableEnd(match: Match, side: 'source' | 'destination'): string | undefined {
  const capital = side === 'source' ? 'Source' : 'Destination';
  const [nets, notNets] = [match[`${side}Nets`], match[`not${capital}Nets`]];
  if (notNets && (nets ? netsHold(notNets, nets) : everyAddress.every((all) => netsHold(notNets, [all]))))
    return `cannot match: ${side}.notNets hold all of ${nets ? `${side}.nets` : 'IPv4 and IPv6'}`;
  const [sets, notSets = []] = [match[`${side}Sets`], match[`not${capital}Sets`]];
  if (sets?.some((set) => notSets.includes(set)))
    return `cannot match: ${side}.notSelector selects the same as ${side}.selector`;
  const ports = match[`${side}Ports`] ?? (match[`${side}PortSets`] ? undefined : [{ first: 0, last: 65535 }]);
  if (ports && !match[`${side}PortSets`] && rangesHold(match[`not${capital}Ports`], ports))
    return `cannot match: ${side}.notPorts hold ${match[`${side}Ports`] ? `all of ${side}.ports` : 'every port'}`;
  return undefined;
}

const everyAddress = ['0.0.0.0/0', '::/0'];

function onlyFamily(nets: readonly string[] | undefined): Family | undefined {
  const found = new Set((nets as readonly Cidr[] | undefined)?.map(familyOf));
  return found.size === 1 ? [...found][0] : undefined;
}

/** The rule before that takes every packet which this one matches. */
function shadowed(match: Match, index: number, list: readonly Rule[]): string | undefined {
  for (const { action, match: wide, index: earlier } of list.slice(0, mostBefore)) {
    if (earlier >= index) return undefined;
    if (action === 'log' || !covers(wide, match)) continue;
    const what = Object.keys(wide).length === 0 ? 'everything' : 'all that it matches';
    return `cannot match: rule ${earlier + 1} before it decides ${what}`;
  }
  return undefined;
}
