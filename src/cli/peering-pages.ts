import type { PeerStatus } from '../bgp/peer.ts';
import type { AttributesView, Explanation, RouteStatus } from '../bgp/views.ts';
import { formatDuration, formatTable } from './output.ts';

/* `margayctl bgp` as text. Pure. */

export function peerPage(peer: PeerStatus): string {
  const { negotiated, lastError } = peer;
  const lines: [string, string][] = [
    ['peer', `${peer.name} (${peer.role})`],
    ['address', `${peer.address} port ${peer.port}, AS ${peer.asn}`],
    [
      'state',
      `${peer.state} since ${peer.since}${peer.uptimeSeconds === undefined ? '' : `, up ${formatDuration(peer.uptimeSeconds)}`}`,
    ],
    ['flaps', String(peer.flaps)],
    ['last error', lastError ? `${lastError.reason}, from ${senders[lastError.by]}, at ${lastError.at}` : 'none'],
  ];
  if (negotiated) lines.push(...negotiatedLines(negotiated));
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

const senders = { us: 'us', peer: 'the peer', tcp: 'the connection' } as const;

function negotiatedLines(negotiated: NonNullable<PeerStatus['negotiated']>): [string, string][] {
  const { families, holdSeconds, keepaliveSeconds, restart } = negotiated;
  const timers = holdSeconds === 0 ? 'none' : `hold ${holdSeconds} s, keepalive ${keepaliveSeconds} s`;
  const capabilities = [
    ...families.map((family) => `IPv${family} unicast`),
    ...(negotiated.fourOctetAs ? ['four-octet AS'] : []),
    ...(negotiated.routeRefresh ? ['route refresh'] : []),
    ...(restart ? [`graceful restart ${restart.restartSeconds} s`] : []),
  ];
  return [
    ['identifier', `${negotiated.identifier}, ${negotiated.external ? 'external' : 'internal'}`],
    ['timers', timers],
    ['capabilities', capabilities.join(', ')],
  ];
}

function countText(counts: Readonly<Record<string, number>>): string {
  const some = Object.entries(counts).filter(([, count]) => count > 0);
  return some.map(([name, count]) => `${count} ${name}`).join(', ') || 'none';
}

export function routePage({ prefix, originated, paths }: RouteStatus): string {
  const own = originated ? ', announced by this node' : '';
  return `${prefix}${own}\n${paths.map((path) => `  ${path.verdict}${path.stale ? ', stale' : ''}: from ${path.peer} (${path.source})\n${attributeLines(path)}`).join('')}`;
}

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
