import { type Decision, defaultLocalPref, isLastResort, type Lost, type Reason } from './decision.ts';
import type { Candidate } from './rib.ts';
import { neighbourAs, pathLength } from './wire/aspath.ts';

/* The recorded reasons of the decision process in words, with the values that were compared. RFC 4271 §9.1.2.2. */

/** Why the best path won: the last step that any other path lost at. */
export function explainWin({ lost, multipath }: Decision): string {
  if (lost.length === 0) return multipath.length > 1 ? 'best of equal paths' : 'the only path';
  const reasons = [...new Set(lost.map(({ reason }) => names[reason]))];
  return `best by ${reasons.join(', then ')}`;
}

/** Why a path lost against the best one. */
export function explainLoss({ candidate, reason, metric }: Lost, { best, metric: bestMetric }: Decision): string {
  if (reason === 'nextHopUnreachable') return unreachable;
  if (reason === 'igpMetric') return `${names[reason]}: ${metric}, the best path has ${bestMetric}`;
  const [theirs, ours] = [compared(candidate, reason), compared(best, reason)];
  return `${names[reason]}: ${theirs}, the best path has ${ours}`;
}

/** Of a path that takes no part. */
export const unreachable = 'this node has no route to its next hop';

const names: Readonly<Record<Reason, string>> = {
  nextHopUnreachable: 'next hops with a route to them',
  notLocal: 'a route of this node goes before any learnt one',
  longLivedStale: 'routes kept long over a restart of their peer come last',
  localPref: 'higher local preference',
  asPathLength: 'shorter AS path',
  origin: 'lower origin (igp, egp, incomplete)',
  med: 'lower MED from the same neighbour AS',
  externalOverInternal: 'external before internal',
  igpMetric: 'nearer next hop (lower metric of the route to it)',
  identifier: 'lower BGP identifier (or originator)',
  clusterListLength: 'shorter cluster list',
  peerAddress: 'lower peer address',
};

function compared(
  { source, attributes }: Candidate,
  reason: Exclude<Reason, 'nextHopUnreachable' | 'igpMetric'>,
): string {
  switch (reason) {
    case 'notLocal':
    case 'externalOverInternal':
      return source.kind;
    case 'longLivedStale':
      return isLastResort(attributes) ? 'LLGR_STALE' : 'none of it';
    case 'localPref':
      return String(attributes.localPref ?? defaultLocalPref);
    case 'asPathLength':
      return String(pathLength(attributes.asPath));
    case 'origin':
      return attributes.origin;
    case 'med':
      return `${attributes.med ?? 0} from AS ${neighbourAs(attributes.asPath) ?? 'of this node'}`;
    case 'identifier':
      return attributes.originatorId ?? source.identifier;
    case 'clusterListLength':
      return String(attributes.clusterList?.length ?? 0);
    case 'peerAddress':
      return source.address ?? 'none';
  }
}
