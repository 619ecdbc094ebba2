import { type Cidr, contains } from '../model/address.ts';
import type { Match, PortRange } from './ir.ts';

/*
 * What one match says of another without looking at a packet. Sound, not complete: `true` is certain, `false` is not.
 */

/** Whether every packet that `narrow` matches, `wide` matches too. */
export function covers(wide: Match, narrow: Match): boolean {
  return (
    (wide.family === undefined || wide.family === narrow.family) &&
    (wide.protocol === undefined || wide.protocol === narrow.protocol) &&
    (wide.notProtocol === undefined || excludes(wide.notProtocol, narrow)) &&
    (wide.icmp === undefined || sameIcmp(wide.icmp, narrow.icmp)) &&
    (wide.notIcmp === undefined || sameIcmp(narrow.notIcmp, wide.notIcmp)) &&
    netsCover(wide.sourceNets, narrow.sourceNets) &&
    netsCover(wide.destinationNets, narrow.destinationNets) &&
    netsHold(narrow.notSourceNets, wide.notSourceNets) &&
    netsHold(narrow.notDestinationNets, wide.notDestinationNets) &&
    listed(wide.sourceSets, narrow.sourceSets) &&
    listed(wide.destinationSets, narrow.destinationSets) &&
    listed(wide.notSourceSets, narrow.notSourceSets) &&
    listed(wide.notDestinationSets, narrow.notDestinationSets) &&
    portsCover([wide.sourcePorts, wide.sourcePortSets], [narrow.sourcePorts, narrow.sourcePortSets]) &&
    portsCover(
      [wide.destinationPorts, wide.destinationPortSets],
      [narrow.destinationPorts, narrow.destinationPortSets],
    ) &&
    rangesHold(narrow.notSourcePorts, wide.notSourcePorts) &&
    rangesHold(narrow.notDestinationPorts, wide.notDestinationPorts) &&
    listed(wide.notSourcePortSets, narrow.notSourcePortSets) &&
    listed(wide.notDestinationPortSets, narrow.notDestinationPortSets)
  );
}

/** Comparisons of two lists' elements; for longer lists nothing is certain. */
const mostComparisons = 10_000;

/** Whether the ranges, taken together, hold all of every other one. */
export function rangesHold(outer: readonly PortRange[] = [], inner: readonly PortRange[] = []): boolean {
  if (outer.length * inner.length > mostComparisons) return false;
  const sorted = outer.toSorted((a, b) => a.first - b.first);
  return inner.every(({ first, last }) => {
    let next = first;
    for (const range of sorted) if (range.first <= next && range.last >= next) next = range.last + 1;
    return next > last;
  });
}

/** Whether each of the inner prefixes lies in one of the outer. */
export function netsHold(outer: readonly string[] = [], inner: readonly string[] = []): boolean {
  if (outer.length * inner.length > mostComparisons) return false;
  return inner.every((net) => outer.some((each) => contains(each as Cidr, net as Cidr)));
}

/** Whether a match on this type, and code if it has one, is one of the wider type. */
export function sameIcmp(wide: Match['icmp'], narrow: Match['icmp']): boolean {
  if (!wide || !narrow) return false;
  return wide.type === narrow.type && (wide.code === undefined || wide.code === narrow.code);
}

function excludes(protocol: number, { protocol: only, notProtocol }: Match): boolean {
  return only === undefined ? notProtocol === protocol : only !== protocol;
}

/** An absent list admits all. */
function netsCover(wide: readonly string[] | undefined, narrow: readonly string[] | undefined): boolean {
  return wide === undefined || (narrow !== undefined && netsHold(wide, narrow));
}

/** Every condition of the wide is one of the narrow. */
function listed(wide: readonly string[] = [], narrow: readonly string[] = []): boolean {
  return wide.every((each) => narrow.includes(each));
}

type Ports = readonly [readonly PortRange[] | undefined, readonly string[] | undefined];

/** Ranges and sets are alternatives: each of the narrow must be in the wide. */
function portsCover([wideRanges, wideSets]: Ports, [ranges, sets]: Ports): boolean {
  if (!wideRanges && !wideSets) return true;
  if (!ranges && !sets) return false;
  return rangesHold(wideRanges, ranges) && listed(sets, wideSets);
}
