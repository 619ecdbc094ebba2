import { Counter, collectDefaultMetrics, Gauge, Registry } from 'prom-client';
import type { Log } from '../base/log.ts';
import { exposing, type Listening, serve } from '../base/serve.ts';
import type { MetricsSettings } from './metrics-settings.ts';
import type { PeerStatus } from './peer.ts';

/*
 * Prometheus. Names of bird_exporter (`bird_protocol_*`) and GoBGP (`bgp_*`), as far as the speaker can fill them
 * honestly; docs/bgp.md lists them.
 */

/** Peers with series of their own; the rest, by name, are one peer called `other`. */
export const maxPeerSeries = 100;
const other = 'other';

/** One value of one peer: the labels that come after the peer's name, and the value. */
type Sample = readonly [labels: Readonly<Record<string, string>>, value: number];

interface Metric {
  readonly name: string;
  readonly help: string;
  /** The label that holds the peer's name, then the others. */
  readonly labels: readonly [string, ...string[]];
  /** `keep`: has no sum over peers, so those beyond the limit are left out. */
  readonly keep?: true;
  readonly samples: (peer: PeerStatus) => readonly Sample[];
}

const birdLabels = ['name', 'proto', 'ip_version', 'import_filter', 'export_filter'] as const;
const peerLabels = ['peer', 'route_family'] as const;

type Counts = PeerStatus['families'][string];

function perFamily(peer: PeerStatus, value: (counts: Counts) => number): Sample[] {
  return Object.entries(peer.families).map(([family, counts]) => [birdOf(family), value(counts)]);
}

function birdOf(family: string): Readonly<Record<string, string>> {
  return { proto: 'BGP', ip_version: family.replace('ipv', ''), import_filter: '', export_filter: '' };
}

function perRouteFamily(peer: PeerStatus, value: (counts: Counts) => number): Sample[] {
  return Object.entries(peer.families).map(([family, counts]) => [
    { route_family: `${family}-unicast` },
    value(counts),
  ]);
}

const up = ({ state }: PeerStatus) => Number(state === 'Established');
const sum = (tally: Readonly<Record<string, number>>) =>
  Object.values(tally).reduce((total, count) => total + count, 0);

const metrics: readonly Metric[] = [
  {
    name: 'bird_protocol_up',
    help: 'Sessions that are up.',
    labels: birdLabels,
    samples: (peer) => perFamily(peer, () => up(peer)),
  },
  {
    name: 'bird_protocol_uptime',
    help: 'Seconds since the session was established.',
    labels: birdLabels,
    keep: true,
    samples: (peer) => perFamily(peer, () => peer.uptimeSeconds ?? 0),
  },
  bird('prefix_import_count', 'Routes accepted from the peer.', ({ accepted }) => accepted),
  bird('prefix_preferred_count', 'Routes of the peer that are the best.', ({ preferred }) => preferred),
  bird('prefix_export_count', 'Routes that the peer is told.', ({ advertised }) => advertised),
  bird('changes_update_import_receive_count', 'Prefixes announced in this session.', ({ received }) => received),
  bird('changes_withdraw_import_receive_count', 'Prefixes withdrawn in this session.', ({ withdrawn }) => withdrawn),
  {
    name: 'bird_protocol_prefix_filter_count',
    help: 'Routes refused at import and remembered.',
    labels: ['name'],
    samples: ({ remembered }) => [[{}, remembered]],
  },
  {
    name: 'bgp_peer_state',
    help: '1 for the state that the session is in.',
    labels: ['peer', 'session_state', 'admin_state'],
    samples: ({ state }) => [[{ session_state: state, admin_state: 'UP' }, 1]],
  },
  routes('received', 'Prefixes announced by the peer in this session.', ({ received }) => received),
  routes('accepted', 'Routes accepted from the peer.', ({ accepted }) => accepted),
  routes('imported', 'Routes of the peer that are the best.', ({ preferred }) => preferred),
  routes('advertised', 'Routes that the peer is told.', ({ advertised }) => advertised),
  peerValue('bgp_peer_flaps_total', 'Sessions that ended.', ({ flaps }) => flaps),
  peerValue('bgp_routes_rejected_total', 'Prefixes refused at import.', ({ rejected }) => sum(rejected)),
  peerValue('bgp_malformed_attributes_total', 'Faults short of a reset (RFC 7606).', ({ faults }) => sum(faults)),
  ...(['open', 'update', 'notification', 'keepalive', 'refresh'] as const).flatMap((type) => [
    peerValue(`bgp_received_${type}_total`, `${type} messages received.`, ({ messages }) => messages.received[type]),
    peerValue(`bgp_sent_${type}_total`, `${type} messages sent.`, ({ messages }) => messages.sent[type]),
  ]),
];

function bird(name: string, help: string, value: (counts: Counts) => number): Metric {
  return {
    name: `bird_protocol_${name}`,
    help,
    labels: birdLabels,
    samples: (peer) => perFamily(peer, value),
  };
}

function routes(name: string, help: string, value: (counts: Counts) => number): Metric {
  return { name: `bgp_routes_${name}`, help, labels: peerLabels, samples: (peer) => perRouteFamily(peer, value) };
}

function peerValue(name: string, help: string, value: (peer: PeerStatus) => number): Metric {
  return { name, help, labels: ['peer'], samples: (peer) => [[{}, value(peer)]] };
}

/** What is exposed now. Each scrape looks at every peer once. */
export async function exposition(peers: readonly PeerStatus[], registry: Registry): Promise<string> {
  const own = new Registry();
  const sorted = peers.toSorted((a, b) => (a.name < b.name ? -1 : 1));
  for (const metric of metrics) fill(metric, sorted, own);
  new Gauge({ name: 'bgp_peers', help: 'Configured and dynamic peers.', registers: [own] }).set(peers.length);
  return Registry.merge([registry, own]).metrics();
}

function fill({ name, help, labels, keep, samples }: Metric, peers: readonly PeerStatus[], registry: Registry): void {
  const Kind = name.endsWith('_total') ? Counter : Gauge;
  const metric = new Kind({ name, help, labelNames: [...labels], registers: [registry] });
  for (const [at, peer] of peers.entries()) {
    const own = at < maxPeerSeries;
    if (!own && keep) continue;
    for (const [rest, value] of samples(peer)) {
      const series = { [labels[0]]: own ? peer.name : other, ...rest };
      metric.inc(series, value);
    }
  }
}

/** What metrics are taken of. */
export interface Measured {
  peers(): readonly PeerStatus[];
  readonly longestPauseMilliseconds: number;
}

/** `GET /metrics`. @throws EnvironmentError when the port cannot be had */
export async function serveMetrics(speaker: Measured, { host, port }: MetricsSettings, log: Log): Promise<Listening> {
  const registry = new Registry();
  collectDefaultMetrics({ register: registry });
  new Gauge({
    name: 'bgp_longest_pause_seconds',
    help: 'Longest time for which the event loop did not go round.',
    registers: [registry],
    collect() {
      this.set(speaker.longestPauseMilliseconds / 1000);
    },
  });
  const answers = exposing(() => exposition(speaker.peers(), registry), registry.contentType, log);
  return serve(answers, { host, port, setting: 'MARGAY_BGPMETRICSPORT' }, log);
}
