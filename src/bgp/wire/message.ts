import { Reader } from '../../base/bytes.ts';
import type { Family } from '../../model/address.ts';
import { afiOf, familyOfAfi, unicast } from './capabilities.ts';
import { subcodes, WireError } from './errors.ts';
import { type MessageType, writeFrame } from './framing.ts';
import { type Notification, writeNotification } from './notification.ts';
import { type Open, writeOpen } from './open.ts';

/** Messages that a session sends besides UPDATE, which goes out as encoded buffers. */
export type Message =
  | { readonly type: 'open'; readonly open: Open }
  | { readonly type: 'keepalive' }
  | { readonly type: 'notification'; readonly notification: Notification }
  | { readonly type: 'refresh'; readonly family: Family; readonly subtype?: RefreshSubtype };

/** What a ROUTE-REFRESH says: tell your routes; those I tell begin here; they end here. RFC 7313 §3.2. */
export type RefreshSubtype = 'request' | 'begin' | 'end';

const subtypes: readonly RefreshSubtype[] = ['request', 'begin', 'end'];

export type { MessageType };

/** A whole message with its header. RFC 4271 §4.1. */
export function writeMessage(message: Message): Uint8Array {
  switch (message.type) {
    case 'open':
      return writeFrame('open', (w) => writeOpen(w, message.open));
    case 'keepalive':
      return writeFrame('keepalive', () => undefined);
    case 'notification':
      return writeFrame('notification', (w) => writeNotification(w, message.notification));
    case 'refresh':
      return writeFrame('refresh', (w) => {
        w.u16(afiOf(message.family));
        w.u8(subtypes.indexOf(message.subtype ?? 'request'));
        w.u8(unicast);
      });
  }
}

/**
 * Body of a ROUTE-REFRESH, or undefined for a family or subtype that we do not know, which is ignored.
 * RFC 2918 §3; a length other than four is an error of RFC 7313 §5.
 * @throws WireError 7/1
 */
export function readRefresh(body: Uint8Array): { family: Family; subtype: RefreshSubtype } | undefined {
  if (body.length !== 4) {
    throw new WireError(
      'refresh',
      subcodes.refresh.badLength,
      'reset',
      'refresh.length',
      `${body.length}`,
      body.slice(),
    );
  }
  const r = new Reader(body);
  const afi = r.u16('refresh.afi');
  const subtype = subtypes[r.u8('refresh.subtype')];
  const safi = r.u8('refresh.safi');
  const family = familyOfAfi(afi);
  return safi === unicast && subtype && family ? { family, subtype } : undefined;
}
