import { Writer } from '../base/bytes.ts';
import type { Family } from '../model/address.ts';
import { afiOf, unicast } from './wire/capabilities.ts';
import { subcodes, WireError } from './wire/errors.ts';

/** How many prefixes of a family a peer may have accepted at a time. RFC 4271 §6.7. */
export interface PrefixLimit {
  readonly limit: number;
  /** Share of the limit, in percent, at which a warning is logged. */
  readonly warnPercent: number;
  /** Nothing but warnings: the session stays. */
  readonly warnOnly?: boolean;
  /** Until the next attempt; absent: none before an operator's reset. */
  readonly restartSeconds?: number;
}

export type LimitState = 'within' | 'warning' | 'exceeded';

/** @param count prefixes that the peer has told; `warning` from `warnPercent` of the limit on */
export function limitState(count: number, { limit, warnPercent }: PrefixLimit): LimitState {
  if (count > limit) return 'exceeded';
  return count * 100 >= limit * warnPercent ? 'warning' : 'within';
}

/** Cease 6/1, with the family and the limit as its data. RFC 4486 §4. */
export function limitExceeded(family: Family, count: number, { limit }: PrefixLimit): WireError {
  const w = new Writer(7);
  w.u16(afiOf(family));
  w.u8(unicast);
  w.u32(limit);
  const detail = `${count} IPv${family} prefixes, the limit is ${limit}`;
  return new WireError('cease', subcodes.cease.maxPrefixes, 'reset', 'maxPrefixes', detail, w.finish());
}
