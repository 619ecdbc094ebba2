import { createSocket, type Socket as UdpSocket } from 'node:dgram';
import { rmSync } from 'node:fs';
import { createServer as createHttpServer } from 'node:http';
import { createServer, type Server, type Socket } from 'node:net';
import { explain, InputError } from '../base/errors.ts';
import { runProgram } from '../cli/exit.ts';
import { stopSignal } from '../cli/supervisor.ts';
import { echoPort, httpPort, udpPort } from './plan.ts';
import { atOnce } from './probe.ts';
import { within } from './sockets.ts';

/*
 * The programs in a lab's pods, all in one process, since a process each would cost most of the lab's time: in every
 * namespace it is told of, HTTP on 80, UDP on 5000, and a TCP echo on 7. Each answers with the machine's name and the
 * source address it saw, as JSON.
 */

interface Responder {
  readonly servers: readonly Server[];
  readonly udp: UdpSocket;
}

const responders = new Map<string, Responder>();

async function main(): Promise<void> {
  const [socketPath] = process.argv.slice(2);
  if (socketPath === undefined) throw new InputError('argument', socketPath, 'the path of the control socket');
  rmSync(socketPath, { force: true });
  const control = createHttpServer((request, response) => {
    const url = new URL(request.url ?? '/', 'http://pods');
    const netns = url.searchParams.get('netns') ?? '';
    const name = url.searchParams.get('name') ?? '';
    answer(request.method ?? '', url.pathname, netns, name).then(
      () => response.end('ok\n'),
      (thrown: unknown) => response.writeHead(400).end(`${explain(thrown)}\n`),
    );
  });
  control.listen(socketPath);
  stopSignal().addEventListener('abort', () => process.exit(0));
}

async function answer(method: string, path: string, netns: string, name: string): Promise<void> {
  if (netns === '' || path !== '/responder') throw new InputError('request', path, '/responder?netns=…&name=…');
  if (method === 'POST') return serve(netns, name);
  if (method === 'DELETE') return silence(netns);
  throw new InputError('method', method, 'POST or DELETE');
}

/** Resolves when all sockets of a namespace listen. */
async function serve(netns: string, name: string): Promise<void> {
  if (responders.has(netns)) return;
  const reply = (from: string | undefined) => JSON.stringify({ name, from: plain(from ?? '') });
  const http = createServer((socket) => {
    quiet(socket);
    socket.once('data', () => {
      const body = reply(socket.remoteAddress);
      socket.end(`HTTP/1.0 200 OK\r\nContent-Type: application/json\r\nContent-Length: ${body.length}\r\n\r\n${body}`);
    });
  });
  const echo = createServer((socket) => quiet(socket).pipe(socket));
  const udp = createSocket({ type: 'udp6', lookup: atOnce });
  udp.on('error', (error) => process.stderr.write(`${name}: udp: ${error.message}\n`));
  udp.on('message', (_, peer) => udp.send(reply(peer.address), peer.port, peer.address));
  responders.set(netns, { servers: [http, echo], udp });
  const listening = [http, echo, udp].map(
    (socket) =>
      new Promise<void>((resolve, reject) => {
        socket.once('listening', () => resolve());
        socket.once('error', reject);
      }),
  );
  within(netns, () => {
    http.listen(httpPort);
    echo.listen(echoPort);
    udp.bind(udpPort, '::');
  });
  await Promise.all(listening);
}

/** Closes the sockets of a namespace, which otherwise keep it alive. */
async function silence(netns: string): Promise<void> {
  const responder = responders.get(netns);
  responders.delete(netns);
  for (const server of responder?.servers ?? []) server.close();
  responder?.udp.close();
}

/** A probe that goes away in the middle of an answer is no event. */
function quiet(socket: Socket): Socket {
  return socket.on('error', () => socket.destroy());
}

/** `::ffff:10.65.0.1` → `10.65.0.1` */
function plain(address: string): string {
  return address.startsWith('::ffff:') ? address.slice(7) : address;
}

await runProgram('margay-lab-pods', main);
