import { type Family, familyOf, parseIp } from '../model/address.ts';
import type { MonitoredSession } from './bmp/monitor.ts';
import type { Parties } from './collision.ts';
import type { Connection } from './connection.ts';
import type { SpeakerContext } from './context.ts';
import type { State } from './fsm.ts';
import type { Negotiated, SessionConfig } from './negotiate.ts';
import type { Routes } from './routes.ts';
import type { PeerConfig } from './settings.ts';
import { type Endpoint, transportOf } from './transport.ts';
import { maxExtendedLength } from './wire/framing.ts';
import { writeMessage } from './wire/message.ts';

/** What a peer's past adds to its configuration. */
interface Past {
  /** There has been a session since this process started. */
  readonly everUp: boolean;
  readonly connectRetrySeconds: number;
  readonly idleHoldSeconds: number;
}

/** What this side brings to a session with the peer. */
export function sessionConfigOf(config: PeerConfig, context: SpeakerContext, past: Past): SessionConfig {
  const { everUp, connectRetrySeconds, idleHoldSeconds } = past;
  const { addPath, keepaliveSeconds, sendHoldSeconds, longLivedSeconds } = config;
  return {
    asn: config.localAsn ?? context.asn,
    identifier: context.identifier,
    peerAsn: config.asn,
    families: config.families,
    extendedNextHop: config.extendedNextHop ?? familyOf(config.address) === 6,
    ...(addPath ? { addPath: { receive: addPath.receive, send: addPath.send !== undefined } } : {}),
    ...(context.limits.messageOctets < maxExtendedLength ? { extendedMessages: false } : {}),
    holdSeconds: config.holdSeconds,
    ...(keepaliveSeconds === undefined ? {} : { keepaliveSeconds }),
    ...(sendHoldSeconds === undefined ? {} : { sendHoldSeconds }),
    restart: {
      restarted: context.restarting(),
      restartSeconds: config.restartSeconds,
      ...(longLivedSeconds === undefined ? {} : { longLivedSeconds }),
      preserved: context.restarted || everUp,
    },
    initiative: config.initiative,
    connectRetrySeconds,
    idleHoldSeconds,
  };
}

interface Parts {
  readonly connection: Connection;
  readonly negotiated: Negotiated;
  readonly routes: Routes;
  /** The session still is in force. */
  readonly current: () => boolean;
}

/** The session as monitoring stations are told of it. */
export function monitoredSessionOf(
  config: PeerConfig,
  { identifier: ownIdentifier }: SpeakerContext,
  { connection, negotiated, routes, current }: Parts,
): MonitoredSession {
  const { sent, received, remotePort } = connection.opening;
  const { address, port = 0 } = connection.local;
  const { peerAsn, identifier, families } = negotiated;
  return {
    name: config.name,
    peer: { address: config.address, asn: peerAsn, identifier },
    up: {
      localAddress: address === undefined ? ownIdentifier : parseIp(address.replace(/^::ffff:|%.*$/g, '')),
      localPort: port,
      remotePort,
      sentOpen: sent,
      receivedOpen: received,
    },
    families,
    routes: (side) => routes.monitored(side),
    askAgain: () => {
      if (!routes.faithful && current()) askAgain({ connection, negotiated });
    },
    statistics: () => routes.statistics(),
  };
}

/** Has the peer tell its routes of the families again. RFC 2918. @returns false: it cannot */
export function askAgain(
  { connection, negotiated }: Pick<Parts, 'connection' | 'negotiated'>,
  families: readonly Family[] = negotiated.families,
): boolean {
  if (negotiated.routeRefresh) connection.send(families.map((family) => writeMessage({ type: 'refresh', family })));
  return negotiated.routeRefresh;
}

/** Where a connection to the peer goes, and how it is protected. */
export function endpointOf(config: PeerConfig): Endpoint {
  const { address, port, localAddress } = config;
  return { address, port, ...(localAddress ? { localAddress } : {}), ...transportOf(config) };
}

/** Whose connections collide. RFC 4271 §6.8. */
export function partiesOf(config: PeerConfig, { identifier, asn }: SpeakerContext, negotiated: Negotiated): Parties {
  const { identifier: peerIdentifier, peerAsn } = negotiated;
  return { identifier, asn: config.localAsn ?? asn, peerIdentifier, peerAsn };
}

/** OPENs are being exchanged. */
export function isOpening({ state }: { readonly state: State }): boolean {
  return state === 'OpenSent' || state === 'OpenConfirm';
}
