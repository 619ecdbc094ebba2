import { type AddressInfo, createServer, type Server, type Socket } from 'node:net';

/** A BMP message as this receiver reads it, by RFC 7854 alone. */
export interface BmpMessage {
  readonly type: 'routes' | 'statistics' | 'down' | 'up' | 'initiation' | 'termination';
  readonly peer?: {
    readonly address: string;
    readonly asn: number;
    readonly identifier: string;
    readonly flags: number;
  };
  /** What follows the headers. */
  readonly body: Buffer;
  readonly announced?: readonly string[];
  readonly withdrawn?: readonly string[];
}

const types = ['routes', 'statistics', 'down', 'up', 'initiation', 'termination'] as const;

/** A monitoring station on loopback that keeps all it was told, by connection. */
export class BmpStation {
  readonly connections: BmpMessage[][] = [];
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();

  /** @param reads false: takes connections and reads nothing */
  constructor(reads = true) {
    this.#server = createServer((socket) => this.#accept(socket, reads));
  }

  async listen(): Promise<number> {
    this.#server.listen(0, '127.0.0.1');
    await new Promise((resolve) => this.#server.once('listening', resolve));
    return (this.#server.address() as AddressInfo).port;
  }

  get last(): readonly BmpMessage[] {
    return this.connections.at(-1) ?? [];
  }

  drop(): void {
    for (const socket of this.#sockets) socket.destroy();
  }

  close(): Promise<void> {
    this.drop();
    return new Promise((resolve) => this.#server.close(() => resolve()));
  }

  #accept(socket: Socket, reads: boolean): void {
    this.#sockets.add(socket);
    const messages: BmpMessage[] = [];
    this.connections.push(messages);
    socket.on('error', () => socket.destroy());
    socket.once('close', () => this.#sockets.delete(socket));
    if (!reads) return void socket.pause();
    let rest = Buffer.alloc(0);
    socket.on('data', (chunk) => {
      rest = Buffer.concat([rest, chunk]);
      while (rest.length >= 6 && rest.length >= rest.readUInt32BE(1)) {
        const length = rest.readUInt32BE(1);
        messages.push(decode(rest.subarray(0, length)));
        rest = rest.subarray(length);
      }
    });
  }
}

function decode(message: Buffer): BmpMessage {
  if (message[0] !== 3) throw new Error(`BMP version ${message[0]}`);
  const type = types[message[5] ?? 99];
  if (!type) throw new Error(`BMP type ${message[5]}`);
  if (type === 'initiation' || type === 'termination') return { type, body: message.subarray(6) };
  const flags = message[7] ?? 0;
  const peer = {
    flags,
    address: flags & 0x80 ? message.subarray(16, 32).toString('hex') : [...message.subarray(28, 32)].join('.'),
    asn: message.readUInt32BE(32),
    identifier: [...message.subarray(36, 40)].join('.'),
  };
  const body = message.subarray(48);
  return { type, peer, body, ...(type === 'routes' ? prefixesOf(body) : {}) };
}

/** IPv4 prefixes of an UPDATE, marker and header included. RFC 4271 §4.3. */
function prefixesOf(update: Buffer): { announced: string[]; withdrawn: string[] } {
  const gone = update.readUInt16BE(19);
  const attributes = update.readUInt16BE(21 + gone);
  return {
    withdrawn: listed(update.subarray(21, 21 + gone)),
    announced: listed(update.subarray(23 + gone + attributes, update.readUInt16BE(16))),
  };
}

function listed(octets: Buffer): string[] {
  const found: string[] = [];
  for (let at = 0; at < octets.length; ) {
    const length = octets[at] ?? 0;
    const size = Math.ceil(length / 8);
    const address = [...octets.subarray(at + 1, at + 1 + size), 0, 0, 0, 0].slice(0, 4);
    found.push(`${address.join('.')}/${length}`);
    at += 1 + size;
  }
  return found;
}
