import { createSocket } from 'node:dgram';
import { connect, createServer } from 'node:net';
import { createInterface } from 'node:readline';

/*
 * Runs inside a network namespace. Answers TCP and UDP on the ports of its arguments, and makes the connections that
 * it is told to on standard input, one JSON object a line; each gets one line of answer. Ends with its input.
 */

export interface Probe {
  readonly id: number;
  readonly protocol: 'TCP' | 'UDP';
  readonly address: string;
  readonly port: number;
  readonly timeoutMs: number;
}

export interface Answer {
  readonly id: number;
  readonly reached: boolean;
}

const ports = process.argv.slice(2).map(Number);
const listening = ports.flatMap((port) => [listenTcp(port), listenUdp(port)]);
await Promise.all(listening);
process.stdout.write('ready\n');
for await (const line of createInterface({ input: process.stdin })) {
  const probe = JSON.parse(line) as Probe;
  const attempt = probe.protocol === 'TCP' ? tcp(probe) : udp(probe);
  void attempt.then((reached) => process.stdout.write(`${JSON.stringify({ id: probe.id, reached })}\n`));
}
process.exit(0);

function listenTcp(port: number): Promise<void> {
  const server = createServer((socket) => {
    socket.on('error', () => socket.destroy());
    socket.end('x');
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

function tcp({ address, port, timeoutMs }: Probe): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect({ host: address, port });
    const finish = (reached: boolean) => {
      clearTimeout(timer);
      socket.destroy();
      resolve(reached);
    };
    const timer = setTimeout(() => finish(false), timeoutMs);
    socket.once('data', () => finish(true));
    socket.on('error', () => finish(false));
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
