import { createConnection } from 'node:net';
import { Backoff } from '../base/backoff.ts';
import { type Clock, pause } from '../base/clock.ts';
import { explain, InputError } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import { parseCidr } from '../model/address.ts';
import { type FeedMessage, feedVersion, parseHop } from '../model/feed.ts';

/** Longest line of the feed in octets; a route with 512 IPv6 next hops fits. */
const maxLine = 32_768;

export interface FeedListener {
  message(message: FeedMessage): void;
  /** The connection is gone; `reason` says why. */
  disconnected(reason: string): void;
}

/**
 * Reads `routes.sock` for as long as the signal allows, and connects again after every end. A line that is too long or
 * not a message ends the connection: what follows it could not be trusted.
 */
export async function followFeed(options: {
  readonly path: string;
  readonly listener: FeedListener;
  readonly clock: Clock;
  readonly log: Log;
  readonly signal: AbortSignal;
}): Promise<void> {
  const { path, listener, clock, log, signal } = options;
  const backoff = new Backoff(50, 2_000);
  let last: string | undefined;
  while (!signal.aborted) {
    let heard = false;
    const reason = await connection(path, signal, (message) => {
      heard = true;
      if (message.type === 'hello') log.info({ path }, 'route feed connected');
      listener.message(message);
    });
    if (signal.aborted) return;
    if (heard) backoff.reset();
    listener.disconnected(reason);
    const milliseconds = backoff.next();
    // The same failure over and over is said once; each lost connection is.
    log[heard || reason !== last ? 'warn' : 'debug'](
      { path, reason, milliseconds },
      'route feed lost; connecting again',
    );
    last = reason;
    await pause(clock, milliseconds, signal);
  }
}

/** One connection. Resolves with why it ended. */
function connection(path: string, signal: AbortSignal, onMessage: (message: FeedMessage) => void): Promise<string> {
  return new Promise((resolve) => {
    const socket = createConnection({ path, signal });
    const lines = new FeedLines(onMessage);
    const end = (reason: string) => {
      socket.destroy();
      resolve(reason);
    };
    socket.setEncoding('utf8');
    socket.on('data', (text) => {
      try {
        lines.push(String(text));
      } catch (thrown) {
        if (!(thrown instanceof InputError)) throw thrown;
        end(explain(thrown));
      }
    });
    socket.on('error', (error) => end(explain(error)));
    socket.on('close', () => end('closed by the other side'));
  });
}

/** Cuts text into lines and lines into messages; the first has to be `hello`. */
export class FeedLines {
  #rest = '';
  #greeted = false;

  constructor(private readonly onMessage: (message: FeedMessage) => void) {}

  /** @throws InputError for a line that is too long or no message */
  push(text: string): void {
    const parts = (this.#rest + text).split('\n');
    this.#rest = parts.pop() ?? '';
    for (const line of parts) this.#line(line);
    if (this.#rest.length > maxLine) throw new InputError('line', this.#rest, `at most ${maxLine} characters`);
  }

  #line(line: string): void {
    if (line.length > maxLine) throw new InputError('line', line, `at most ${maxLine} characters`);
    const message = parseFeedMessage(line);
    if (!this.#greeted && message.type !== 'hello') throw new InputError('type', message.type, '"hello" first');
    this.#greeted = true;
    this.onMessage(message);
  }
}

/** @throws InputError naming the field */
export function parseFeedMessage(line: string): FeedMessage {
  const value = parseObject(line);
  switch (value['type']) {
    case 'hello':
      if (value['version'] !== feedVersion) throw new InputError('version', value['version'], String(feedVersion));
      return { type: 'hello', version: feedVersion };
    case 'route':
      return { type: 'route', prefix: prefixOf(value), nextHops: nextHopsOf(value), source: sourceOf(value) };
    case 'withdraw':
      return { type: 'withdraw', prefix: prefixOf(value) };
    case 'endOfSnapshot':
      return { type: 'endOfSnapshot' };
    default:
      throw new InputError('type', value['type'], 'hello, route, withdraw or endOfSnapshot');
  }
}

function parseObject(line: string): Record<string, unknown> {
  let value: unknown;
  try {
    value = JSON.parse(line);
  } catch (cause) {
    throw new InputError('line', line, 'a JSON object', { cause });
  }
  if (typeof value !== 'object' || value === null) throw new InputError('line', line, 'a JSON object');
  return value as Record<string, unknown>;
}

function prefixOf({ prefix }: Record<string, unknown>) {
  if (typeof prefix !== 'string') throw new InputError('prefix', prefix, 'a prefix');
  return parseCidr(prefix, 'prefix');
}

function nextHopsOf({ nextHops }: Record<string, unknown>) {
  if (!Array.isArray(nextHops) || nextHops.length === 0)
    throw new InputError('nextHops', nextHops, 'a list of addresses');
  return nextHops.map((hop: unknown) => parseHop(typeof hop === 'string' ? hop : '', 'nextHops'));
}

function sourceOf({ source }: Record<string, unknown>): 'ebgp' | 'ibgp' {
  if (source === 'ebgp' || source === 'ibgp') return source;
  throw new InputError('source', source, 'ebgp or ibgp');
}
