import { createSocket } from 'node:dgram';
import { connect, createServer, type Socket } from 'node:net';
import { createInterface } from 'node:readline';
import { SctpSockets } from './sctp.ts';

/*
 * Runs inside a network namespace. Answers TCP, UDP and SCTP on the ports of its arguments, and makes the connections that
 * it is told to on standard input, one JSON object a line; each gets one line of answer. Ends with its input.
 */

export interface Probe {
  readonly id: number;
  readonly protocol: 'TCP' | 'UDP' | 'SCTP';
  readonly address: string;
  readonly port: number;
  readonly timeoutMs: number;
  /** TCP: keep the connection under this name; a later probe of that name uses it again. */
  readonly keep?: string;
}

export interface Answer {
  readonly id: number;
  readonly reached: boolean;
}

const kept = new Map<string, Socket>();
const ports = process.argv.slice(2).map(Number);
const listening = ports.flatMap((port) => [listenTcp(port), listenUdp(port)]);
const sctp = new SctpSockets(ports);
await Promise.all(listening);
process.stdout.write('ready\n');
for await (const line of createInterface({ input: process.stdin })) {
  const probe = JSON.parse(line) as Probe;
  const attempt =
    probe.protocol === 'TCP'
      ? tcp(probe)
      : probe.protocol === 'UDP'
        ? udp(probe)
        : sctp.probe(probe.address, probe.port, probe.timeoutMs);
  void attempt.then((reached) => process.stdout.write(`${JSON.stringify({ id: probe.id, reached })}\n`));
}
process.exit(0);

function listenTcp(port: number): Promise<void> {
  const server = createServer((socket) => {
    socket.on('error', () => socket.destroy());
    socket.pipe(socket);
  });
  return new Promise((resolve, reject) => {
    server.once('error', reject);
    server.listen(port, '::', resolve);
  });
}

function listenUdp(port: number): Promise<void> {
  const socket = createSocket('udp6');
  socket.on('message', (message, { address, port: from }) => socket.send(message, from, address));
  return new Promise((resolve, reject) => {
    socket.once('error', reject);
    socket.bind(port, '::', resolve);
  });
}

/** Sends a byte and waits for its echo. */
function tcp({ address, port, timeoutMs, keep }: Probe): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = (keep && kept.get(keep)) || connect({ host: address, port });
    const finish = (reached: boolean) => {
      clearTimeout(timer);
      if (keep && reached) kept.set(keep, socket);
      else socket.destroy();
      resolve(reached);
    };
    const timer = setTimeout(() => finish(false), timeoutMs);
    socket.once('data', () => finish(true));
    socket.on('error', () => finish(false));
    socket.write('x');
  });
}

function udp({ address, port, timeoutMs }: Probe): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = createSocket(address.includes(':') ? 'udp6' : 'udp4');
    const finish = (reached: boolean) => {
      clearTimeout(timer);
      socket.close();
      resolve(reached);
    };
    const timer = setTimeout(() => finish(false), timeoutMs);
    socket.once('message', () => finish(true));
    socket.once('error', () => finish(false));
    socket.send('x', port, address);
  });
}
