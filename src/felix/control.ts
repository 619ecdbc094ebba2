import { chmodSync, mkdirSync, rmSync } from 'node:fs';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { createConnection } from 'node:net';
import { EnvironmentError, errorCode } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import type { FelixStatus } from './status.ts';

/**
 * Serves `GET /v1/status`, `/v1/endpoints`, `/v1/routes` and `more` as JSON on `felix.sock`, for this node's root only. The
 * socket is also what keeps a second felix off the node.
 * @throws EnvironmentError when a live process serves the socket, or the folder cannot be used
 */
export async function serveControl(
  runDir: string,
  status: () => FelixStatus,
  log: Log,
  more: Readonly<Record<string, () => unknown>> = {},
): Promise<{ close(): Promise<void> }> {
  const path = `${runDir}/felix.sock`;
  try {
    mkdirSync(runDir, { recursive: true, mode: 0o755 });
  } catch (cause) {
    throw new EnvironmentError(`cannot make ${runDir}`, 'run as root or set MARGAY_RUN_DIR', { cause });
  }
  if (await isServed(path)) {
    throw new EnvironmentError(
      `another felix already serves ${path}`,
      'stop it first, or give this one its own MARGAY_RUN_DIR',
    );
  }
  rmSync(path, { force: true });
  const server = createServer((request, response) => answer(request, response, status, more));
  server.requestTimeout = 5_000;
  server.maxConnections = 64;
  await listen(server, path);
  chmodSync(path, 0o600);
  server.on('error', (error) => log.error({ path, error: error.message }, 'control socket failed'));
  return { close: () => closed(server) };
}

function answer(
  request: IncomingMessage,
  response: ServerResponse,
  status: () => FelixStatus,
  more: Readonly<Record<string, () => unknown>>,
): void {
  const views: Readonly<Record<string, () => unknown>> = {
    '/v1/status': status,
    '/v1/endpoints': () => status().endpoints,
    '/v1/routes': () => status().routes,
    ...more,
  };
  const path = new URL(request.url ?? '/', 'http://felix').pathname;
  const view = Object.hasOwn(views, path) ? views[path] : undefined;
  if (!view) send(response, 404, { error: `${path}: expected one of ${Object.keys(views).join(', ')}` });
  else if (request.method !== 'GET') send(response, 405, { error: `${request.method}: expected GET` });
  else send(response, 200, view());
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
      else reject(new EnvironmentError(`cannot use ${path}`, 'run as root or set MARGAY_RUN_DIR', { cause: error }));
    });
  });
}

function listen(server: Server, path: string): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', (cause) =>
      reject(
        new EnvironmentError(`cannot listen on ${path}`, 'set MARGAY_RUN_DIR to a folder that can be written', {
          cause,
        }),
      ),
    );
    server.listen(path, resolve);
  });
}

/** Also removes the socket's file, which Node does when it closes. */
function closed(server: Server): Promise<void> {
  return new Promise((resolve) => {
    server.close(() => resolve());
    server.closeAllConnections();
  });
}
