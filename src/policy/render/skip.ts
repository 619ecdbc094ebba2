import type { DesiredSet, RuleText } from '../../kernel/types.ts';
import { type Cidr, cidrParts, type Family, familyOf } from '../../model/address.ts';
import { hashId } from '../../model/selector.ts';
import type { Match, Rule, SetId } from '../ir.ts';
import { setName } from './names.ts';

/*
 * A policy of many rules that each let some peers in costs a packet of anybody else a look at every one of them. Where
 * a chain ends with many rules of this kind, one look at the set of all their peers comes before them.
 */

/** From so many rules on it pays: the look costs about as much as two rules, and the set costs memory. */
const manyRules = 16;

/** Where the peer of a chain's traffic stands in its packets. */
export type PeerSide = 'source' | 'destination';

/** A set of everything that is in one of the prefixes or sets. */
export interface Union {
  readonly name: string;
  readonly nets: readonly Cidr[];
  readonly sets: readonly SetId[];
}

export interface Skip {
  /** How many of the rules come before it. */
  readonly after: number;
  readonly rule: RuleText;
  readonly union: Union;
}

/**
 * What lets packets of strangers pass by the last rules, if these are many and each only lets in, or logs, named peers.
 * A rule that denies or passes on is never passed by: a set that lags behind must not open anything.
 * @param rules those that leave something in this family
 */
export function skipOf(rules: readonly Rule[], family: Family, side: PeerSide): Skip | undefined {
  const nets = new Set<Cidr>();
  const sets = new Set<SetId>();
  let after = rules.length;
  for (; after > 0; after--) {
    const rule = rules[after - 1];
    if (!rule || (rule.action !== 'allow' && rule.action !== 'log')) break;
    const peers = peersOf(rule.match, family, side);
    if (!peers) break;
    if ('set' in peers) sets.add(peers.set);
    else for (const net of peers.nets) nets.add(net);
  }
  if (rules.length - after < manyRules) return undefined;
  const union = unionOf([...nets].toSorted(), [...sets].toSorted(), family);
  const direction = side === 'source' ? 'src' : 'dst';
  return { after, union, rule: `-m set ! --match-set ${union.name} ${direction} -j RETURN` };
}

function unionOf(nets: readonly Cidr[], sets: readonly SetId[], family: Family): Union {
  return { name: setName(hashId('u:', [...nets, ...sets].join(',')), family), nets, sets };
}

/** Prefixes or a set that hold every peer the match can be met by; undefined when it can be met by anybody. */
function peersOf(match: Match, family: Family, side: PeerSide): { nets: Cidr[] } | { set: SetId } | undefined {
  const [given, sets] =
    side === 'source' ? [match.sourceNets, match.sourceSets] : [match.destinationNets, match.destinationSets];
  const own = ((given ?? []) as readonly Cidr[]).filter((net) => familyOf(net) === family);
  if (own.length > 0 && own.every((net) => cidrParts(net).length > 0)) return { nets: own };
  const [set] = sets ?? [];
  return set && { set };
}

/** @param setOf the kernel's form of a set of the policy */
export function membersOf({ nets, sets }: Union, setOf: (id: SetId) => DesiredSet): ReadonlySet<string> {
  const members = new Set<string>(nets);
  for (const id of sets) for (const member of setOf(id).members) members.add(member);
  return members;
}
