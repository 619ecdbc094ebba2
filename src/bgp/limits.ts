import { InputError } from '../base/errors.ts';
import type { SpeakerConfig } from './settings.ts';

/** What strangers may make this process hold. What goes beyond is refused and counted, and the session stays. */
export interface Limits {
  /** Octets of a message; below 65535 extended messages (RFC 8654) are not offered, and 4096 is the most. */
  readonly messageOctets: number;
  /** AS numbers in a path, as the decision process counts them; longer ones are refused as `asPathTooLong`. */
  readonly asPathLength: number;
  /** Communities of all three kinds on a route; more are refused as `tooManyCommunities`. */
  readonly communities: number;
  /** Configured peers that are kept up; those beyond it, by name, are left out with a line in the log. */
  readonly peers: number;
  /** Octets queued to a peer above which it is told no more routes until it has read some. */
  readonly queuedOctets: number;
  /** BFD sessions at a time; peers beyond it have none, with a line in the log. */
  readonly bfdSessions: number;
  /** Octets queued to a BMP station above which it is cut off. */
  readonly bmpQueuedOctets: number;
}

export const defaultLimits: Limits = {
  messageOctets: 65_535,
  asPathLength: 512,
  communities: 1024,
  peers: 2048,
  queuedOctets: 1 << 20,
  bfdSessions: 512,
  bmpQueuedOctets: 64 << 20,
};

/** Of each limit its variable, and the least and the most that it may be. */
export const limitBounds: Readonly<Record<keyof Limits, readonly [name: string, least: number, most: number]>> = {
  messageOctets: ['MARGAY_BGPMAXMESSAGEOCTETS', 4096, 65_535],
  asPathLength: ['MARGAY_BGPMAXASPATHLENGTH', 1, 65_535],
  communities: ['MARGAY_BGPMAXCOMMUNITIES', 1, 65_535],
  peers: ['MARGAY_BGPMAXPEERS', 1, 65_535],
  queuedOctets: ['MARGAY_BGPMAXQUEUEDOCTETS', 65_536, 1 << 30],
  bfdSessions: ['MARGAY_BGPMAXBFDSESSIONS', 1, 4096],
  bmpQueuedOctets: ['MARGAY_BGPMAXBMPQUEUEDOCTETS', 1 << 20, 1 << 30],
};

/**
 * The environment's limits, then those of a file, then the defaults.
 * @throws InputError that names the variable
 */
export function readLimits(
  env: Readonly<Record<string, string | undefined>>,
  file: { readonly [K in keyof Limits]?: number | undefined } = {},
): Limits {
  const limitOf = (key: keyof Limits) => numberOf(env, ...limitBounds[key]) ?? file[key] ?? defaultLimits[key];
  return {
    messageOctets: limitOf('messageOctets'),
    asPathLength: limitOf('asPathLength'),
    communities: limitOf('communities'),
    peers: limitOf('peers'),
    queuedOctets: limitOf('queuedOctets'),
    bfdSessions: limitOf('bfdSessions'),
    bmpQueuedOctets: limitOf('bmpQueuedOctets'),
  };
}

/** The configuration with as many peers as the limit lets in, and the names of the others. */
export function withinLimit(
  config: SpeakerConfig,
  { peers: most }: Limits,
): { config: SpeakerConfig; surplus: string[] } {
  const surplus = config.peers.slice(most).map(({ name }) => name);
  return { config: surplus.length === 0 ? config : { ...config, peers: config.peers.slice(0, most) }, surplus };
}

/** A whole number from the environment, undefined when unset or empty. @throws InputError */
export function numberOf(
  env: Readonly<Record<string, string | undefined>>,
  name: string,
  least: number,
  most: number,
): number | undefined {
  const text = env[name];
  if (text === undefined || text === '') return undefined;
  const value = /^\d{1,10}$/.test(text) ? Number(text) : Number.NaN;
  if (value >= least && value <= most) return value;
  throw new InputError(name, text, `a whole number from ${least} to ${most}`);
}
