import { accessSync, chmodSync, constants, mkdirSync, rmSync } from 'node:fs';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { createConnection } from 'node:net';
import { pipeline, Readable } from 'node:stream';
import { EnvironmentError, errorCode, explain, InputError } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import { closed, urlOf } from '../base/serve.ts';
import type { FelixStatus } from './status.ts';

/** Answers a GET with a value for JSON, or a promise of it, or `Streamed`. @throws InputError for a bad parameter */
export type View = (query: URLSearchParams) => unknown;

const unusable = 'run as root, or set MARGAY_RUN_DIR to a folder that can be written';

/** An answer that a view writes itself. */
export class Streamed {
  constructor(readonly to: (response: ServerResponse) => void) {}
}

/** JSON that is made in pieces, each in a turn of its own and only when the one before is on its way. */
export function inPieces(pieces: Iterable<string>, log: Log): Streamed {
  return new Streamed((response) => {
    response.writeHead(200, { 'content-type': 'application/json' });
    pipeline(Readable.from(pieces, { highWaterMark: 1 }), response, (error) => {
      if (error) log.debug({ error: error.message }, 'an answer over the control socket was not read to its end');
    });
  });
}

/**
 * Serves `GET /v1/status`, `/v1/endpoints` and `more` (`POST /path`: by that method) as JSON on `felix.sock`, for this node's root only. The
 * socket is also what keeps a second felix off the node.
 * @throws EnvironmentError when a live process serves the socket, or the folder cannot be used
 */
export async function serveControl(
  runDir: string,
  status: () => FelixStatus,
  log: Log,
  more: Readonly<Record<string, View>> = {},
): Promise<{ close(): Promise<void> }> {
  const path = await claimRunDir(runDir);
  rmSync(path, { force: true });
  const server = createServer((request, response) => void answer(request, response, status, more, log));
  server.requestTimeout = 5_000;
  server.maxConnections = 64;
  await listen(server, path);
  chmodSync(path, 0o600);
  server.on('error', (error) => log.error({ path, error: error.message }, 'control socket failed'));
  return { close: () => closed(server) };
}

/**
 * Makes the folder of the sockets; to be called before any of them is made, so that a felix that runs keeps its own.
 * @returns where the control socket belongs
 * @throws EnvironmentError when a live process serves it, or the folder cannot be used
 */
export async function claimRunDir(runDir: string): Promise<string> {
  const path = `${runDir}/felix.sock`;
  try {
    mkdirSync(runDir, { recursive: true, mode: 0o755 });
    accessSync(runDir, constants.W_OK);
  } catch (cause) {
    throw new EnvironmentError(`cannot use the folder ${runDir}`, unusable, { cause });
  }
  if (!(await isServed(path))) return path;
  throw new EnvironmentError(
    `another felix already serves ${path}`,
    'stop it first, or give this one its own MARGAY_RUN_DIR',
  );
}

async function answer(
  request: IncomingMessage,
  response: ServerResponse,
  status: () => FelixStatus,
  more: Readonly<Record<string, View>>,
  log: Log,
): Promise<void> {
  const views: Readonly<Record<string, View>> = {
    '/v1/status': status,
    '/v1/endpoints': () => status().endpoints,
    ...more,
  };
  const { pathname: path, searchParams } = urlOf(request) ?? {
    pathname: String(request.url),
    searchParams: new URLSearchParams(),
  };
  const { method = 'GET' } = request;
  const viewOf = (name: string) => (Object.hasOwn(views, name) ? views[name] : undefined);
  const [getting, posting] = [viewOf(path), viewOf(`POST ${path}`)];
  const view = method === 'GET' ? getting : method === 'POST' ? posting : undefined;
  if (view) await show(response, view, searchParams, log);
  else if (getting ?? posting) send(response, 405, { error: `${method}: expected ${getting ? 'GET' : 'POST'}` });
  else send(response, 404, { error: `${path}: expected one of ${Object.keys(views).join(', ')}` });
}

async function show(response: ServerResponse, view: View, query: URLSearchParams, log: Log): Promise<void> {
  try {
    const found = await view(query);
    if (found instanceof Streamed) found.to(response);
    else send(response, 200, found);
  } catch (thrown) {
    const refused = thrown instanceof InputError;
    if (!refused && !(thrown instanceof EnvironmentError))
      log.error({ error: explain(thrown) }, 'a question over the control socket failed');
    if (response.headersSent) response.destroy();
    else send(response, refused ? 400 : 500, { error: explain(thrown) });
  }
}

function send(response: ServerResponse, code: number, body: unknown): void {
  response.writeHead(code, { 'content-type': 'application/json' });
  response.end(`${JSON.stringify(body)}\n`);
}

/** Whether a process accepts connections on the socket. @throws EnvironmentError when that cannot be told */
export function isServed(path: string): Promise<boolean> {
  return new Promise((resolve, reject) => {
    const socket = createConnection(path);
    socket.on('connect', () => {
      socket.destroy();
      resolve(true);
    });
    socket.on('error', (error) => {
      const code = errorCode(error);
      if (code === 'ENOENT' || code === 'ECONNREFUSED' || code === 'ENOTSOCK') resolve(false);
      else reject(new EnvironmentError(`cannot use ${path}`, unusable, { cause: error }));
    });
  });
}

function listen(server: Server, path: string): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', (cause) =>
      reject(
        new EnvironmentError(
          `cannot listen on ${path}`,
          'set MARGAY_RUN_DIR to a folder that can be written, and has room',
          {
            cause,
          },
        ),
      ),
    );
    server.listen(path, resolve);
  });
}
