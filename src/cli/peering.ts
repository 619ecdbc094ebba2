import { Command } from 'commander';
import { errorCode, InputError } from '../base/errors.ts';
import type { PeerStatus, ResetOutcome } from '../bgp/peer.ts';
import type { AdvertisedRoute, AttributesView, Explanation, ReceivedRoute, RouteStatus } from '../bgp/views.ts';
import { ask, download, list, tell } from './control.ts';
import { runDir } from './environment.ts';
import { ExitError, exitCode } from './exit.ts';
import { Listing } from './listing.ts';
import { showBgpPeers } from './local.ts';
import { type Format, parseFormat, print } from './output.ts';
import { explanationPage, peerPage, routePage } from './peering-pages.ts';

/* `margayctl bgp …`: the speaker of this node as its control socket shows it. */

interface Output {
  readonly output?: string;
}

interface Limited extends Output {
  readonly limit: string;
}

const directory = () => runDir(process.env);

/** `margayctl bgp …`: all answered by this node's speaker, without the datastore. */
export function bgpCommand(): Command {
  const bgp = new Command('bgp').description("see and reset this node's BGP sessions and routes");
  const view = (name: string, description: string) =>
    bgp.command(name).description(description).option('-o, --output <format>', 'json or yaml instead of text');
  view('peers', 'every session: state, uptime, counts, last error').action(({ output }: Output) =>
    showBgpPeers(directory(), parseFormat(output)),
  );
  view('peer <name>', 'everything about one session').action((name: string, { output }: Output) =>
    showPeer(name, parseFormat(output)),
  );
  const limited = (name: string, description: string) =>
    view(name, description).option('--limit <count>', 'routes at most; 0 for all', '1000');
  limited('routes', 'every path of every prefix').action((options: Limited) => showRoutes(options));
  view('route <prefix>', 'the paths of a prefix, or of the prefix that covers an address').action(
    (prefix: string, { output }: Output) => showRoute(prefix, parseFormat(output)),
  );
  view('why <prefix>', 'why one path won, and why each other lost or was refused').action(
    (prefix: string, { output }: Output) => showWhy(prefix, parseFormat(output)),
  );
  limited('advertised <peer>', 'routes that the peer is told').action((peer: string, options: Limited) =>
    showAdvertised(peer, options),
  );
  limited('received <peer>', 'routes that the peer told: accepted, or refused and why').action(
    (peer: string, options: Limited) => showReceived(peer, options),
  );
  view('reset <peer>', 'end the session and begin anew; with --soft only tell all routes again')
    .option('--soft', 'keep the session: both sides tell their routes again (route refresh)')
    .option('--message <text>', "what the peer's operator should know (RFC 9003)")
    .action((peer: string, options: Output & { soft?: boolean; message?: string }) => reset(peer, options));
  bgp
    .command('dump <file>')
    .description('write every path of every prefix to a file, as MRT (RFC 6396)')
    .action((file: string) => dump(file));
  return bgp;
}

/** The file appears only when it is whole. */
async function dump(file: string): Promise<void> {
  const { open, rename, rm } = await import('node:fs/promises');
  const partial = `${file}.partial`;
  try {
    // A file that cannot be written is told before anything is asked for.
    const target = await open(partial, 'w');
    await download(directory(), 'bgp', '/v1/dump', () => target.createWriteStream()).finally(() => target.close());
    await rename(partial, file);
  } catch (thrown) {
    await rm(partial, { force: true });
    if (errorCode(thrown) === undefined) throw thrown;
    throw new InputError('file', file, 'a file that can be written', { cause: thrown });
  }
}

function peerPath(name: string, rest = ''): string {
  return `/v1/peers/${encodeURIComponent(name)}${rest}`;
}

async function showPeer(name: string, format: Format): Promise<void> {
  const peer = (await ask(directory(), 'bgp', peerPath(name))) as PeerStatus;
  print(format, peer, () => peerPage(peer));
}

async function showRoute(prefix: string, format: Format): Promise<void> {
  const path = `/v1/routes?prefix=${encodeURIComponent(prefix)}`;
  const { routes } = (await ask(directory(), 'bgp', path)) as { routes: readonly RouteStatus[] };
  const [route] = routes;
  if (!route) throw new ExitError(exitCode.failure, `no route to ${prefix}`);
  print(format, route, () => routePage(route));
}

async function showWhy(prefix: string, format: Format): Promise<void> {
  const found = (await ask(directory(), 'bgp', `/v1/why?prefix=${encodeURIComponent(prefix)}`)) as Explanation;
  print(format, found, () => explanationPage(found));
  if (found.paths.length === 0 && found.rejected.length === 0)
    throw new ExitError(exitCode.failure, `no peer has told a route to ${found.prefix}`);
}

async function showRoutes(options: Limited): Promise<void> {
  const columns = ['prefix', 'next hop', 'from', 'source', 'as path', 'pref', 'verdict'];
  const rows = ({ prefix, paths }: RouteStatus) =>
    paths.map((path) => [
      prefix,
      path.nextHop ?? '-',
      path.peer,
      path.source,
      path.asPath || '-',
      String(path.localPref ?? '-'),
      path.stale ? `${path.verdict}, stale` : path.verdict,
    ]);
  await stream<RouteStatus>('/v1/routes', options, columns, rows, 'no BGP routes');
}

async function showAdvertised(peer: string, options: Limited): Promise<void> {
  const rows = (route: AdvertisedRoute) => [[named(route), ...cells(route)]];
  const columns = ['prefix', ...attributeColumns];
  await stream<AdvertisedRoute>(peerPath(peer, '/advertised'), options, columns, rows, `${peer} is told no routes`);
}

async function showReceived(peer: string, options: Limited): Promise<void> {
  const rows = (route: ReceivedRoute) => [
    [named(route), ...cells(route), route.accepted ? (route.stale ? 'stale' : 'accepted') : `refused: ${route.reason}`],
  ];
  const columns = ['prefix', ...attributeColumns, 'state'];
  await stream<ReceivedRoute>(peerPath(peer, '/received'), options, columns, rows, `${peer} has told no routes`);
}

/** A prefix, and which of its paths. */
function named({ prefix, pathId }: AdvertisedRoute | ReceivedRoute): string {
  return pathId === undefined ? prefix : `${prefix} path ${pathId}`;
}

const attributeColumns = ['next hop', 'as path', 'origin', 'pref', 'med', 'communities'];

function cells({ nextHop, asPath, origin, localPref, med, communities, largeCommunities }: AttributesView): string[] {
  const all = [...(communities ?? []), ...(largeCommunities ?? [])];
  return [
    nextHop ?? '-',
    asPath || '-',
    origin,
    String(localPref ?? '-'),
    String(med ?? '-'),
    all.length === 0 ? '-' : all.join(' '),
  ];
}

async function stream<T>(
  path: string,
  { output, limit }: Limited,
  columns: readonly string[],
  rows: (item: T) => readonly (readonly string[])[],
  empty: string,
): Promise<void> {
  if (!/^\d{1,9}$/.test(limit)) throw new InputError('--limit', limit, 'a number of routes, 0 for all');
  const listing = new Listing<T>(parseFormat(output), columns, rows);
  const { truncated } = await list(directory(), 'bgp', `${path}?limit=${limit}`, (item) => listing.add(item as T));
  listing.end(empty);
  if (truncated) process.stderr.write(`there are more than ${limit}; --limit 0 shows all\n`);
}

async function reset(
  peer: string,
  { soft = false, message, output }: Output & { soft?: boolean; message?: string },
): Promise<void> {
  const format = parseFormat(output);
  const body = { soft, ...(message === undefined ? {} : { message }) };
  const outcome = (await tell(directory(), 'bgp', peerPath(peer, '/reset'), body)) as ResetOutcome;
  print(format, outcome, () => `${peer}: ${described(outcome)}\n`);
  if (outcome.reset === 'none') throw new ExitError(exitCode.failure, `${peer} has no session to refresh`);
}

function described({ reset: how, refreshAsked }: ResetOutcome): string {
  const families = refreshAsked.map((family) => `IPv${family}`).join(' and ');
  switch (how) {
    case 'hard':
      return 'the session was ended (cease 6/4) and begins anew';
    case 'restarted':
      return 'there was no session; the next attempt begins at once';
    case 'soft':
      return families
        ? `all routes are told again, and asked for again: ${families}`
        : 'all routes are told again; the peer cannot be asked for its own (no route refresh)';
    case 'none':
      return 'no session';
  }
}
