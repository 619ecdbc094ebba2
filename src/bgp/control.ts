import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { Log } from '../base/log.ts';
import type { Cidr } from '../model/address.ts';
import type { Decision, Reason } from './decision.ts';
import type { Candidate } from './rib.ts';
import { listenUnix } from './socket.ts';
import type { Speaker } from './speaker.ts';
import { formatAsPath } from './wire/aspath.ts';

/** One path of a prefix, and what became of it. */
export interface PathStatus {
  readonly peer: string;
  readonly source: 'local' | 'ebgp' | 'ibgp';
  readonly nextHop?: string;
  readonly asPath: string;
  readonly origin: string;
  readonly localPref?: number;
  readonly med?: number;
  readonly communities?: readonly string[];
  readonly largeCommunities?: readonly string[];
  readonly extendedCommunities?: readonly string[];
  readonly stale: boolean;
  /** `best`, `multipath`, `deferred` (no selection yet), or the step of the decision process at which it lost. */
  readonly verdict: 'best' | 'multipath' | 'deferred' | Reason;
}

export interface RouteStatus {
  readonly prefix: Cidr;
  readonly originated: boolean;
  readonly paths: readonly PathStatus[];
}

/** Read-only HTTP and JSON on a unix socket: `/v1/status`, `/v1/peers`, `/v1/routes[?prefix=…]`. */
export class Control {
  readonly #server: Server;

  constructor(
    private readonly speaker: Speaker,
    private readonly log: Log,
  ) {
    this.#server = createServer({ requestTimeout: 10_000 }, (request, response) => this.#answer(request, response));
  }

  /** @throws EnvironmentError when another process serves the socket */
  async listen(path: string): Promise<void> {
    await listenUnix(this.#server, path);
  }

  close(): void {
    this.#server.close();
    this.#server.closeAllConnections();
  }

  #answer(request: IncomingMessage, response: ServerResponse): void {
    response.on('error', (cause) => this.log.debug({ cause }, 'control client failed'));
    const url = URL.canParse(request.url ?? '', 'http://localhost')
      ? new URL(request.url ?? '', 'http://localhost')
      : undefined;
    if (request.method !== 'GET') {
      reply(response, 405, { error: `${request.method}: only GET is served` });
      return;
    }
    switch (url?.pathname) {
      case '/v1/status':
        reply(response, 200, statusOf(this.speaker));
        break;
      case '/v1/peers':
        reply(response, 200, { peers: this.speaker.peers() });
        break;
      case '/v1/routes':
        reply(response, 200, { routes: routesOf(this.speaker, url.searchParams.get('prefix')) });
        break;
      default:
        reply(response, 404, { error: `${request.url}: expected /v1/status, /v1/peers or /v1/routes` });
        break;
    }
  }
}

function reply(response: ServerResponse, status: number, body: unknown): void {
  response.writeHead(status, { 'content-type': 'application/json' });
  response.end(`${JSON.stringify(body)}\n`);
}

export function statusOf(speaker: Speaker): object {
  const { asn, identifier, listenPort, addresses, originations } = speaker.config;
  const peers = speaker.peers();
  return {
    asn,
    identifier,
    listenPort,
    addresses: addresses.map(({ address }) => address),
    originations,
    converged: speaker.converged,
    awaited: speaker.awaited,
    bfd: speaker.bfdCounts(),
    peers: { configured: peers.length, established: peers.filter(({ state }) => state === 'Established').length },
  };
}

/** Every prefix with its paths, best first; with `prefix`, only that one. */
export function routesOf(speaker: Speaker, prefix: string | null): RouteStatus[] {
  const found: RouteStatus[] = [];
  for (const table of [speaker.tables[4], speaker.tables[6]]) {
    for (const route of table.routes()) {
      if (prefix !== null && route.prefix !== prefix) continue;
      found.push(routeStatus(route.prefix, route.candidates, route.decision));
    }
  }
  return found;
}

function routeStatus(prefix: Cidr, candidates: readonly Candidate[], decision: Decision | undefined): RouteStatus {
  const paths = candidates.map((candidate) => pathStatus(candidate, verdictOf(candidate, decision)));
  paths.sort((a, b) => Number(b.verdict === 'best') - Number(a.verdict === 'best'));
  return { prefix, originated: candidates.some(({ source }) => source.kind === 'local'), paths };
}

function verdictOf(candidate: Candidate, decision: Decision | undefined): PathStatus['verdict'] {
  if (!decision) return 'deferred';
  if (decision.best === candidate) return 'best';
  if (decision.multipath.includes(candidate)) return 'multipath';
  return decision.lost.find((lost) => lost.candidate === candidate)?.reason ?? 'deferred';
}

function pathStatus({ source, attributes, stale }: Candidate, verdict: PathStatus['verdict']): PathStatus {
  const { nextHop, localPref, med, communities, largeCommunities, extendedCommunities } = attributes;
  return {
    peer: source.name,
    source: source.kind,
    ...(nextHop ? { nextHop } : {}),
    asPath: formatAsPath(attributes.asPath),
    origin: attributes.origin,
    ...(localPref === undefined ? {} : { localPref }),
    ...(med === undefined ? {} : { med }),
    ...(communities ? { communities: communities.map((value) => `${value >>> 16}:${value & 0xffff}`) } : {}),
    ...(largeCommunities ? { largeCommunities: largeCommunities.map((parts) => parts.join(':')) } : {}),
    ...(extendedCommunities ? { extendedCommunities } : {}),
    stale,
    verdict,
  };
}
