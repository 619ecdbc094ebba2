import { createServer, type RequestListener, type Server } from 'node:http';
import { EnvironmentError, explain } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import type { ControllerMetrics } from './metrics.ts';

/** What the probes ask. */
export interface Health {
  /** Undefined, or why this process should be started again. */
  hangs(): string | undefined;
  /** Undefined, or what is not there yet. */
  waitsFor(): string | undefined;
}

export interface Listening {
  readonly port: number;
  close(): Promise<void>;
}

/** `/liveness` and `/readiness`: 200, or 503 with the reason. @throws EnvironmentError when the port cannot be had */
export function serveHealth(health: Health, port: number): Promise<Listening> {
  const probes: Readonly<Record<string, () => string | undefined>> = {
    '/liveness': () => health.hangs(),
    '/readiness': () => health.waitsFor(),
  };
  return listening(port, 'MARGAY_CONTROLLERS_HEALTHPORT', (request, response) => {
    const path = pathOf(request.url);
    const probe = Object.hasOwn(probes, path) ? probes[path] : undefined;
    const problem = probe?.();
    const code = probe === undefined ? 404 : problem === undefined ? 200 : 503;
    response.writeHead(code, { 'content-type': 'text/plain' });
    response.end(`${probe === undefined ? 'expected /liveness or /readiness' : (problem ?? 'ok')}\n`);
  });
}

/** `/metrics` in Prometheus' text format. @throws EnvironmentError when the port cannot be had */
export function serveMetrics({ registry }: ControllerMetrics, port: number, log: Log): Promise<Listening> {
  return listening(port, 'prometheusMetricsPort of the KubeControllersConfiguration', (request, response) => {
    if (pathOf(request.url) !== '/metrics') {
      response.writeHead(404, { 'content-type': 'text/plain' });
      response.end('expected /metrics\n');
      return;
    }
    registry.metrics().then(
      (text) => {
        response.writeHead(200, { 'content-type': registry.contentType });
        response.end(text);
      },
      (cause: unknown) => {
        log.error({ reason: explain(cause) }, 'metrics could not be collected');
        response.writeHead(500);
        response.end();
      },
    );
  });
}

/** A request's path; what is no URL has none. */
function pathOf(url = '/'): string {
  return URL.canParse(url, 'http://controllers') ? new URL(url, 'http://controllers').pathname : '';
}

/** On all addresses, as the kubelet and Prometheus ask a Pod from outside. */
function listening(port: number, setting: string, handle: RequestListener): Promise<Listening> {
  const server = createServer({ requestTimeout: 5000 }, handle);
  server.maxConnections = 64;
  return new Promise((resolve, reject) => {
    server.once('error', (cause) =>
      reject(new EnvironmentError(`cannot listen on port ${port}`, `choose another with ${setting}`, { cause })),
    );
    server.listen(port, () => {
      const address = server.address();
      resolve({ port: typeof address === 'object' && address ? address.port : port, close: () => closed(server) });
    });
  });
}

function closed(server: Server): Promise<void> {
  return new Promise((resolve) => {
    server.close(() => resolve());
    server.closeAllConnections();
  });
}
