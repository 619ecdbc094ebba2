import { InputError } from '../base/errors.ts';

/** What strangers may make this process hold. What goes beyond is refused and counted, and the session stays. */
export interface Limits {
  /** AS numbers in a path, as the decision process counts them; longer ones are refused as `asPathTooLong`. */
  readonly asPathLength: number;
  /** Communities of all three kinds on a route; more are refused as `tooManyCommunities`. */
  readonly communities: number;
  /** Configured peers that are kept up; those beyond it, by name, are left out with a line in the log. */
  readonly peers: number;
  /** Octets queued to a peer above which it is told no more routes until it has read some. */
  readonly queuedOctets: number;
}

export const defaultLimits: Limits = { asPathLength: 512, communities: 1024, peers: 2048, queuedOctets: 1 << 20 };

const variables: Readonly<Record<keyof Limits, readonly [name: string, least: number, most: number]>> = {
  asPathLength: ['MARGAY_BGPMAXASPATHLENGTH', 1, 65_535],
  communities: ['MARGAY_BGPMAXCOMMUNITIES', 1, 65_535],
  peers: ['MARGAY_BGPMAXPEERS', 1, 65_535],
  queuedOctets: ['MARGAY_BGPMAXQUEUEDOCTETS', 65_536, 1 << 30],
};

/** @throws InputError that names the variable */
export function readLimits(env: Readonly<Record<string, string | undefined>>): Limits {
  const limitOf = (key: keyof Limits) => numberOf(env, ...variables[key]) ?? defaultLimits[key];
  return {
    asPathLength: limitOf('asPathLength'),
    communities: limitOf('communities'),
    peers: limitOf('peers'),
    queuedOctets: limitOf('queuedOctets'),
  };
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
