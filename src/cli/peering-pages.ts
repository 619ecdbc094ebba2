import type { LastError, PeerStatus } from '../bgp/peer.ts';
import type { AttributesView, Explanation, RouteStatus } from '../bgp/views.ts';
import { formatDuration, formatTable } from './output.ts';

/* `margayctl bgp` as text. Pure. */

/** `margayctl bgp peer`: one session, what it negotiated and how the last one ended. Pure. */
export function peerPage(peer: PeerStatus): string {
  const { negotiated, lastError, sessionEnd } = peer;
  const lines: [string, string][] = [
    ['peer', `${peer.name} (${peer.role})`],
    ['address', `${peer.address} port ${peer.port}, AS ${peer.asn}`],
    [
      'state',
      `${peer.state} since ${peer.since}${peer.uptimeSeconds === undefined ? '' : `, up ${formatDuration(peer.uptimeSeconds)}`}`,
    ],
    ['flaps', String(peer.flaps)],
    ['last error', lastError ? errorText(lastError) : 'none'],
  ];
  if (sessionEnd && sessionEnd.at !== lastError?.at) lines.push(['session end', errorText(sessionEnd)]);
  if (negotiated) lines.push(...negotiatedLines(negotiated));
  if (peer.bfd) lines.push(['BFD', bfdText(peer.bfd)]);
  const { received, sent } = peer.messages;
  lines.push(['received', countText(received)], ['sent', countText(sent)]);
  lines.push(['malformed', countText(peer.faults)], ['refused', countText(peer.rejected)]);
  const page = lines.map(([name, text]) => `${`${name}:`.padEnd(15)}${text}\n`).join('');
  const rows = Object.entries(peer.families).map(([family, counts]) => [
    family,
    String(counts.received),
    String(counts.withdrawn),
    String(counts.accepted),
    String(counts.stale),
    String(counts.preferred),
    String(counts.advertised),
    counts.endOfRib ? 'yes' : 'no',
  ]);
  const columns = ['family', 'received', 'withdrawn', 'accepted', 'stale', 'best', 'advertised', 'end of rib'];
  return `${page}\n${formatTable({ columns, rows }, 'no families')}`;
}

function errorText({ reason, by, at }: LastError): string {
  return `${reason}, from ${senders[by]}, at ${at}`;
}

const senders = { us: 'us', peer: 'the peer', tcp: 'the connection' } as const;

function negotiatedLines(negotiated: NonNullable<PeerStatus['negotiated']>): [string, string][] {
  const { families, holdSeconds, keepaliveSeconds, restart, longLived, pathsReceived, pathsSent } = negotiated;
  const timers = holdSeconds === 0 ? 'none' : `hold ${holdSeconds} s, keepalive ${keepaliveSeconds} s`;
  const named = (some: readonly number[]) => some.map((family) => `IPv${family}`).join(' and ');
  const capabilities = [
    ...families.map((family) => `IPv${family} unicast`),
    ...(negotiated.fourOctetAs ? ['four-octet AS'] : []),
    ...(negotiated.routeRefresh ? [negotiated.enhancedRefresh ? 'enhanced route refresh' : 'route refresh'] : []),
    ...(negotiated.extendedMessages ? ['extended messages'] : []),
    ...(negotiated.extendedNextHop ? ['IPv6 next hops of IPv4'] : []),
    ...(pathsSent ? [`several paths of ${named(pathsSent)} sent`] : []),
    ...(pathsReceived ? [`several paths of ${named(pathsReceived)} received`] : []),
    ...(restart
      ? [`graceful restart ${restart.restartSeconds} s${restart.notification ? ' (notifications too)' : ''}`]
      : []),
    ...(longLived ?? []).map(({ family, staleSeconds }) => `long-lived restart of IPv${family} ${staleSeconds} s`),
  ];
  return [
    ['identifier', `${negotiated.identifier}, ${negotiated.external ? 'external' : 'internal'}`],
    ['timers', timers],
    ['capabilities', capabilities.join(', ')],
  ];
}

function bfdText({ problem, state, diagnostic, detectionMs }: NonNullable<PeerStatus['bfd']>): string {
  if (problem !== undefined) return problem;
  return state === 'Up' ? `${state}, down after ${detectionMs} ms without a packet` : `${state} (${diagnostic})`;
}

function countText(counts: Readonly<Record<string, number>>): string {
  const some = Object.entries(counts).filter(([, count]) => count > 0);
  return some.map(([name, count]) => `${count} ${name}`).join(', ') || 'none';
}

/** `margayctl bgp route`: one prefix with all its paths. Pure. */
export function routePage({ prefix, originated, paths }: RouteStatus): string {
  const own = originated ? ', announced by this node' : '';
  return `${prefix}${own}\n${paths.map((path) => `  ${path.verdict}${path.stale ? ', stale' : ''}: from ${path.peer} (${path.source})\n${attributeLines(path)}`).join('')}`;
}

/** `margayctl bgp why`: the summary first, then path by path. Pure. */
export function explanationPage({ prefix, summary, paths, rejected }: Explanation): string {
  const told = paths.map(
    (path) => `  ${path.verdict}: from ${path.peer} (${path.source}): ${path.why}\n${attributeLines(path)}`,
  );
  const refused = rejected.map((path) => `  refused: from ${path.peer}: ${path.reason}\n${attributeLines(path)}`);
  return `${prefix}: ${summary}\n${told.join('')}${refused.join('')}`;
}

function attributeLines(view: AttributesView): string {
  const lines: (string | undefined)[] = [
    `next hop ${view.nextHop ?? 'self'}, AS path ${view.asPath || 'empty'}, origin ${view.origin}`,
    view.localPref === undefined ? undefined : `local preference ${view.localPref}`,
    view.med === undefined ? undefined : `MED ${view.med}`,
    view.communities && `communities ${view.communities.join(' ')}`,
    view.largeCommunities && `large communities ${view.largeCommunities.join(' ')}`,
    view.extendedCommunities && `extended communities ${view.extendedCommunities.join(' ')}`,
    view.originatorId && `originator ${view.originatorId}`,
    view.clusterList && `cluster list ${view.clusterList.join(' ')}`,
    view.unknown && `unknown attributes ${view.unknown.join(' ')}`,
  ];
  return lines.flatMap((line) => (line === undefined ? [] : [`      ${line}\n`])).join('');
}
