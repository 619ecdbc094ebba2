import { InputError } from '../base/errors.ts';
import { type Cidr, compareIp, type Ip, isLinkLocal, parseIp } from './address.ts';

/*
 * What `margay bgp` tells felix over its unix socket, one JSON object a line. A connection begins with `hello`, then
 * the whole table as `route` lines, `endOfSnapshot`, then changes. A reader keeps the routes of the last connection,
 * marked stale, until `endOfSnapshot` of the next one (or its own stale timer) and then drops those not repeated.
 */

export const feedVersion = 1;

/** A gateway; a link-local one with the device that it is on, as `fe80::1%eth0`. RFC 4007 §11. */
export type Hop = Ip | (string & { readonly brand: 'ScopedIp' });

/** The gateway on this device. */
export function scopedHop(gateway: Ip, device: string): Hop {
  return `${gateway}%${device}` as Hop;
}

/** What a hop is made of; only link-local gateways have a device. */
export function hopParts(hop: Hop): { readonly gateway: Ip; readonly device?: string } {
  const [gateway = '', device] = hop.split('%', 2);
  return { gateway: gateway as Ip, ...(device === undefined ? {} : { device }) };
}

/** @throws InputError naming `field`: no address, one without the device it needs, or one with a needless device */
export function parseHop(text: string, field: string): Hop {
  const [address = '', device, more] = text.split('%');
  const gateway = parseIp(address, field);
  if (device === undefined && !isLinkLocal(gateway)) return gateway;
  if (device && more === undefined && isLinkLocal(gateway)) return scopedHop(gateway, device);
  throw new InputError(field, text, 'an address, with %device after a link-local one only');
}

/** Order of the hops of a route: by address, then by device. */
export function compareHops(a: Hop, b: Hop): number {
  const [x, y] = [hopParts(a), hopParts(b)];
  const [left, right] = [x.device ?? '', y.device ?? ''];
  return compareIp(x.gateway, y.gateway) || (left < right ? -1 : left > right ? 1 : 0);
}

export type FeedMessage =
  | { readonly type: 'hello'; readonly version: number }
  /** Best path of a prefix, with every equal-cost next hop, sorted. Replaces what was said of the prefix. */
  | {
      readonly type: 'route';
      readonly prefix: Cidr;
      readonly nextHops: readonly Hop[];
      readonly source: 'ebgp' | 'ibgp';
    }
  | { readonly type: 'withdraw'; readonly prefix: Cidr }
  | { readonly type: 'endOfSnapshot' };
