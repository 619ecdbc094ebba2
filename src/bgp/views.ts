import { type Cidr, cidrOf, cidrParts, type Family, familyOf, type Ip, ipBytes, parseIp } from '../model/address.ts';
import type { Decision, Reason } from './decision.ts';
import { explainLoss, explainWin, unreachable } from './explain.ts';
import { tableDump } from './mrt.ts';
import type { RejectedRoute } from './rejections.ts';
import type { Candidate } from './rib.ts';
import type { Speaker } from './speaker.ts';
import type { RouteTable } from './table.ts';
import { formatAsPath } from './wire/aspath.ts';
import type { Attributes } from './wire/attributes.ts';

/* What the control socket shows. Fields are only ever added; docs/bgp.md lists them. */

/** A path's attributes as people read them. */
export interface AttributesView {
  readonly nextHop?: string;
  readonly asPath: string;
  readonly origin: string;
  readonly localPref?: number;
  readonly med?: number;
  readonly communities?: readonly string[];
  readonly largeCommunities?: readonly string[];
  /** Eight octets each, in hexadecimal. */
  readonly extendedCommunities?: readonly string[];
  readonly originatorId?: string;
  readonly clusterList?: readonly string[];
  /** Codes of attributes that are passed on unread. */
  readonly unknown?: readonly number[];
}

/** One path of a prefix, and what became of it. */
export interface PathStatus extends AttributesView {
  readonly peer: string;
  /** In the peer's words, where it tells several paths of a prefix. RFC 7911. */
  readonly pathId?: number;
  readonly source: 'local' | 'ebgp' | 'ibgp';
  readonly stale: boolean;
  /** `best`, `multipath`, `deferred` (no selection yet), or the step of the decision process at which it lost. */
  readonly verdict: 'best' | 'multipath' | 'deferred' | Reason;
}

export interface RouteStatus {
  readonly prefix: Cidr;
  readonly originated: boolean;
  readonly paths: readonly PathStatus[];
}

/** A path with the reason of its fate in words. */
export interface ExplainedPath extends PathStatus {
  readonly why: string;
}

export interface RejectedPath extends AttributesView {
  readonly peer: string;
  readonly reason: string;
}

/** Answer of `why PREFIX`. */
export interface Explanation {
  readonly prefix: Cidr;
  readonly selected: boolean;
  readonly summary: string;
  /** Best first. */
  readonly paths: readonly ExplainedPath[];
  /** Told by peers and refused at import. */
  readonly rejected: readonly RejectedPath[];
}

/** A route of `received PEER`: accepted, or refused with the reason. */
export interface ReceivedRoute extends AttributesView {
  readonly prefix: Cidr;
  /** In the peer's words, where it tells several paths of a prefix. RFC 7911. */
  readonly pathId?: number;
  readonly accepted: boolean;
  readonly stale: boolean;
  readonly reason?: string;
}

/** A route of `advertised PEER`. */
export interface AdvertisedRoute extends AttributesView {
  readonly prefix: Cidr;
  /** In our words, where the peer is told several paths of a prefix. RFC 7911. */
  readonly pathId?: number;
}

const families: readonly Family[] = [4, 6];

/** The tables as an MRT dump. RFC 6396. What this node originates counts as told by a peer with its own identifier. */
export function dumpOf(speaker: Speaker, now: Date): Generator<Uint8Array> {
  const { asn, identifier } = speaker.config;
  const unknown = parseIp('0.0.0.0');
  const peers = speaker.peers().map(({ name, address, asn: configured, negotiated }) => ({
    name,
    address: parseIp(address),
    asn: negotiated?.peerAsn ?? configured,
    identifier: negotiated?.identifier ?? unknown,
  }));
  return tableDump({
    seconds: Math.floor(now.getTime() / 1000),
    identifier,
    peers: [{ name: 'local', address: identifier, asn, identifier }, ...peers],
    routes: allRoutes(speaker),
  });
}

function* allRoutes(speaker: Speaker): Generator<{ prefix: Cidr; candidates: readonly Candidate[] }> {
  for (const table of [speaker.tables[4], speaker.tables[6]]) yield* table.routes();
}

/** What `GET /v1/status` answers: the speaker as a whole. docs/bgp.md lists the fields. */
export function statusOf(speaker: Speaker): object {
  const { asn, identifier, listenPort, addresses, originations } = speaker.config;
  const peers = speaker.peers();
  const nextHops = speaker.nextHops();
  return {
    asn,
    identifier,
    listenPort,
    addresses: addresses.map(({ address }) => address),
    originations,
    converged: speaker.converged,
    awaited: speaker.awaited,
    bfd: speaker.bfdCounts(),
    bmp: speaker.stations(),
    longestPauseMilliseconds: speaker.longestPauseMilliseconds,
    ...(nextHops ? { nextHops } : {}),
    peers: { configured: peers.length, established: peers.filter(({ state }) => state === 'Established').length },
  };
}

/** Every prefix with its paths, best first. */
export function* routesOf(speaker: Speaker): Generator<RouteStatus> {
  for (const family of families) {
    const table = speaker.tables[family];
    for (const { prefix, candidates, decision } of table.routes())
      yield routeStatus(table, prefix, candidates, decision);
  }
}

/** The prefix's route as an array of at most one. */
export function routeOf(speaker: Speaker, prefix: Cidr): RouteStatus[] {
  const table = speaker.tables[familyOf(prefix)];
  const found = table.route(prefix);
  return found ? [routeStatus(table, prefix, found.candidates, found.decision)] : [];
}

/** The longest prefix in the table that covers the address. */
export function covering(speaker: Speaker, address: Ip): Cidr | undefined {
  const family = familyOf(address);
  const octets = ipBytes(address);
  for (let length = octets.length * 8; length >= 0; length--) {
    const prefix = cidrOf(octets, length);
    if (speaker.tables[family].route(prefix)) return prefix;
  }
  return undefined;
}

/**
 * Every path of a prefix with the step of the decision process (RFC 4271 §9.1.2.2) at which it lost, and what was
 * refused.
 */
export function explanationOf(speaker: Speaker, prefix: Cidr): Explanation {
  const table = speaker.tables[familyOf(prefix)];
  const found = table.route(prefix);
  const { candidates = [], decision } = found ?? {};
  const paths = sorted(candidates, decision).map((candidate): ExplainedPath => {
    const verdict = verdictOf(table, candidate, decision);
    return { ...pathStatus(candidate, verdict), why: why(verdict, candidate, decision) };
  });
  const rejected: RejectedPath[] = speaker.rejected(prefix).map(({ peer, route }) => ({
    peer,
    reason: route.reason,
    ...attributesView(route.attributes),
  }));
  return {
    prefix,
    selected: decision !== undefined,
    summary: summary(prefix, decision, paths),
    paths,
    rejected,
  };
}

/** Routes that the peer told, accepted ones first, both families. */
export function* receivedOf(
  speaker: Speaker,
  received: Iterable<{ family: Family; id: number; candidate: Candidate }>,
  rejected: Iterable<RejectedRoute>,
): Generator<ReceivedRoute> {
  for (const { family, id, candidate } of received) {
    const prefix = speaker.tables[family].rib.prefixes.cidr(id);
    const { pathId, stale, attributes } = candidate;
    yield { prefix, ...identified(pathId), accepted: true, stale, ...attributesView(attributes) };
  }
  for (const { prefix, pathId, reason, attributes } of rejected) {
    yield { prefix, ...identified(pathId), accepted: false, stale: false, reason, ...attributesView(attributes) };
  }
}

/** Routes that the table's update group tells the peer. */
export function* advertisedOf(tables: Iterable<RouteTable>, source: Candidate['source']): Generator<AdvertisedRoute> {
  for (const table of tables) {
    for (const { prefix, attributes, pathId } of table.advertisements(source))
      yield { prefix, ...identified(pathId), ...attributesView(attributes) };
  }
}

function identified(pathId: number | undefined): { pathId?: number } {
  return pathId === undefined ? {} : { pathId };
}

function routeStatus(
  table: RouteTable,
  prefix: Cidr,
  candidates: readonly Candidate[],
  decision: Decision | undefined,
): RouteStatus {
  const paths = sorted(candidates, decision).map((candidate) =>
    pathStatus(candidate, verdictOf(table, candidate, decision)),
  );
  return { prefix, originated: candidates.some(({ source }) => source.kind === 'local'), paths };
}

function sorted(candidates: readonly Candidate[], decision: Decision | undefined): readonly Candidate[] {
  const rank = (candidate: Candidate) =>
    candidate === decision?.best ? 0 : decision?.multipath.includes(candidate) ? 1 : 2;
  return candidates.toSorted((a, b) => rank(a) - rank(b));
}

function verdictOf(table: RouteTable, candidate: Candidate, decision: Decision | undefined): PathStatus['verdict'] {
  if (!decision) return table.eligible(candidate) ? 'deferred' : 'nextHopUnreachable';
  if (decision.best === candidate) return 'best';
  if (decision.multipath.includes(candidate)) return 'multipath';
  return decision.lost.find((lost) => lost.candidate === candidate)?.reason ?? 'deferred';
}

function why(verdict: PathStatus['verdict'], candidate: Candidate, decision: Decision | undefined): string {
  if (verdict === 'nextHopUnreachable') return unreachable;
  if (!decision) return 'no path is selected yet: the start is not complete';
  if (decision.best === candidate) return explainWin(decision);
  const lost = decision.lost.find((one) => one.candidate === candidate);
  const multipath = decision.multipath.includes(candidate);
  if (multipath) return 'equal to the best path up to the tie-breaks, and used beside it';
  return lost ? explainLoss(lost, decision) : 'changed since the last selection';
}

function summary(prefix: Cidr, decision: Decision | undefined, paths: readonly ExplainedPath[]): string {
  const { length } = cidrParts(prefix);
  if (paths.length === 0) return `no path to this /${length} is in the table`;
  if (paths.every(({ verdict }) => verdict === 'nextHopUnreachable')) return 'known, but no next hop has a route to it';
  if (!decision) return 'known, but no path is selected before the start is complete';
  const { best, multipath, lost } = decision;
  const beside = multipath.length > 1 ? ` and ${multipath.length - 1} equal` : '';
  const others = lost.length === 0 ? 'no other was worse' : `${lost.length} lost`;
  return `path from ${best.source.name}${beside} is used; ${others}`;
}

function pathStatus({ source, attributes, stale, pathId }: Candidate, verdict: PathStatus['verdict']): PathStatus {
  const { name: peer, kind } = source;
  return { peer, source: kind, ...identified(pathId), ...attributesView(attributes), stale, verdict };
}

/** Attributes for people: communities as `asn:value`, absent ones left out. */
export function attributesView(attributes: Attributes): AttributesView {
  const { nextHop, localPref, med, communities, largeCommunities, extendedCommunities } = attributes;
  const { originatorId, clusterList, unknown } = attributes;
  return {
    ...(nextHop ? { nextHop } : {}),
    asPath: formatAsPath(attributes.asPath),
    origin: attributes.origin,
    ...(localPref === undefined ? {} : { localPref }),
    ...(med === undefined ? {} : { med }),
    ...(communities ? { communities: communities.map((value) => `${value >>> 16}:${value & 0xffff}`) } : {}),
    ...(largeCommunities ? { largeCommunities: largeCommunities.map((parts) => parts.join(':')) } : {}),
    ...(extendedCommunities ? { extendedCommunities } : {}),
    ...(originatorId ? { originatorId } : {}),
    ...(clusterList ? { clusterList } : {}),
    ...(unknown ? { unknown: unknown.map(({ code }) => code) } : {}),
  };
}
