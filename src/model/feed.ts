import type { Cidr, Ip } from './address.ts';

/*
 * What `margay bgp` tells felix over its unix socket, one JSON object a line. A connection begins with `hello`, then
 * the whole table as `route` lines, `endOfSnapshot`, then changes. A reader keeps the routes of the last connection,
 * marked stale, until `endOfSnapshot` of the next one (or its own stale timer) and then drops those not repeated.
 */

export const feedVersion = 1;

export type FeedMessage =
  | { readonly type: 'hello'; readonly version: number }
  /** Best path of a prefix, with every equal-cost next hop, sorted. Replaces what was said of the prefix. */
  | {
      readonly type: 'route';
      readonly prefix: Cidr;
      readonly nextHops: readonly Ip[];
      readonly source: 'ebgp' | 'ibgp';
    }
  | { readonly type: 'withdraw'; readonly prefix: Cidr }
  | { readonly type: 'endOfSnapshot' };
