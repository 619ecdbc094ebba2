import { Writer } from '../../base/bytes.ts';
import { subcodes, WireError } from './errors.ts';

/** Message types. RFC 4271 §4.1, RFC 2918. */
export const messageTypes = { open: 1, update: 2, notification: 3, keepalive: 4, refresh: 5 } as const;
export type MessageType = keyof typeof messageTypes;

/** Octets of the fixed header: marker, length, type. */
export const headerLength = 19;
/** Largest message without RFC 8654. */
export const maxMessageLength = 4096;
/** Largest message with RFC 8654; OPEN and KEEPALIVE stay as they are. */
export const maxExtendedLength = 65535;

/** By type code: smallest and largest total length. RFC 4271 §6.1; absent: as large as the session allows. */
const bounds: readonly ({ readonly name: MessageType; readonly least: number; readonly most?: number } | undefined)[] =
  [
    undefined,
    { name: 'open', least: 29, most: maxMessageLength },
    { name: 'update', least: 23 },
    { name: 'notification', least: 21 },
    { name: 'keepalive', least: 19, most: 19 },
    { name: 'refresh', least: 19 },
  ];

/** One message cut out of the stream: its type, its body, and the octets it took from the stream. */
export interface Frame {
  readonly type: MessageType;
  /** A view into the stream's buffer. */
  readonly body: Uint8Array;
  readonly length: number;
}

/**
 * The first message in `stream` from `at`, or undefined while it is incomplete. The header is judged as soon as its
 * 19 octets are there, before the body.
 * @param most octets of a message: more once both sides allow extended messages
 * @param end of what has come
 * @throws WireError 1/1, 1/2 (data: the length field) or 1/3 (data: the type field)
 */
export function readFrame(
  stream: Uint8Array,
  at = 0,
  most: number = maxMessageLength,
  end: number = stream.length,
): Frame | undefined {
  const available = end - at;
  const marked = Math.min(16, available);
  for (let i = 0; i < marked; i++) {
    if (stream[at + i] !== 0xff) {
      throw new WireError('header', subcodes.header.notSynchronized, 'reset', 'header.marker', `octet ${i} is not 255`);
    }
  }
  if (available < headerLength) return undefined;
  const length = ((stream[at + 16] ?? 0) << 8) | (stream[at + 17] ?? 0);
  if (length < headerLength || length > most) throw badLength(stream, at, `${length}`);
  const code = stream[at + 18] ?? 0;
  const kind = bounds[code];
  if (!kind) {
    throw new WireError('header', subcodes.header.badType, 'reset', 'header.type', `${code}`, Uint8Array.of(code));
  }
  if (length < kind.least || length > (kind.most ?? most)) {
    throw badLength(stream, at, `${length} for ${kind.name}`);
  }
  if (available < length) return undefined;
  return { type: kind.name, body: stream.subarray(at + headerLength, at + length), length };
}

function badLength(stream: Uint8Array, at: number, detail: string): WireError {
  const field = stream.slice(at + 16, at + 18);
  return new WireError('header', subcodes.header.badLength, 'reset', 'header.length', detail, field);
}

/** A whole message of `type`; `body` writes what follows the header. */
export function writeFrame(type: MessageType, body: (w: Writer) => void): Uint8Array {
  const w = new Writer(128);
  for (let i = 0; i < 4; i++) w.u32(0xffffffff);
  w.u16(0);
  w.u8(messageTypes[type]);
  body(w);
  w.patch16(16, w.length);
  return w.finish();
}
