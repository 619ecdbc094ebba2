import { createServer, type Server } from 'node:http';
import { EnvironmentError } from '../base/errors.ts';

/** A pass of the main loop that runs longer than this means that it hangs. */
const hangMs = 90_000;

/** What the probes ask of the agent. */
export interface Health {
  /** No pass has been running for so many milliseconds. */
  alive(milliseconds: number): boolean;
  ready(): boolean;
}

/**
 * Serves `/liveness` and `/readiness` as Calico does: 200 or 503, with the reason as text.
 * @throws EnvironmentError when the port cannot be had
 */
export function serveHealth(health: Health, host: string, port: number): Promise<Listening> {
  const probes: Readonly<Record<string, () => readonly [number, string]>> = {
    '/liveness': () => (health.alive(hangMs) ? [200, 'alive'] : [503, 'the main loop hangs']),
    '/readiness': () => (health.ready() ? [200, 'ready'] : [503, 'not everything is applied']),
  };
  const server = createServer((request, response) => {
    const path = new URL(request.url ?? '/', 'http://felix').pathname;
    const probe = Object.hasOwn(probes, path) ? probes[path] : undefined;
    const [code, text] = probe ? probe() : [404, 'expected /liveness or /readiness'];
    response.writeHead(code, { 'content-type': 'text/plain' });
    response.end(`${text}\n`);
  });
  return listening(server, host, port, 'FELIX_HEALTHPORT');
}

export interface Listening {
  readonly port: number;
  close(): Promise<void>;
}

/** @throws EnvironmentError that names the variable to change when the address cannot be had */
export function listening(server: Server, host: string, port: number, variable: string): Promise<Listening> {
  server.requestTimeout = 5_000;
  server.maxConnections = 64;
  return new Promise((resolve, reject) => {
    server.once('error', (cause) => {
      reject(
        new EnvironmentError(`cannot listen on ${host} port ${port}`, `choose another with ${variable}`, { cause }),
      );
    });
    server.listen(port, host, () => {
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
