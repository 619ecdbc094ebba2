import { type ClientRequest, request as httpRequest, type IncomingMessage } from 'node:http';
import { request as httpsRequest } from 'node:https';
import { type Clock, pause } from '../../base/clock.ts';
import { errorCode } from '../../base/errors.ts';
import type { Log } from '../../base/log.ts';
import { GoneError, StoreUnavailableError } from '../store.ts';
import type { Access, Credentials } from './credentials.ts';
import { type Answer, failureOf } from './status.ts';

export type Method = 'GET' | 'POST' | 'PUT' | 'PATCH' | 'DELETE';
export type Query = Readonly<Record<string, string | number | boolean | undefined>>;

export interface Call {
  readonly method: Method;
  readonly path: string;
  readonly query?: Query;
  readonly body?: { readonly type: string; readonly text: string };
  /** Milliseconds until there must be an answer, waits that the server asks for included. */
  readonly withinMs: number;
}

/** An answer longer than this is refused; the largest are chunks of lists. */
const longestAnswer = 256 * 1024 * 1024;

/** HTTP/1.1 requests to the API server: credentials, deadlines, and the waits that the server asks for. */
export class ApiServer {
  readonly #closed = new AbortController();

  constructor(
    private readonly credentials: Credentials,
    private readonly clock: Clock,
    private readonly log: Log,
  ) {}

  /**
   * One request, repeated after 401 with fresh credentials, and after 429 or 503 when the server says when and there is
   * time left.
   * @throws StoreUnavailableError when there is no answer in time; EnvironmentError without usable credentials
   */
  async call(call: Call): Promise<Answer> {
    // The first time, a library may have to be loaded, which is no matter of the server's.
    await this.credentials.access();
    const end = this.clock.monotonic() + call.withinMs;
    for (let renewed = false; ; ) {
      const left = end - this.clock.monotonic();
      const answer = await this.#once(call, Math.max(1, left));
      if (answer.status === 401 && !renewed) {
        renewed = true;
        this.credentials.expire();
        continue;
      }
      const waitMs = waitOf(answer);
      if (waitMs === undefined || this.clock.monotonic() + waitMs >= end) return answer;
      this.log.info({ path: call.path, status: answer.status, waitMs }, 'the Kubernetes API asks to wait');
      await pause(this.clock, waitMs, this.#closed.signal);
    }
  }

  /**
   * A request whose answer goes on: the text as it arrives, until the server ends it or the signal aborts.
   * @throws StoreUnavailableError, GoneError
   */
  async *stream(path: string, query: Query, withinMs: number, signal: AbortSignal): AsyncGenerator<string, void> {
    const all = AbortSignal.any([signal, this.#closed.signal]);
    const { request, response } = await this.#open({ method: 'GET', path, query, withinMs }, withinMs, all);
    try {
      response.setEncoding('utf8');
      if (response.statusCode !== 200) {
        const answer = await collected(response);
        if (answer.status === 401) this.credentials.expire();
        throw failureOf(`watch ${path}`, answer);
      }
      for await (const chunk of response) yield chunk as string;
    } catch (thrown) {
      if (signal.aborted) return;
      throw unavailable(`watch ${path}`, thrown);
    } finally {
      request.destroy();
    }
  }

  close(): void {
    this.#closed.abort();
    this.credentials.close();
  }

  async #once(call: Call, withinMs: number): Promise<Answer> {
    const what = `${call.method} ${call.path}`;
    const timeout = AbortSignal.any([AbortSignal.timeout(Math.ceil(withinMs)), this.#closed.signal]);
    const { request, response } = await this.#open(call, withinMs, timeout);
    try {
      response.setEncoding('utf8');
      return await collected(response);
    } catch (thrown) {
      throw unavailable(what, thrown);
    } finally {
      if (!response.complete) request.destroy();
    }
  }

  /** Sends the request and waits for the head of the answer. */
  async #open(call: Call, withinMs: number, signal: AbortSignal) {
    const what = `${call.method} ${call.path}`;
    if (signal.aborted) throw new StoreUnavailableError(`${what}: closed`);
    const access = await this.credentials.access();
    const began = this.clock.monotonic();
    return new Promise<{ request: ClientRequest; response: IncomingMessage }>((resolve, reject) => {
      const request = send(access, call, signal);
      const cancel = this.clock.after(Math.max(1, withinMs), () =>
        request.destroy(new Error(`no answer within ${Math.round(this.clock.monotonic() - began)} ms`)),
      );
      request.once('response', (response) => {
        cancel();
        resolve({ request, response });
      });
      request.once('error', (cause) => {
        cancel();
        // The server closed a connection just as it was taken up again; a read may be repeated, a write may have happened.
        if (request.reusedSocket && call.method === 'GET' && errorCode(cause) === 'ECONNRESET')
          return resolve(this.#open(call, withinMs, signal));
        reject(unavailable(`${what} at ${access.server.host}`, cause));
      });
      request.end(call.body?.text);
    });
  }
}

function send({ server, headers, agent }: Access, { method, path, query, body }: Call, signal: AbortSignal) {
  const request = server.protocol === 'http:' ? httpRequest : httpsRequest;
  const options = {
    host: server.hostname.replace(/^\[|\]$/g, ''),
    port: server.port || (server.protocol === 'http:' ? 80 : 443),
    path: `${server.pathname.replace(/\/$/, '')}${path}${formatQuery(query)}`,
    method,
    agent,
    signal,
    headers: {
      ...headers,
      Accept: 'application/json',
      'User-Agent': 'margay',
      ...(body && { 'Content-Type': body.type, 'Content-Length': Buffer.byteLength(body.text) }),
    },
  };
  const sent = request(options);
  // A peer that vanished without a word is found out within half a minute, also under a silent watch.
  sent.once('socket', (socket) => socket.setKeepAlive(true, 15_000));
  return sent;
}

function formatQuery(query: Query = {}): string {
  const parts = Object.entries(query).flatMap(([name, value]) =>
    value === undefined ? [] : [`${name}=${encodeURIComponent(String(value))}`],
  );
  return parts.length === 0 ? '' : `?${parts.join('&')}`;
}

async function collected(response: IncomingMessage): Promise<Answer> {
  const chunks: string[] = [];
  let size = 0;
  for await (const chunk of response) {
    chunks.push(chunk as string);
    size += (chunk as string).length;
    if (size > longestAnswer) throw new Error(`an answer of more than ${longestAnswer} characters`);
  }
  const retryAfter = Number(response.headers['retry-after'] ?? Number.NaN);
  const text = chunks.join('');
  return { status: response.statusCode ?? 0, text, ...(Number.isFinite(retryAfter) && { retryAfter }) };
}

/** Milliseconds after which the server wants to be asked again. */
function waitOf({ status, retryAfter }: Answer): number | undefined {
  if (status !== 429 && status !== 503) return undefined;
  return retryAfter === undefined ? undefined : Math.max(50, retryAfter * 1000);
}

function unavailable(what: string, cause: unknown): Error {
  if (cause instanceof StoreUnavailableError || cause instanceof GoneError) return cause;
  return new StoreUnavailableError(`${what}: the Kubernetes API does not answer`, { cause });
}
