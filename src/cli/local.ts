import type { RouteStatus as BgpRoute, PathStatus } from '../bgp/control.ts';
import type { PeerStatus } from '../bgp/peer.ts';
import { tunnelModules } from '../felix/calc/tunnels.ts';
import type { ConfigLine } from '../felix/configuration.ts';
import type { FelixStatus, RoutesStatus } from '../felix/status.ts';
import type { NextHop } from '../kernel/types.ts';
import { type Agent, ask } from './control.ts';
import { ExitError, exitCode } from './exit.ts';
import { type Format, formatDuration, formatTable, print } from './output.ts';

/* What this node's agents say of themselves, over their control sockets. */

/** What `GET /v1/status` of bgp answers, as far as it is shown here. */
export interface BgpStatus {
  readonly asn: number;
  readonly identifier: string;
  readonly converged: boolean;
  readonly awaited: readonly unknown[];
}

/** The speaker's peers. @throws ExitError as `ask` */
export async function readPeers(runDir: string): Promise<readonly PeerStatus[]> {
  const { peers } = (await ask(runDir, 'bgp', '/v1/peers')) as { peers: readonly PeerStatus[] };
  return peers.toSorted((a, b) => (a.name < b.name ? -1 : a.name > b.name ? 1 : 0));
}

/** Prefixes of both families together. */
export function countsOf({ families }: PeerStatus): { accepted: number; advertised: number } {
  const all = Object.values(families);
  return {
    accepted: all.reduce((sum, { accepted }) => sum + accepted, 0),
    advertised: all.reduce((sum, { advertised }) => sum + advertised, 0),
  };
}

/** `margayctl get bgp peers`. @throws ExitError as `ask` */
export async function showBgpPeers(runDir: string, format: Format): Promise<void> {
  const peers = await readPeers(runDir);
  print(format, peers, () => peerTable(peers));
}

function peerTable(peers: readonly PeerStatus[]): string {
  const rows = peers.map((peer) => {
    const { accepted, advertised } = countsOf(peer);
    const up = peer.uptimeSeconds === undefined ? '-' : formatDuration(peer.uptimeSeconds);
    const error = peer.lastError ? `${peer.lastError.reason} (${peer.lastError.by})` : '-';
    return [peer.name, peer.address, String(peer.asn), peer.state, up, String(accepted), String(advertised), error];
  });
  return formatTable(
    { columns: ['name', 'address', 'asn', 'state', 'up', 'accepted', 'advertised', 'last error'], rows },
    'no BGP peers',
  );
}

/** `margayctl get bgp routes`: what the speaker holds. @throws ExitError as `ask` */
export async function showBgpRoutes(runDir: string, format: Format): Promise<void> {
  const { routes } = (await ask(runDir, 'bgp', '/v1/routes')) as { routes: readonly BgpRoute[] };
  print(format, routes, () => {
    const rows = routes.flatMap(({ prefix, paths }) => paths.map((path) => pathRow(prefix, path)));
    return formatTable(
      { columns: ['prefix', 'next hop', 'from', 'source', 'as path', 'pref', 'verdict'], rows },
      'no BGP routes',
    );
  });
}

function pathRow(prefix: string, path: PathStatus): string[] {
  const verdict = path.stale ? `${path.verdict}, stale` : path.verdict;
  const preference = path.localPref === undefined ? '-' : String(path.localPref);
  return [prefix, path.nextHop ?? '-', path.peer, path.source, path.asPath || '-', preference, verdict];
}

/** `margayctl get routes`: what felix keeps in the kernel. @throws ExitError as `ask` */
export async function showRoutes(runDir: string, format: Format): Promise<void> {
  const { list } = (await ask(runDir, 'felix', '/v1/routes')) as RoutesStatus;
  print(format, list, () => {
    const rows = list.map((route) => [
      route.destination,
      route.type === 'unicast' ? route.nextHops.map(hopText).join(', ') : route.type,
      route.class,
      route.programmed ? 'programmed' : (route.problem ?? 'waiting'),
    ]);
    return formatTable({ columns: ['destination', 'next hop', 'source', 'state'], rows }, 'no routes');
  });
}

/** Every setting of this node's felix with its value and where it comes from. */
export async function showConfig(runDir: string, format: Format): Promise<void> {
  const lines = (await ask(runDir, 'felix', '/v1/config')) as readonly ConfigLine[];
  print(format, lines, () => {
    const rows = lines.map(({ name, value, origin, afterRestart }) => [
      name,
      `${value}${afterRestart === undefined ? '' : ` (${afterRestart} after a restart)`}`,
      origin,
    ]);
    return formatTable({ columns: ['setting', 'value', 'origin'], rows }, 'no settings');
  });
}

function hopText({ gateway, device }: NextHop): string {
  return [gateway && `via ${gateway}`, device && `dev ${device}`].filter(Boolean).join(' ');
}

/** One agent's answer, or why there is none. */
export type Answer<T> =
  | { readonly running: true; readonly status: T }
  | { readonly running: false; readonly reason: string };

/** As `ask`, with an agent that does not answer as a value. */
export async function answerOf<T>(runDir: string, agent: Agent, path: string): Promise<Answer<T>> {
  try {
    return { running: true, status: (await ask(runDir, agent, path)) as T };
  } catch (thrown) {
    if (thrown instanceof ExitError) return { running: false, reason: thrown.message };
    throw thrown;
  }
}

/**
 * One page on this node. Findings (an agent that does not run, a session that is down, something that could not be
 * applied) make the exit code 1; no agent at all makes it 3.
 */
export async function showStatus(runDir: string, format: Format): Promise<void> {
  const [felix, bgp, peers] = await Promise.all([
    answerOf<FelixStatus>(runDir, 'felix', '/v1/status'),
    answerOf<BgpStatus>(runDir, 'bgp', '/v1/status'),
    answerOf<{ peers: PeerStatus[] }>(runDir, 'bgp', '/v1/peers'),
  ]);
  const list = peers.running ? peers.status.peers : [];
  const findings = findingsOf(felix, bgp, list);
  print(format, { felix, bgp, peers: list, findings }, () => statusPage(felix, bgp, list, findings));
  if (!felix.running && !bgp.running) throw new ExitError(exitCode.unreachable, 'none of the agents answers');
  if (findings.length > 0)
    throw new ExitError(exitCode.failure, `${findings.length} finding${findings.length === 1 ? '' : 's'}`);
}

/** What an operator should know of, each in a line. Pure. */
export function findingsOf(felix: Answer<FelixStatus>, bgp: Answer<BgpStatus>, peers: readonly PeerStatus[]): string[] {
  const found: string[] = [];
  if (felix.running) {
    const { datastore, inSync, failures, invalid, feed } = felix.status;
    if (!datastore.connected) {
      const since = datastore.since === undefined ? '' : ` since ${datastore.since}`;
      found.push(`felix has lost the datastore${since}: ${datastore.reason ?? 'no reason given'}`);
    }
    if (!inSync) found.push('felix has not read the whole datastore yet, and so changes nothing');
    if (felix.status.bgp && !feed.connected)
      found.push(`felix gets no routes from bgp: ${feed.reason ?? 'no reason given'}`);
    found.push(...felix.status.tunnels.flatMap((tunnel) => lackOf(tunnel) ?? []));
    for (const { kind, item, message, since } of failures)
      found.push(`${kind} ${item} cannot be applied since ${since}: ${message}`);
    for (const { key, message } of invalid) found.push(`${key} in the datastore is invalid: ${message}`);
  } else found.push(felix.reason);
  const expected = !felix.running || felix.status.bgp;
  if (!bgp.running && expected) found.push(bgp.reason);
  for (const peer of peers.filter(({ state }) => state !== 'Established')) {
    const why = peer.lastError ? `: ${peer.lastError.reason} (${peer.lastError.by})` : '';
    found.push(`BGP session with ${peer.name} (${peer.address}) is ${peer.state} since ${peer.since}${why}`);
  }
  return found;
}

/** A tunnel that the kernel has no module for, what that means, and what helps; nothing where a fallback carries all. */
export function lackOf({ kind, device, state, reason, pools }: FelixStatus['tunnels'][number]): string | undefined {
  if (state !== 'unsupported' || pools?.length === 0) return undefined;
  const what = `the kernel has no ${kind}, so ${device} cannot be made (${reason ?? 'no reason given'})`;
  const cut = pools ? `; ${pools.join(', ')}: not carried to other nodes` : '';
  const others = fallbacksOf[kind];
  const fallback = pools && others ? `, or annotate the pools with margay.io/tunnelFallback: ${others}` : '';
  return `${what}${cut}; load the module (modprobe ${tunnelModules[kind]})${fallback}`;
}

const fallbacksOf = { ipip: 'VXLAN,UDP', vxlan: 'UDP', udp: undefined } as const;

/** Of the userspace tunnel also that it is slow, and what it carried and dropped. */
export function tunnelText({ kind, device, state, mtu, packets }: FelixStatus['tunnels'][number]): string {
  const slow = kind === 'udp' ? ' (slow: carried by felix itself)' : '';
  const counted = Object.entries(packets ?? {}).filter(([, count]) => count > 0);
  const list = counted.map(([name, count]) => `, ${count} ${name}`).join('');
  return `${device} ${state}${slow}, MTU ${mtu}${list}`;
}

/**
 * The MTU that pods get, and how many of those that run have another, with up to three of them. It is no finding: path
 * MTU discovery serves them, and a network configuration may have asked for it.
 */
export function mtuText(podMtu: number | undefined, endpoints: FelixStatus['endpoints']): string {
  if (podMtu === undefined) return '';
  const others = endpoints.filter(({ mtu }) => mtu !== undefined);
  const named = others.slice(0, 3).map(({ name, mtu }) => `${name} ${mtu}`);
  const more = others.length > named.length ? ', …' : '';
  const list = others.length > 0 ? `; ${others.length} with another (${named.join(', ')}${more})` : '';
  return `, MTU ${podMtu}${list}`;
}

function statusPage(
  felix: Answer<FelixStatus>,
  bgp: Answer<BgpStatus>,
  peers: readonly PeerStatus[],
  findings: readonly string[],
): string {
  const lines: [string, string][] = [];
  if (felix.running) {
    const { node, endpoints, podMtu, routes, tunnels, inSync, datastore, lastApply } = felix.status;
    const programmed = endpoints.filter(({ state }) => state === 'programmed').length;
    const counts = Object.entries(routes.counts).filter(([, count]) => count > 0);
    lines.push(['node', node]);
    lines.push([
      'datastore',
      `${datastore.connected ? 'connected' : 'not connected'}, ${inSync ? 'in sync' : 'not in sync'}`,
    ]);
    lines.push(['endpoints', `${programmed} of ${endpoints.length} programmed${mtuText(podMtu, endpoints)}`]);
    lines.push(['routes', counts.map(([name, count]) => `${count} ${name}`).join(', ') || 'none']);
    if (tunnels.length > 0) lines.push(['tunnels', tunnels.map(tunnelText).join('; ')]);
    if (lastApply) lines.push(['last change', `${lastApply.at}, took ${lastApply.milliseconds.toFixed(1)} ms`]);
  }
  if (bgp.running) {
    const up = peers.filter(({ state }) => state === 'Established').length;
    const { asn, identifier, converged } = bgp.status;
    lines.push([
      'bgp',
      `AS ${asn}, router ${identifier}, ${up} of ${peers.length} sessions up, ${converged ? 'converged' : 'converging'}`,
    ]);
  }
  const page = lines.map(([name, text]) => `${`${name}:`.padEnd(13)}${text}\n`).join('');
  const problems = findings.length === 0 ? 'findings:    none\n' : findings.map((text) => `! ${text}\n`).join('');
  return `${page}${problems}`;
}
