import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { InputError } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import { type Cidr, parseCidr, parseIp } from '../model/address.ts';
import type { Peer, Reset } from './peer.ts';
import { listenUnix } from './socket.ts';
import type { Speaker } from './speaker.ts';
import { type ListFormat, sendList, sendOctets } from './streaming.ts';
import { advertisedOf, covering, dumpOf, explanationOf, receivedOf, routeOf, routesOf, statusOf } from './views.ts';

export type { PathStatus, RouteStatus } from './views.ts';

/** Octets of a request's body. */
const maxBody = 4096;
/** Octets that fit a shutdown communication. RFC 9003 §2. */
const maxCommunication = 255;

/** A request that is wrong in itself, with the status that says how. */
class RequestError extends Error {
  override readonly name = 'RequestError';
  constructor(
    readonly status: number,
    message: string,
  ) {
    super(message);
  }
}

interface Call {
  readonly request: IncomingMessage;
  readonly response: ServerResponse;
  readonly url: URL;
}

/**
 * HTTP and JSON on a unix socket. `GET /v1/status`, `/v1/peers[/NAME[/received|/advertised]]`, `/v1/routes[?prefix=…]`,
 * `/v1/why?prefix=…`, `/v1/dump` (MRT); `POST /v1/peers/NAME/reset`. Lists take `?limit=` and, with `accept: application/x-ndjson`, come
 * an item a line.
 */
export class Control {
  readonly #server: Server;

  constructor(
    private readonly speaker: Speaker,
    private readonly log: Log,
  ) {
    this.#server = createServer(
      { requestTimeout: 10_000 },
      (request, response) => void this.#answer(request, response),
    );
  }

  /** @throws EnvironmentError when another process serves the socket */
  async listen(path: string): Promise<void> {
    await listenUnix(this.#server, path, this.log);
  }

  close(): void {
    this.#server.close();
    this.#server.closeAllConnections();
  }

  async #answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    response.on('error', (cause) => this.log.debug({ cause }, 'control client failed'));
    try {
      const text = request.url ?? '';
      if (!URL.canParse(text, 'http://localhost')) throw new RequestError(400, `${text}: no path`);
      const call = { request, response, url: new URL(text, 'http://localhost') };
      if (request.method === 'GET') await this.#get(call);
      else if (request.method === 'POST') await this.#post(call);
      else throw new RequestError(405, `${request.method}: only GET and POST are served`);
    } catch (thrown) {
      this.#fail(response, thrown);
    }
  }

  #fail(response: ServerResponse, thrown: unknown): void {
    const status = thrown instanceof RequestError ? thrown.status : thrown instanceof InputError ? 400 : 500;
    if (status === 500) this.log.error({ err: thrown }, 'control request failed');
    if (response.headersSent) response.destroy();
    else reply(response, status, { error: thrown instanceof Error ? thrown.message : String(thrown) });
  }

  async #get(call: Call): Promise<void> {
    const { response, url } = call;
    const { speaker } = this;
    const [version, view, name, list, ...rest] = url.pathname.slice(1).split('/');
    if (version !== 'v1' || rest.length > 0) throw unknownPath(url);
    if (view === 'peers' && name !== undefined) return this.#getPeer(call, this.#peer(name), list);
    if (name !== undefined) throw unknownPath(url);
    switch (view) {
      case 'status':
        return reply(response, 200, statusOf(speaker));
      case 'peers':
        return reply(response, 200, { peers: speaker.peers() });
      case 'dump':
        return sendOctets(response, dumpOf(speaker, new Date()));
      case 'why':
        return reply(response, 200, explanationOf(speaker, this.#prefix(url)));
      case 'routes': {
        const routes = url.searchParams.has('prefix')
          ? routeOf(speaker, this.#prefix(url)).values()
          : routesOf(speaker);
        return sendList(response, { name: 'routes', format: formatOf(call), limit: limitOf(url) }, routes);
      }
      default:
        throw unknownPath(url);
    }
  }

  async #getPeer(call: Call, peer: Peer, list: string | undefined): Promise<void> {
    const { response, url } = call;
    const { speaker } = this;
    const options = { name: 'routes', format: formatOf(call), limit: limitOf(url) };
    switch (list) {
      case undefined:
        return reply(response, 200, peer.status());
      case 'received':
        return sendList(response, options, receivedOf(speaker, peer.received(), peer.rejections.values()));
      case 'advertised':
        return sendList(response, options, advertisedOf(Object.values(speaker.tables), peer.source));
      default:
        throw unknownPath(url);
    }
  }

  async #post({ request, response, url }: Call): Promise<void> {
    const [version, view, name = '', action, ...rest] = url.pathname.slice(1).split('/');
    if (version !== 'v1' || view !== 'peers' || action !== 'reset' || rest.length > 0)
      throw new RequestError(405, `POST ${url.pathname}: expected /v1/peers/NAME/reset`);
    const peer = this.#peer(name);
    const reset = parseReset(await bodyOf(request));
    this.log.info({ peer: peer.name, ...reset }, 'reset asked for by an operator');
    reply(response, 200, peer.reset(reset));
  }

  #peer(segment: string): Peer {
    const name = decodeSegment(segment);
    const peer = this.speaker.peer(name);
    if (!peer) throw new RequestError(404, `no peer ${JSON.stringify(name)}; /v1/peers lists them`);
    return peer;
  }

  /** `?prefix=`: a prefix as it is, or an address: the longest prefix that covers it. */
  #prefix({ searchParams }: URL): Cidr {
    const text = searchParams.get('prefix') ?? undefined;
    if (text === undefined) throw new InputError('prefix', undefined, 'an address or a prefix');
    if (text.includes('/')) return parseCidr(text, 'prefix');
    const address = parseIp(text, 'prefix');
    return covering(this.speaker, address) ?? parseCidr(text, 'prefix');
  }
}

function unknownPath({ pathname }: URL): RequestError {
  return new RequestError(
    404,
    `${pathname}: expected /v1/status, /v1/peers[/NAME[/received|/advertised]], /v1/routes, /v1/why or /v1/dump`,
  );
}

function formatOf({ request }: Call): ListFormat {
  return request.headers.accept?.includes('application/x-ndjson') ? 'ndjson' : 'json';
}

/** `?limit=`: items of a list; 0 or absent: all. */
function limitOf({ searchParams }: URL): number {
  const text = searchParams.get('limit') ?? '0';
  if (!/^\d{1,9}$/.test(text)) throw new InputError('limit', text, 'a number of items, 0 for all');
  return Number(text) || Number.POSITIVE_INFINITY;
}

function decodeSegment(segment: string): string {
  try {
    return decodeURIComponent(segment);
  } catch (cause) {
    if (!(cause instanceof URIError)) throw cause;
    throw new RequestError(400, `${segment}: not a percent-encoded name`);
  }
}

/** The body of `reset`: `{"soft": boolean, "message": text}`, both optional. */
function parseReset(text: string): Reset {
  let body: unknown;
  try {
    body = text === '' ? {} : JSON.parse(text);
  } catch (cause) {
    throw new InputError('body', text, 'JSON', { cause });
  }
  if (typeof body !== 'object' || body === null) throw new InputError('body', body, 'an object');
  const { soft = false, message, ...rest } = body as Readonly<Record<string, unknown>>;
  const [unknown] = Object.keys(rest);
  if (unknown !== undefined) throw new InputError(unknown, rest[unknown], 'only soft and message');
  if (typeof soft !== 'boolean') throw new InputError('soft', soft, 'true or false');
  if (message === undefined) return { soft };
  if (typeof message !== 'string' || Buffer.byteLength(message) > maxCommunication)
    throw new InputError('message', message, `text of at most ${maxCommunication} octets (RFC 9003)`);
  if (soft) throw new InputError('message', message, 'none with a soft reset, which ends no session');
  return { soft, message };
}

async function bodyOf(request: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = [];
  let size = 0;
  for await (const chunk of request as AsyncIterable<Buffer>) {
    size += chunk.length;
    if (size > maxBody) throw new RequestError(413, `a body of more than ${maxBody} octets`);
    chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString('utf8');
}

function reply(response: ServerResponse, status: number, body: unknown): void {
  response.writeHead(status, { 'content-type': 'application/json' });
  response.end(`${JSON.stringify(body)}\n`);
}
