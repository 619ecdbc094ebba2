import type { BmpDown } from './bmp/messages.ts';
import type { Ending } from './fsm.ts';
import type { Negotiated } from './negotiate.ts';
import { errorCodes, subcodes } from './wire/errors.ts';
import { writeMessage } from './wire/message.ts';
import { isFinal, type Notification } from './wire/notification.ts';

/* What the end of a session means. */

/** The peer's routes outlive the session: TCP was lost, or both sides restart gracefully after errors too. RFC 8538 §4. */
export function isGraceful({ by, notification }: Ending, negotiated: Negotiated | undefined): boolean {
  if (by === 'tcp') return true;
  return negotiated?.restart?.notification === true && notification !== undefined && !isFinal(notification);
}

/** Cease 6/1: more prefixes than are allowed. RFC 4486 §3. */
export function isPrefixLimit({ code, subcode }: Notification): boolean {
  return code === errorCodes.cease && subcode === subcodes.cease.maxPrefixes;
}

/** The connection gave way to another of the same two speakers. RFC 4271 §6.8. */
export function isCollision({ code, subcode }: Notification): boolean {
  return code === errorCodes.cease && subcode === subcodes.cease.collision;
}

/** The ending as BMP's Peer Down tells it: by whom, with the NOTIFICATION if one was sent. RFC 7854 §4.9. */
export function downOf({ by, notification }: Ending): BmpDown {
  const message = notification && writeMessage({ type: 'notification', notification });
  return { by: by === 'us' ? 'us' : 'peer', ...(message ? { notification: message } : {}) };
}
