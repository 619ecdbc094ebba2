import { InputError, show } from '../base/errors.ts';
import type { Answer } from './handler.ts';
import type { RawRequest } from './request.ts';

/*
 * What launcher and agent say to each other, one exchange a connection.
 * Request: 4 octets of length, big-endian, then JSON `{"env":{"CNI_COMMAND":"ADD",…},"stdin":"…","signs":true}`.
 * Answer: 4 octets of length, big-endian, then one octet of exit code and the bytes for standard output. Before it, where
 * the request asks for `signs`, lengths of 0 with nothing behind them: the agent lives and is still at work.
 */

/** A network configuration is at most 1 MiB in the launcher; escapes may lengthen it. */
export const maxRequestBytes = 2 << 20;

/** Length that a request's header announces, or undefined while the header is incomplete. @throws InputError */
export function requestLength(bytes: Uint8Array): number | undefined {
  if (bytes.length < 4) return undefined;
  const length = new DataView(bytes.buffer, bytes.byteOffset, 4).getUint32(0);
  if (length > 0 && length <= maxRequestBytes) return length;
  throw new InputError('request length', length, `1 to ${maxRequestBytes} octets`);
}

/** The body of a request. @throws InputError */
export function parseBody(body: Uint8Array): RawRequest {
  let value: unknown;
  try {
    value = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(body));
  } catch (cause) {
    throw new InputError('request', `${body.length} octets`, 'JSON in UTF-8', { cause });
  }
  const { env, stdin, signs } = (typeof value === 'object' && value !== null ? value : {}) as Record<string, unknown>;
  if (typeof stdin !== 'string') throw new InputError('request.stdin', stdin, 'text');
  if (typeof env !== 'object' || env === null) throw new InputError('request.env', env, 'an object');
  for (const [name, text] of Object.entries(env)) {
    if (typeof text !== 'string') throw new InputError(`request.env.${name}`, show(text), 'text');
  }
  return { env: env as Record<string, string>, stdin, ...(signs === true && { signs }) };
}

/** A request as the launcher sends it. */
export function writeRequest(request: RawRequest): Uint8Array {
  return framed(Buffer.from(JSON.stringify({ env: request.env, stdin: request.stdin })));
}

/** Between these a launcher waits four times as long before it takes the agent for hung. */
export const signIntervalMs = 2000;

/** A sign of life. */
export const signOfLife: Uint8Array = new Uint8Array(4);

/** An answer as the launcher reads it. */
export function writeAnswer({ exitCode, stdout }: Answer): Uint8Array {
  return framed(Buffer.concat([Uint8Array.of(exitCode), Buffer.from(stdout)]));
}

function framed(body: Uint8Array): Uint8Array {
  const out = Buffer.alloc(4 + body.length);
  out.writeUInt32BE(body.length);
  out.set(body, 4);
  return out;
}
