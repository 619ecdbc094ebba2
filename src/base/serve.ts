import { createServer, type IncomingMessage, type RequestListener, type Server } from 'node:http';
import { EnvironmentError, explain } from './errors.ts';
import type { Log } from './log.ts';

/*
 * What each agent serves to the kubelet and to Prometheus. Whoever reaches the port may ask, so no request may end the
 * process, nor hold it.
 */

export interface Listening {
  readonly port: number;
  close(): Promise<void>;
}

export interface Place {
  /** Undefined: all addresses. */
  readonly host?: string;
  readonly port: number;
  /** What to change when the address cannot be had. */
  readonly setting: string;
}

/** @throws EnvironmentError that names the setting when the address cannot be had */
export function serve(handle: RequestListener, { host, port, setting }: Place, log: Log): Promise<Listening> {
  const server = createServer({ requestTimeout: 5000 }, handle);
  server.maxConnections = 64;
  const where = host === undefined ? `port ${port}` : `${host} port ${port}`;
  return new Promise((resolve, reject) => {
    server.once('error', (cause) =>
      reject(new EnvironmentError(`cannot listen on ${where}`, `choose another with ${setting}`, { cause })),
    );
    server.listen(port, host, () => {
      server.on('error', (cause) => log.error({ port, reason: explain(cause) }, 'a connection could not be taken'));
      const address = server.address();
      resolve({ port: typeof address === 'object' && address ? address.port : port, close: () => closed(server) });
    });
  });
}

/** Also removes the file of a unix socket, which Node does when it closes. */
export function closed(server: Server): Promise<void> {
  return new Promise((resolve) => {
    server.close(() => resolve());
    server.closeAllConnections();
  });
}

/** What is asked for; undefined for what is no path, such as `//`. */
export function urlOf({ url = '/' }: IncomingMessage): URL | undefined {
  return URL.canParse(url, 'http://localhost') ? new URL(url, 'http://localhost') : undefined;
}

/**
 * `/liveness` and `/readiness` as Calico's agents answer them: 200, or 503 with the reason.
 * @param probes the answers by path; the reason for 503, undefined for 200
 */
export function probing(probes: Readonly<Record<string, () => string | undefined>>): RequestListener {
  return (request, response) => {
    const path = urlOf(request)?.pathname ?? '';
    const probe = Object.hasOwn(probes, path) ? probes[path] : undefined;
    const problem = probe?.();
    const code = probe === undefined ? 404 : problem === undefined ? 200 : 503;
    response.writeHead(code, { 'content-type': 'text/plain' });
    response.end(`${probe ? (problem ?? 'ok') : `expected ${Object.keys(probes).join(' or ')}`}\n`);
  };
}

/** `/metrics` in Prometheus' text format. */
export function exposing(text: () => Promise<string>, contentType: string, log: Log): RequestListener {
  return (request, response) => {
    if (urlOf(request)?.pathname !== '/metrics') {
      response.writeHead(404, { 'content-type': 'text/plain' });
      response.end('expected /metrics\n');
      return;
    }
    text().then(
      (found) => {
        response.writeHead(200, { 'content-type': contentType });
        response.end(found);
      },
      (cause: unknown) => {
        log.error({ reason: explain(cause) }, 'metrics could not be collected');
        response.writeHead(500);
        response.end();
      },
    );
  };
}
