import type { PeerStatus } from '../../bgp/peer-status.ts';
import { lackOf } from '../local.ts';
import type { Check, Finding } from './facts.ts';
import { expectsBgp, failure, ok, warning } from './judge.ts';

/* What this node's agents say of themselves. Pure. */

const listed = 5;

export const agentChecks: Readonly<Record<string, Check>> = {
  felix: ({ felix }) =>
    felix.running
      ? [ok('felix', `margay felix runs, pid ${felix.status.pid}`)]
      : [failure('felix', felix.reason, 'start the agent; its log says why it ended')],
  'felix-datastore': ({ felix }) => {
    if (!felix.running) return [];
    const { datastore, inSync } = felix.status;
    const why = datastore.reason ?? 'no reason given';
    if (!datastore.connected)
      return [
        failure(
          'felix-datastore',
          `felix has lost the datastore: ${why}`,
          'what stands in the kernel stays as it is; check the datastore and the way to it',
        ),
      ];
    if (!inSync)
      return [
        failure(
          'felix-datastore',
          'felix has not read the whole datastore yet, and so changes nothing',
          'wait; if it lasts, see its log for the kind that cannot be read',
        ),
      ];
    return [ok('felix-datastore', 'felix is in sync')];
  },
  'felix-failures': ({ felix }) =>
    !felix.running
      ? []
      : felix.status.failures.map(({ kind, item, message, since }) =>
          failure(
            'felix-failures',
            `${kind} ${item} cannot be applied since ${since}: ${message}`,
            'felix tries again with growing pauses; mend what the message names',
          ),
        ),
  'invalid-objects': ({ felix }) =>
    !felix.running
      ? []
      : felix.status.invalid.map(({ key, message }) =>
          failure(
            'invalid-objects',
            `${key} in the datastore is invalid: ${message}`,
            'correct the object with margayctl apply; its last good form is in force until then',
          ),
        ),
  endpoints: ({ felix }) => {
    if (!felix.running) return [];
    const { endpoints } = felix.status;
    const waiting = endpoints.filter(({ state }) => state !== 'programmed');
    if (waiting.length === 0) return [ok('endpoints', `${endpoints.length} endpoints are programmed`)];
    return waiting
      .slice(0, listed)
      .map(({ name, state, problem }) =>
        failure(
          'endpoints',
          `${name} is ${state}${problem ? `: ${problem}` : ''}${waiting.length > listed ? ` (one of ${waiting.length})` : ''}`,
          state === 'waitingForInterface'
            ? 'its device is not on this node: restart the pod'
            : 'see felix-failures; a pod gets no packet before its policy stands',
        ),
      );
  },
  'pod-mtu': ({ felix }) => {
    if (!felix.running) return [];
    const others = felix.status.endpoints.filter(({ mtu }) => mtu !== undefined);
    const [first] = others;
    if (!first) return [];
    const detail = `${others.length} pods have another MTU than the ${felix.status.podMtu ?? 'usual one'} that pods get now, for example ${first.name} ${first.mtu}`;
    return [warning('pod-mtu', detail, 'restart them if their packets get lost, or leave it to path MTU discovery')];
  },
  tunnels: ({ felix }) => {
    if (!felix.running) return [];
    return felix.status.tunnels.flatMap((tunnel): Finding[] => {
      const { device, state, reason, mtu } = tunnel;
      if (state === 'up') return [ok('tunnels', `${device} is up, MTU ${mtu}`)];
      if (state === 'waiting')
        return [
          failure('tunnels', `${device} is not up: ${reason ?? 'no reason given'}`, 'mend what the reason names'),
        ];
      const lack = lackOf(tunnel);
      return lack === undefined ? [] : [failure('tunnels', lack, 'see docs/encapsulation.md')];
    });
  },
  'route-feed': ({ felix }) => {
    if (!felix.running || !felix.status.bgp) return [];
    const { connected, stale, reason, routes } = felix.status.feed;
    if (!connected)
      return [
        failure(
          'route-feed',
          `felix gets no routes from bgp: ${reason ?? 'no reason given'}`,
          'its routes stay for a while; start margay bgp on this node',
        ),
      ];
    if (stale > 0)
      return [
        warning(
          'route-feed',
          `${stale} routes were not told again by bgp yet`,
          'wait for the BGP sessions to come back',
        ),
      ];
    return [ok('route-feed', `${routes} routes from bgp`)];
  },
  bgp: (facts) => {
    const { bgp } = facts;
    if (bgp.running) return [ok('bgp', `margay bgp runs: AS ${bgp.status.asn}, router ${bgp.status.identifier}`)];
    return expectsBgp(facts) ? [failure('bgp', bgp.reason, 'start the agent; its log says why it ended')] : [];
  },
  'bgp-sessions': ({ peers }) => {
    const down = peers.filter(({ state }) => state !== 'Established');
    const up = peers.length - down.length;
    const whole = peers.length > 0 && down.length === 0 ? [ok('bgp-sessions', `${up} sessions are up`)] : [];
    return [...whole, ...down.map(sessionFinding)];
  },
  'bgp-faults': ({ peers }) =>
    peers.flatMap((peer) => {
      const faults = Object.entries(peer.faults).filter(([, count]) => count > 0);
      if (faults.length === 0) return [];
      const list = faults.map(([name, count]) => `${count} ${name}`).join(', ');
      const detail = `${peer.name} sent attributes that were discarded or treated as withdrawals: ${list}`;
      return [warning('bgp-faults', detail, `see margayctl bgp peer ${peer.name}, and mend the peer (RFC 7606)`)];
    }),
};

function sessionFinding(peer: PeerStatus): Finding {
  const { name, address, state, since, lastError } = peer;
  const why = lastError ? `: ${lastError.reason} (${lastError.by})` : '';
  return failure('bgp-sessions', `${name} (${address}) is ${state} since ${since}${why}`, sessionFix(peer));
}

/** Words of the last error → what commonly lies behind them. RFC 4271 §6, RFC 4486. */
const causes: readonly (readonly [RegExp, (peer: PeerStatus) => string])[] = [
  [
    /open\/badPeerAs/,
    ({ asn }) =>
      `one side expects another AS than the other has: this one expects ${asn}; correct asNumber of the BGPPeer or of the Node`,
  ],
  [/open\/badIdentifier/, () => 'two routers have the same identifier: give each its own address or routerID'],
  [/open\/badHoldTime/, () => 'the peer refuses the hold time: raise it'],
  [/cease\/(maxPrefixes)/, () => 'a limit of prefixes was passed: find out who announces so many, or raise the limit'],
  [/cease\/shutdown/, () => 'the other side was shut down by its operator'],
  [/cease\/deconfigured/, () => 'the other side has no configuration for this peer: add it there'],
  [/cease\/rejected/, () => 'the other side refuses connections from this address: add this node there as a peer'],
  [/^(hold|sendHold)\//, () => 'packets get lost on the way or the peer is overloaded: check MTU, links and firewalls'],
  [
    /ECONNREFUSED/,
    ({ port }) => `nothing listens there on TCP port ${port}, or a firewall rejects it: start the peer's speaker`,
  ],
  [/EHOSTUNREACH|ENETUNREACH/, () => 'there is no route to the peer: check the address and the link'],
  [
    /ETIMEDOUT|timed out|closed by the peer|ECONNRESET/,
    ({ port }) =>
      `a firewall drops TCP port ${port}, the peer knows no such neighbour, or the TCP MD5 passwords differ`,
  ],
  [/BFD/i, () => 'the path failed by BFD: check the link, and that the peer runs BFD as well'],
];

function sessionFix(peer: PeerStatus): string {
  const reason = peer.lastError?.reason ?? '';
  const found = causes.find(([words]) => words.test(reason));
  return found?.[1](peer) ?? `see margayctl bgp peer ${peer.name}`;
}
