import type { Family, Ip } from '../model/address.ts';
import type { SpeakerContext } from './context.ts';
import type { ExportContext } from './exporting.ts';
import { compileFilter, type Filter } from './filters.ts';
import type { ImportContext } from './importing.ts';
import type { Negotiated } from './negotiate.ts';
import { ownHop } from './nexthop.ts';
import type { PeerConfig } from './settings.ts';

/* What an established session's import and export depend on, out of configuration and negotiation. */

/** @param local our end of the session's connection */
export function importContextOf(
  config: PeerConfig,
  { asn, identifier, clusterId, addresses, limits }: SpeakerContext,
  { external, peerAsn }: Negotiated,
  local: Ip | undefined,
): ImportContext {
  const ownAddresses = new Set(addresses.map(({ address }) => address));
  if (local) ownAddresses.add(local);
  const { acceptDefault, localAsn, allowedLocalAs = 0 } = config;
  return {
    asns: localAsn === undefined ? [asn] : [asn, localAsn],
    allowedLocalAs,
    identifier,
    clusterId,
    peerAsn,
    external,
    ownAddresses,
    acceptDefault,
    onLink: config.interface !== undefined,
    limits,
  };
}

/** Undefined when this node has no address that the peer could use as next hop: it is told nothing of the family. */
export function exportContextOf(
  family: Family,
  config: PeerConfig,
  { asn, addresses, clusterId, deviceOf }: SpeakerContext,
  negotiated: Negotiated,
  local: Ip | undefined,
): ExportContext | undefined {
  const { external, fourOctetAs, extendedMessages, extendedNextHop, longLived } = negotiated;
  const ends = { addresses, local: config.localAddress ?? local, peer: config.address, extendedNextHop };
  const hop = ownHop(family, ends);
  if (!hop) return undefined;
  const { nextHopMode, exportRules, localAsn, removePrivateAs, routeReflectorClient } = config;
  const filter = exportRules && compileFilter(exportRules[family], { family, external, deviceOf });
  // Every field, so that all contexts are of one shape: compiled code would be thrown away at one of another.
  return {
    family,
    asn: localAsn ?? asn,
    external,
    fourOctetAs,
    self: hop.self,
    selfLinkLocal: hop.selfLinkLocal,
    sharedSubnet: hop.sharedSubnet,
    nextHopMode,
    reflection: external ? undefined : { clusterId, client: routeReflectorClient === true },
    longLived: longLived !== undefined,
    extendedMessages,
    extendedNextHop,
    paths: negotiated.pathsSent?.includes(family) ? (config.addPath?.send ?? 'all') : undefined,
    removePrivateAs: removePrivateAs === true,
    filter,
  };
}

/** The filters of a session's families; a family without rules has none, and everything passes. */
export function importFiltersOf(
  { importRules }: PeerConfig,
  { deviceOf }: Pick<SpeakerContext, 'deviceOf'>,
  { families, external }: Negotiated,
): ReadonlyMap<Family, Filter> {
  const filters = new Map<Family, Filter>();
  for (const family of families) {
    const filter = importRules && compileFilter(importRules[family], { family, external, deviceOf });
    if (filter) filters.set(family, filter);
  }
  return filters;
}

/** What decides which of the peer's routes are kept, and how. */
export function importKey({ importRules, acceptDefault, allowedLocalAs }: PeerConfig): string {
  return JSON.stringify([importRules, acceptDefault, allowedLocalAs]);
}
