import type { Writer } from '../../base/bytes.ts';
import { type ErrorCodeName, errorCodes, subcodes, type WireError } from './errors.ts';

/** NOTIFICATION. RFC 4271 §4.5. */
export interface Notification {
  readonly code: number;
  readonly subcode: number;
  readonly data: Uint8Array;
}

/** Body of a NOTIFICATION; the framing has checked that code and subcode are there. */
export function readNotification(body: Uint8Array): Notification {
  return { code: body[0] ?? 0, subcode: body[1] ?? 0, data: body.slice(2) };
}

/** Body of a NOTIFICATION. RFC 4271 §4.5. */
export function writeNotification(w: Writer, { code, subcode, data }: Notification): void {
  w.u8(code);
  w.u8(subcode);
  w.bytes(data);
}

/** What tells the peer of an error in its bytes. */
export function notificationOf(error: WireError): Notification {
  return { code: errorCodes[error.code], subcode: error.subcode, data: error.data };
}

/** @param communication for the peer's operator, at most 255 octets of UTF-8. RFC 9003 §2 */
export function cease(reason: keyof typeof subcodes.cease, communication = ''): Notification {
  const text = new TextEncoder().encode(communication);
  if (text.length > 255) throw new RangeError(`a communication of ${text.length} octets`);
  const data = text.length === 0 ? text : Uint8Array.of(text.length, ...text);
  return { code: errorCodes.cease, subcode: subcodes.cease[reason], data };
}

/**
 * Ends a session for good where the peer would take any other NOTIFICATION as the start of a graceful restart: when we
 * take our routes back, or no longer want the peer's. Code, subcode and data are wrapped. RFC 8538 §3.1.
 */
export function hardened(notification: Notification): Notification {
  const { code, subcode, data } = notification;
  if (code !== errorCodes.cease || !finalReasons.has(subcode)) return notification;
  return { code, subcode: subcodes.cease.hardReset, data: Uint8Array.of(code, subcode, ...data) };
}

const finalReasons: ReadonlySet<number> = new Set([
  subcodes.cease.maxPrefixes,
  subcodes.cease.shutdown,
  subcodes.cease.deconfigured,
]);

function isHardReset(code: number | undefined, subcode: number | undefined): boolean {
  return code === errorCodes.cease && subcode === subcodes.cease.hardReset;
}

/** The session is over for good, not only until a graceful restart. */
export function isFinal({ code, subcode }: Notification): boolean {
  return isHardReset(code, subcode) || (code === errorCodes.cease && finalReasons.has(subcode));
}

const codeNames: ReadonlyMap<number, ErrorCodeName> = new Map(
  (Object.keys(errorCodes) as ErrorCodeName[]).map((name) => [errorCodes[name], name]),
);

/** `cease/shutdown "maintenance"`: code, subcode, and the operator's text of RFC 9003, made safe to print. */
export function describeNotification({ code, subcode, data }: Notification): string {
  const name = codeNames.get(code);
  const names: Readonly<Record<string, number>> = name === undefined ? {} : subcodes[name];
  const detail = Object.entries(names).find(([, value]) => value === subcode)?.[0] ?? String(subcode);
  // One level only: what is wrapped is a stranger's, and could wrap again without end.
  if (isHardReset(code, subcode) && data.length >= 2 && !isHardReset(data[0], data[1])) {
    return `cease/hardReset (6/9): ${describeNotification(readNotification(data))}`;
  }
  const text = name === 'cease' && (subcode === 2 || subcode === 4) ? shutdownText(data) : '';
  return `${name ?? code}/${detail} (${code}/${subcode})${text ? ` "${text}"` : ''}`;
}

/** RFC 9003 §2: a length, then UTF-8; control characters and what does not decode are replaced. */
function shutdownText(data: Uint8Array): string {
  const length = Math.min(data[0] ?? 0, data.length - 1, 255);
  if (length <= 0) return '';
  return new TextDecoder().decode(data.subarray(1, 1 + length)).replace(/\p{C}/gu, '\ufffd');
}
