import type { Family, Ip } from '../model/address.ts';
import { type Capability, type LongLivedFamily, missingCapability, type RestartFamily } from './wire/capabilities.ts';
import { subcodes, WireError } from './wire/errors.ts';
import { asnOf, asTrans, type Open } from './wire/open.ts';

/** What this side brings to a session. */
export interface SessionConfig {
  readonly asn: number;
  readonly identifier: Ip;
  readonly peerAsn: number;
  readonly families: readonly Family[];
  /** Offers IPv6 next hops of IPv4 prefixes. RFC 8950. */
  readonly extendedNextHop?: boolean;
  /** Several paths of a prefix, of every family. RFC 7911. */
  readonly addPath?: { readonly receive: boolean; readonly send: boolean };
  /** Offers messages of more than 4096 octets. Default: yes. RFC 8654. */
  readonly extendedMessages?: boolean;
  readonly holdSeconds: number;
  /** Absent: a third of the negotiated hold time. */
  readonly keepaliveSeconds?: number;
  /** Absent: by `sendHoldSeconds`. */
  readonly sendHoldSeconds?: number;
  /** Graceful restart as told to the peer; a restart time of 0 only helps others. RFC 4724 §3. */
  readonly restart: {
    readonly restarted: boolean;
    readonly restartSeconds: number;
    /** Forwarding outlived whatever ended the last session. */
    readonly preserved: boolean;
    /** How long a peer may keep our routes after the restart time; absent: not at all. RFC 9494. */
    readonly longLivedSeconds?: number;
  };
  /** `dial`: at once. `wait`: listen, and dial after the connect retry time. `never`: only listen. */
  readonly initiative: 'dial' | 'wait' | 'never';
  readonly connectRetrySeconds: number;
  /** How long Idle lasts after an error; grows with errors in a row. */
  readonly idleHoldSeconds: number;
}

/** What both sides agreed on. */
export interface Negotiated {
  readonly peerAsn: number;
  readonly identifier: Ip;
  readonly external: boolean;
  /** 0: neither hold time nor keepalives. */
  readonly holdSeconds: number;
  readonly keepaliveSeconds: number;
  readonly families: readonly Family[];
  readonly fourOctetAs: boolean;
  readonly routeRefresh: boolean;
  /** Both sides mark where repeated routes begin and end. RFC 7313. */
  readonly enhancedRefresh: boolean;
  /** Messages may be longer than 4096 octets. RFC 8654. */
  readonly extendedMessages: boolean;
  /** IPv4 prefixes may have IPv6 next hops, both ways. RFC 8950. */
  readonly extendedNextHop: boolean;
  /** Families of which the peer tells several paths of a prefix, and of which it takes several; absent: none. RFC 7911. */
  readonly pathsReceived?: readonly Family[];
  readonly pathsSent?: readonly Family[];
  /** The peer's graceful restart capability, if it sent one. */
  readonly restart?: {
    readonly restarted: boolean;
    /** A NOTIFICATION starts a graceful restart too, unless it is a hard reset. RFC 8538. */
    readonly notification: boolean;
    readonly restartSeconds: number;
    readonly families: readonly RestartFamily[];
  };
  /** The peer's long-lived graceful restart, if it knows of it; it may name no family. RFC 9494 §3. */
  readonly longLived?: readonly LongLivedFamily[];
}

/** Seconds until the peer must have answered our OPEN. RFC 4271 §8.2.2: a large value, 4 minutes suggested. */
export const openHoldSeconds = 240;

/** How long octets may wait for the peer to read. RFC 9687 §5: 8 minutes or twice the hold time, the larger. */
export function sendHoldSeconds(config: Pick<SessionConfig, 'sendHoldSeconds' | 'holdSeconds'>): number {
  return config.sendHoldSeconds ?? Math.max(480, 2 * config.holdSeconds);
}

/** The OPEN that this side sends. */
export function openOf(config: SessionConfig): Open {
  const capabilities: Capability[] = config.families.map((family) => ({ capability: 'multiprotocol', family }));
  const { restarted, restartSeconds, preserved, longLivedSeconds } = config.restart;
  const longLived = longLivedSeconds === undefined ? [] : config.families;
  if (offersExtendedNextHop(config)) {
    capabilities.push({ capability: 'extendedNextHop', families: [{ family: 4, nextHop: 6 }] });
  }
  capabilities.push(
    { capability: 'routeRefresh' },
    { capability: 'enhancedRefresh' },
    ...(config.extendedMessages === false ? [] : [{ capability: 'extendedMessages' } as const]),
    {
      capability: 'gracefulRestart',
      restarted,
      notification: true,
      restartSeconds: Math.min(restartSeconds, 0x0fff),
      families: config.families.map((family) => ({ family, preserved })),
    },
    {
      capability: 'longLivedRestart',
      families: longLived.map((family) => ({
        family,
        preserved,
        staleSeconds: Math.min(longLivedSeconds ?? 0, 0xffffff),
      })),
    },
    ...offeredPaths(config),
    { capability: 'fourOctetAs', asn: config.asn },
  );
  return {
    asn: config.asn > 0xffff ? asTrans : config.asn,
    holdSeconds: config.holdSeconds,
    identifier: config.identifier,
    capabilities,
  };
}

/** Judges a peer's OPEN. RFC 4271 §6.2, 6286, 6793 §4.1, 7607. @throws WireError with code open */
export function acceptOpen(open: Open, config: SessionConfig): Negotiated {
  const peerAsn = asnOf(open);
  if (peerAsn === 0 || peerAsn !== config.peerAsn) {
    throw new WireError(
      'open',
      subcodes.open.badPeerAs,
      'reset',
      'open.asn',
      `${peerAsn}, configured ${config.peerAsn}`,
    );
  }
  const external = peerAsn !== config.asn;
  if (open.identifier === '0.0.0.0' || (!external && open.identifier === config.identifier)) {
    throw new WireError('open', subcodes.open.badIdentifier, 'reset', 'open.identifier', open.identifier);
  }
  if (open.holdSeconds === 1 || open.holdSeconds === 2) {
    throw new WireError('open', subcodes.open.badHoldTime, 'reset', 'open.holdTime', `${open.holdSeconds}`);
  }
  const families = commonFamilies(open, config);
  const holdSeconds = Math.min(open.holdSeconds, config.holdSeconds);
  const told = (name: Capability['capability']) => open.capabilities.some(({ capability }) => capability === name);
  const restart = open.capabilities.findLast((capability) => capability.capability === 'gracefulRestart');
  const longLived = open.capabilities.findLast((capability) => capability.capability === 'longLivedRestart');
  return {
    peerAsn,
    identifier: open.identifier,
    external,
    holdSeconds,
    keepaliveSeconds: keepalive(holdSeconds, config.keepaliveSeconds),
    families,
    fourOctetAs: told('fourOctetAs'),
    routeRefresh: told('routeRefresh'),
    enhancedRefresh: told('enhancedRefresh'),
    extendedMessages: config.extendedMessages !== false && told('extendedMessages'),
    extendedNextHop: offersExtendedNextHop(config) && toldExtendedNextHop(open),
    ...commonPaths(open, config, families),
    ...(restart ? { restart } : {}),
    // Without graceful restart it means nothing. RFC 9494 §3.
    ...(restart && longLived ? { longLived: longLived.families } : {}),
  };
}

function offeredPaths({ families, addPath }: SessionConfig): Capability[] {
  if (!addPath || !(addPath.receive || addPath.send)) return [];
  const { receive, send } = addPath;
  return [{ capability: 'addPath', families: families.map((family) => ({ family, receive, send })) }];
}

/** A way of which one side says `send` and the other `receive`. The last word on a family counts. RFC 7911 §4. */
function commonPaths(
  open: Open,
  { addPath }: SessionConfig,
  families: readonly Family[],
): Pick<Negotiated, 'pathsReceived' | 'pathsSent'> {
  const told = new Map(
    open.capabilities
      .flatMap((capability) => (capability.capability === 'addPath' ? capability.families : []))
      .map((path) => [path.family, path]),
  );
  const pathsReceived = families.filter((family) => addPath?.receive && told.get(family)?.send);
  const pathsSent = families.filter((family) => addPath?.send && told.get(family)?.receive);
  return {
    ...(pathsReceived.length > 0 ? { pathsReceived } : {}),
    ...(pathsSent.length > 0 ? { pathsSent } : {}),
  };
}

function offersExtendedNextHop({ families, extendedNextHop }: SessionConfig): boolean {
  return extendedNextHop === true && families.includes(4);
}

function toldExtendedNextHop({ capabilities }: Open): boolean {
  return capabilities.some(
    (told) =>
      told.capability === 'extendedNextHop' &&
      told.families.some(({ family, nextHop }) => family === 4 && nextHop === 6),
  );
}

/** At most a third of the hold time; none without one. RFC 4271 §4.4. */
function keepalive(holdSeconds: number, configured: number | undefined): number {
  const third = Math.floor(holdSeconds / 3);
  return holdSeconds === 0 ? 0 : Math.min(third, configured ?? third);
}

/** A peer without the multiprotocol capability speaks IPv4 unicast only. RFC 4760 §8. @throws WireError 2/7 */
function commonFamilies(open: Open, config: SessionConfig): Family[] {
  const told = open.capabilities.flatMap((capability) =>
    capability.capability === 'multiprotocol' ? [capability.family] : [],
  );
  const silent = !open.capabilities.some(
    (capability) =>
      capability.capability === 'multiprotocol' || (capability.capability === 'unknown' && capability.code === 1),
  );
  const theirs = silent ? [4] : told;
  const common = config.families.filter((family) => theirs.includes(family));
  const [first = 4] = config.families;
  if (common.length === 0) throw missingCapability({ capability: 'multiprotocol', family: first });
  return common;
}
