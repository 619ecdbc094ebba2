import { llgrStale } from './communities.ts';
import { type ExportContext, noAdvertise } from './exporting.ts';
import type { Source } from './sources.ts';
import { octetsOf } from './wire/addresses.ts';
import { codes, extendedLength, optional } from './wire/attributes.ts';

const room = new Uint8Array(4096);
const attribute = { nextHop: codes.nextHop, localPref: 5, communities: 8, originatorId: 9, clusterList: 10 } as const;

/**
 * The plain case of reflection on the octets themselves: ORIGINATOR_ID and CLUSTER_LIST are put in, all else stays.
 * RFC 4456 §8. The same as `exported` comes to by way of parsed attributes.
 * @param kept as `AttributeInterner` keeps them: by ascending code
 * @returns a view that holds until the next call; undefined where more than that is to be decided or changed
 */
export function reflectedOctets(kept: Uint8Array, source: Source, context: ExportContext): Uint8Array | undefined {
  const { family, reflection, nextHopMode } = context;
  if (family !== 4 || source.kind !== 'ibgp' || context.external || !reflection || nextHopMode === 'self')
    return undefined;
  if (!source.client && !reflection.client) return undefined;
  const scan = scanned(kept, context);
  if (!scan) return undefined;
  const { inner, originator, clusters, rest } = scan;
  let at = copied(kept, 0, inner, 0);
  if (originator >= 0) at = copied(kept, originator, originator + 7, at);
  else at = copied(octetsOf(source.identifier), 0, 4, header(attribute.originatorId, 4, at));
  const length = clusters < 0 ? 0 : (kept[clusters + 2] ?? 0);
  at = copied(octetsOf(reflection.clusterId), 0, 4, header(attribute.clusterList, length + 4, at));
  if (clusters >= 0) at = copied(kept, clusters + 3, clusters + 3 + length, at);
  at = copied(kept, rest, kept.length, at);
  return room.subarray(0, at);
}

/** Where the parts begin; -1: absent. */
interface Scan {
  /** End of what stands before ORIGINATOR_ID. */
  inner: number;
  originator: number;
  clusters: number;
  /** What stands behind CLUSTER_LIST. */
  rest: number;
}

/** Undefined where octets alone do not decide. */
function scanned(kept: Uint8Array, { longLived }: ExportContext): Scan | undefined {
  const scan: Scan = { inner: 0, originator: -1, clusters: -1, rest: 0 };
  if (kept.length > room.length - 64) return undefined;
  let hop = false;
  let preference = false;
  for (let at = 0; at < kept.length; ) {
    const code = kept[at + 1] ?? 0;
    const long = ((kept[at] ?? 0) & extendedLength) !== 0;
    const start = at + (long ? 4 : 3);
    const length = long ? ((kept[at + 2] ?? 0) << 8) | (kept[at + 3] ?? 0) : (kept[at + 2] ?? 0);
    const end = start + length;
    if (code === attribute.nextHop) hop = true;
    else if (code === attribute.localPref) preference = true;
    else if (code === attribute.communities && holdsBack(kept, start, end, longLived === true)) return undefined;
    else if (code === attribute.originatorId) scan.originator = at;
    else if (code === attribute.clusterList) {
      if (length > 251) return undefined;
      scan.clusters = at;
    }
    if (code < attribute.originatorId) scan.inner = end;
    if (code <= attribute.clusterList) scan.rest = end;
    at = end;
  }
  return hop && preference ? scan : undefined;
}

/** Communities that may keep a route from an internal peer. */
function holdsBack(kept: Uint8Array, start: number, end: number, longLived: boolean): boolean {
  for (let at = start; at < end; at += 4) {
    if (kept[at] !== 0xff || kept[at + 1] !== 0xff) continue;
    const community = (0xffff0000 | ((kept[at + 2] ?? 0) << 8) | (kept[at + 3] ?? 0)) >>> 0;
    if (community === noAdvertise || (community === llgrStale && !longLived)) return true;
  }
  return false;
}

function header(code: number, length: number, at: number): number {
  room[at] = optional;
  room[at + 1] = code;
  room[at + 2] = length;
  return at + 3;
}

function copied(from: Uint8Array, start: number, end: number, at: number): number {
  for (let i = start; i < end; i++) room[at + i - start] = from[i] ?? 0;
  return at + end - start;
}
