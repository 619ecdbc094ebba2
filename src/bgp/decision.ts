import { compareIp, type Ip, ipNumber } from '../model/address.ts';
import type { Hop } from '../model/feed.ts';
import { llgrStale } from './communities.ts';
import type { CostOf } from './next-hops.ts';
import { hopOf } from './nexthop.ts';
import type { Candidate } from './rib.ts';
import { neighbourAs, pathLength } from './wire/aspath.ts';
import type { Attributes } from './wire/attributes.ts';

/** The step of the decision process at which a path lost. */
export type Reason =
  | 'nextHopUnreachable'
  | 'notLocal'
  | 'longLivedStale'
  | 'localPref'
  | 'asPathLength'
  | 'origin'
  | 'med'
  | 'externalOverInternal'
  | 'igpMetric'
  | 'identifier'
  | 'clusterListLength'
  | 'peerAddress';

export interface Lost {
  readonly candidate: Candidate;
  readonly reason: Reason;
  /** Metric of the route to its next hop, where that was compared. */
  readonly metric?: number;
}

/** Outcome for one prefix. */
export interface Decision {
  readonly best: Candidate;
  /** The best and those equal to it up to the tie-breaks, each with another next hop; the best comes first. */
  readonly multipath: readonly Candidate[];
  readonly lost: readonly Lost[];
  /** Metric of the route to the best path's next hop, where that was compared. */
  readonly metric?: number;
}

/** LOCAL_PREF of a path that carries none. */
export const defaultLocalPref = 100;
/** Next hops of one prefix at most. */
export const maxPaths = 16;

/** A step returns those that it leaves in the race; RFC 4271 §9.1.2.2. */
interface Stage {
  readonly reason: Reason;
  readonly keep: (rivals: readonly Candidate[]) => readonly Candidate[];
}

const originRank = { igp: 0, egp: 1, incomplete: 2 } as const;

const preference: readonly Stage[] = [
  { reason: 'notLocal', keep: least(({ source }) => (source.kind === 'local' ? 0 : 1)) },
  { reason: 'longLivedStale', keep: least(({ attributes }) => (isLastResort(attributes) ? 1 : 0)) },
  { reason: 'localPref', keep: least(({ attributes }) => -(attributes.localPref ?? defaultLocalPref)) },
  { reason: 'asPathLength', keep: least(({ attributes }) => pathLength(attributes.asPath)) },
  { reason: 'origin', keep: least(({ attributes }) => originRank[attributes.origin]) },
  { reason: 'med', keep: leastMed },
  { reason: 'externalOverInternal', keep: least(({ source }) => (source.kind === 'ibgp' ? 1 : 0)) },
];

/** What decides between paths that are equally good. RFC 4456 §9 puts the cluster list before the peer's address. */
const tieBreaks: readonly Stage[] = [
  {
    reason: 'identifier',
    keep: least(({ attributes, source }) => number(attributes.originatorId ?? source.identifier)),
  },
  { reason: 'clusterListLength', keep: least(({ attributes }) => attributes.clusterList?.length ?? 0) },
  { reason: 'peerAddress', keep: leastAddress },
];

/** Whoever keeps a route beyond its peer's restart time marks it so. RFC 9494 §4.3. */
export function isLastResort({ communities }: Attributes): boolean {
  return communities?.includes(llgrStale) === true;
}

/**
 * The decision process over all eligible paths of a prefix; undefined when there is none.
 * @param costOf absent: nothing is known of how next hops are reached
 */
export function decide(candidates: readonly Candidate[], costOf?: CostOf): Decision | undefined {
  if (costOf) return decideByCost(candidates, costOf);
  const [only] = candidates;
  if (only === undefined) return undefined;
  if (candidates.length === 1) return unrivalled(only, candidates);
  const lost: Lost[] = [];
  const equal = run(preference, candidates, lost);
  const [best = only] = run(tieBreaks, equal, lost);
  return { best, multipath: multipath(best, equal), lost };
}

/** Step (e) of RFC 4271 §9.1.2.2 too, over the paths whose next hop has a route (§9.1.2). */
function decideByCost(candidates: readonly Candidate[], costOf: CostOf): Decision | undefined {
  const [only] = candidates;
  if (only !== undefined && candidates.length === 1)
    return costOf(only) === Number.POSITIVE_INFINITY ? undefined : unrivalled(only, candidates);
  const costs = new Map(candidates.map((candidate) => [candidate, costOf(candidate)]));
  const rank = (candidate: Candidate) => costs.get(candidate) ?? 0;
  const eligible = candidates.filter((candidate) => rank(candidate) !== Number.POSITIVE_INFINITY);
  const [first] = eligible;
  if (first === undefined) return undefined;
  const lost: Lost[] = candidates
    .filter((candidate) => !eligible.includes(candidate))
    .map((candidate) => ({ candidate, reason: 'nextHopUnreachable' }));
  const preferred = run(preference, eligible, lost);
  const near: Lost[] = [];
  const equal = run([{ reason: 'igpMetric', keep: least(rank) }], preferred, near);
  for (const one of near) lost.push({ ...one, metric: rank(one.candidate) });
  const [best = first] = run(tieBreaks, equal, lost);
  const metric = near.length > 0 ? { metric: rank(best) } : {};
  return { best, multipath: multipath(best, equal), lost, ...metric };
}

const unrivalledDecisions = new WeakMap<Candidate, Decision>();

/** One object for all prefixes that only this candidate leads to: mostly there are many. */
function unrivalled(best: Candidate, multipath: readonly Candidate[]): Decision {
  const known = unrivalledDecisions.get(best);
  if (known) return known;
  const decision: Decision = { best, multipath, lost: [] };
  unrivalledDecisions.set(best, decision);
  return decision;
}

function run(stages: readonly Stage[], candidates: readonly Candidate[], lost: Lost[]): readonly Candidate[] {
  let rivals = candidates;
  for (const { reason, keep } of stages) {
    if (rivals.length === 1) break;
    const kept = keep(rivals);
    if (kept.length === rivals.length) continue;
    for (const candidate of rivals) if (!kept.includes(candidate)) lost.push({ candidate, reason });
    rivals = kept;
  }
  return rivals;
}

/** Equal-cost paths, one for each next hop. As in BIRD, AS paths of one length may lead through different ASes. */
function multipath(best: Candidate, equal: readonly Candidate[]): readonly Candidate[] {
  if (best.source.kind === 'local') return [best];
  const paths = new Map<Hop | undefined, Candidate>([[hopOf(best), best]]);
  for (const candidate of equal) {
    const hop = hopOf(candidate);
    if (paths.size < maxPaths && !paths.has(hop)) paths.set(hop, candidate);
  }
  return [...paths.values()];
}

function least(rank: (candidate: Candidate) => number): Stage['keep'] {
  return (rivals) => {
    const lowest = Math.min(...rivals.map(rank));
    return rivals.filter((candidate) => rank(candidate) === lowest);
  };
}

/** MED counts between paths of the same neighbour AS only; without one it is 0. RFC 4271 §9.1.2.2 (c). */
function leastMed(rivals: readonly Candidate[]): readonly Candidate[] {
  const lowest = new Map<number | undefined, number>();
  for (const { attributes } of rivals) {
    const neighbour = neighbourAs(attributes.asPath);
    lowest.set(neighbour, Math.min(lowest.get(neighbour) ?? Number.POSITIVE_INFINITY, attributes.med ?? 0));
  }
  return rivals.filter(({ attributes }) => (attributes.med ?? 0) === lowest.get(neighbourAs(attributes.asPath)));
}

function leastAddress(rivals: readonly Candidate[]): readonly Candidate[] {
  return [rivals.reduce((lowest, candidate) => (comesFirst(candidate, lowest) ? candidate : lowest))];
}

function comesFirst({ source }: Candidate, other: Candidate): boolean {
  const { address } = source;
  if (address === undefined || other.source.address === undefined) return false;
  return compareIp(address, other.source.address) < 0;
}

function number(identifier: Ip): number {
  return Number(ipNumber(identifier));
}
