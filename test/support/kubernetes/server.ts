import { once } from 'node:events';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { createServer as createTlsServer } from 'node:https';
import type { AddressInfo, Socket } from 'node:net';
import { formatJson, parseJson } from '../../../src/datastore/json.ts';
import { GoneError } from '../../../src/datastore/store.ts';
import { builtIn, calicoResources, idOf, Refusal, type TestObject, type TestResource } from './objects.ts';
import { allowed, type Rule } from './rbac.ts';
import { answer, discovery, type Target, type TestRequest, targetOf } from './routes.ts';
import { fieldMatcher, labelMatcher } from './selectors.ts';
import { Storage } from './storage.ts';

/** What to do with a request instead of answering it, or after it was carried out. */
export type Fault =
  | { readonly status: number; readonly reason?: string; readonly retryAfter?: number }
  /** `cut`: the connection breaks before; `lose`: after it was carried out; `hang`: there is never an answer. */
  | 'cut'
  | 'lose'
  | 'hang';

export interface ApiOptions {
  readonly host?: string;
  /** Listens on a unix socket instead, which is reached from every network namespace. */
  readonly socketPath?: string;
  readonly tls?: { readonly key: string; readonly cert: string };
  /** Resources beside the built-in ones; by default Calico's definitions. */
  readonly resources?: readonly TestResource[];
  /** Milliseconds between two bookmarks of a watch; default 200. */
  readonly bookmarkMs?: number;
}

/**
 * An API server in this process that behaves like the real one where the driver can tell: resourceVersions, conflicts,
 * chunked lists, watches with bookmarks, expiry, admission of namespaces and names, `/status`, discovery.
 */
export class TestApiServer {
  readonly storage = new Storage();
  readonly resources = new Map<string, TestResource>();
  /** Every request that arrived, `GET /api/v1/pods?watch=true`. */
  readonly requests: string[] = [];
  /** Tokens that are let in; undefined lets in everybody. */
  tokens: Set<string> | undefined;
  /** What those who are let in may do; undefined: everything. */
  rules: readonly Rule[] | undefined;
  #faults: { readonly when: (line: string) => boolean; readonly fault: Fault; times: number }[] = [];
  #server: Server | undefined;
  #port = 0;
  #stopping = new AbortController();
  readonly #sockets = new Set<Socket>();

  constructor(private readonly options: ApiOptions = {}) {
    for (const each of [...builtIn, ...(options.resources ?? calicoResources)]) this.resources.set(idOf(each), each);
  }

  /** `http://127.0.0.1:1234` */
  get url(): string {
    const { host = '127.0.0.1', tls } = this.options;
    return `${tls ? 'https' : 'http'}://${host}:${this.#port}`;
  }

  async start(): Promise<this> {
    const { host = '127.0.0.1', socketPath, tls } = this.options;
    this.#stopping = new AbortController();
    const handle = (request: IncomingMessage, response: ServerResponse) => void this.#handle(request, response);
    const server = tls ? createTlsServer(tls, handle) : createServer(handle);
    server.on('connection', (socket: Socket) => {
      this.#sockets.add(socket);
      socket.once('close', () => this.#sockets.delete(socket));
    });
    if (socketPath === undefined) server.listen(this.#port, host);
    else server.listen(socketPath);
    await once(server, 'listening');
    if (socketPath === undefined) this.#port = (server.address() as AddressInfo).port;
    this.#server = server;
    for (const name of ['default', 'kube-system'])
      if (
        (await this.storage.list(this.resource('namespaces'), '')).entries.every(
          ({ object }) => object.metadata.name !== name,
        )
      )
        await this.create('namespaces', { metadata: { name } });
    return this;
  }

  /** Ends it as a crash would; what is stored stays for the next start. */
  async stop(): Promise<void> {
    this.#stopping.abort();
    const server = this.#server;
    this.#server = undefined;
    this.cut();
    if (server) await new Promise((done) => server.close(done));
  }

  async restart(): Promise<void> {
    await this.stop();
    await this.start();
  }

  /** Breaks all connections. */
  cut(): void {
    for (const socket of this.#sockets) socket.destroy();
  }

  /** Lets requests fail whose line contains the text; the result ends it. */
  fault(text: string | RegExp, fault: Fault, times = Number.POSITIVE_INFINITY): () => void {
    const when = (line: string) => (typeof text === 'string' ? line.includes(text) : text.test(line));
    const entry = { when, fault, times };
    this.#faults.push(entry);
    return () => {
      this.#faults = this.#faults.filter((each) => each !== entry);
    };
  }

  /** Forgets the history: older resourceVersions are expired. */
  compact(): void {
    this.storage.kv.compact();
  }

  resource(id: string): TestResource {
    const found = this.resources.get(id);
    if (!found) throw new Error(`no resource ${id}`);
    return found;
  }

  /** Creates an object as another client would, past admission. */
  create(id: string, object: TestObject): Promise<TestObject> {
    return this.storage.create(this.resource(id), object);
  }

  change(id: string, name: string, change: (object: TestObject) => TestObject, namespace = ''): Promise<TestObject> {
    return this.storage.change(this.resource(id), namespace, name, change);
  }

  async #handle(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const line = `${request.method} ${request.url}`;
    this.requests.push(line);
    const fault = this.#faultOf(line);
    try {
      if (fault === 'hang') return;
      if (fault === 'cut') return void request.socket.destroy();
      if (typeof fault === 'object') throw refusalOf(fault);
      this.#authenticate(request);
      this.#authorize(request);
      const asked = await read(request);
      if (asked.query.get('watch') === 'true' || asked.query.get('watch') === '1')
        return await this.#watch(targetOf(asked.path, this.resources.values()), asked.query, response);
      const { code, body } = await this.#answer(asked);
      if (fault === 'lose') return void request.socket.destroy();
      send(response, code, body);
    } catch (thrown) {
      const refusal =
        thrown instanceof Refusal
          ? thrown
          : new Refusal(500, 'InternalError', thrown instanceof Error ? `${thrown.stack}` : 'unknown');
      send(response, refusal.code, refusal.status, refusal.headers);
    }
  }

  async #answer(asked: TestRequest): Promise<{ code: number; body: object }> {
    const found = asked.method === 'GET' ? discovery(asked.path, [...this.resources.values()]) : undefined;
    if (found) return { code: 200, body: found };
    return answer(this.storage, targetOf(asked.path, this.resources.values()), asked);
  }

  #faultOf(line: string): Fault | undefined {
    const found = this.#faults.find(({ when, times }) => times > 0 && when(line));
    if (found) found.times--;
    return found?.fault;
  }

  #authenticate({ headers: { authorization } }: IncomingMessage): void {
    if (this.tokens && !this.tokens.has(authorization?.replace(/^Bearer /, '') ?? ''))
      throw new Refusal(401, 'Unauthorized', 'Unauthorized');
  }

  #authorize({ method = '', url = '' }: IncomingMessage): void {
    if (this.rules === undefined || allowed(this.rules, method, url)) return;
    throw new Refusal(403, 'Forbidden', `the role does not allow ${method} ${url}`);
  }

  /** Events as lines of JSON until the time is over; bookmarks say how far it is. */
  async #watch({ resource, namespace }: Target, query: URLSearchParams, response: ServerResponse): Promise<void> {
    const labels = labelMatcher(query.get('labelSelector'));
    const fields = fieldMatcher(query.get('fieldSelector'));
    const wanted = (object: TestObject) =>
      (namespace === '' || object.metadata.namespace === namespace) && labels(object) && fields(object);
    const end = new AbortController();
    response.once('close', () => end.abort());
    const signal = AbortSignal.any([end.signal, this.#stopping.signal]);
    const over = setTimeout(() => end.abort(), Number(query.get('timeoutSeconds') ?? 1800) * 1000);
    let at = query.get('resourceVersion') ?? '0';
    response.writeHead(200, { 'Content-Type': 'application/json', 'Transfer-Encoding': 'chunked' });
    response.flushHeaders();
    const tell = (type: string, object: object) => response.write(`${formatJson({ type, object })}\n`);
    const bookmark = () => {
      if (query.get('allowWatchBookmarks') === 'true')
        tell('BOOKMARK', { kind: resource.kind, metadata: { resourceVersion: at } });
    };
    const timer = setInterval(bookmark, this.options.bookmarkMs ?? 200);
    try {
      if (at === '0') {
        const { entries, revision } = await this.storage.list(resource, namespace);
        for (const { object } of entries) if (wanted(object)) tell('ADDED', object);
        at = revision;
      }
      for await (const batch of this.storage.watch(this.resources, at, signal))
        for (const change of batch) {
          at = change.revision;
          if (change.resource === idOf(resource) && wanted(change.object)) tell(change.type, change.object);
        }
      bookmark();
    } catch (thrown) {
      if (!(thrown instanceof GoneError)) throw thrown;
      tell('ERROR', new Refusal(410, 'Expired', `too old resource version: ${at}`).status);
    } finally {
      clearTimeout(over);
      clearInterval(timer);
      response.end();
    }
  }
}

function refusalOf({ status, reason = 'InternalError', retryAfter }: Exclude<Fault, string>): Refusal {
  const headers = retryAfter === undefined ? {} : { 'Retry-After': String(retryAfter) };
  return new Refusal(status, reason, `${reason} on demand`, {}, headers);
}

async function read(request: IncomingMessage): Promise<TestRequest> {
  const chunks: Buffer[] = [];
  for await (const chunk of request) chunks.push(chunk as Buffer);
  const text = Buffer.concat(chunks).toString();
  const url = new URL(request.url ?? '/', 'http://server');
  return {
    method: request.method ?? '',
    path: url.pathname,
    query: url.searchParams,
    contentType: request.headers['content-type'] ?? '',
    body: text === '' ? undefined : parseJson(text),
  };
}

function send(
  response: ServerResponse,
  code: number,
  body: object,
  headers: Readonly<Record<string, string>> = {},
): void {
  if (response.headersSent) return void response.end();
  response.writeHead(code, { 'Content-Type': 'application/json', ...headers });
  response.end(formatJson(body));
}
