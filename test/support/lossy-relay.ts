import { connect, createServer, type Socket } from 'node:net';

/** A way to a server that can lose connections as a network does that drops packets: neither end hears of it. */
export interface LossyRelay {
  /** `http://127.0.0.1:<port>` */
  readonly endpoint: string;
  /** From now on nothing passes on the connections that are open; new ones work. @returns how many those are */
  lose(): number;
  close(): void;
}

/** Listens on loopback and passes everything on to `plain`. */
export async function startLossyRelay(plain: string): Promise<LossyRelay> {
  const { hostname, port } = new URL(plain);
  const open = new Set<Socket>();
  const pairs = new Set<readonly [Socket, Socket]>();
  const listener = createServer((near) => {
    const far = connect(Number(port), hostname);
    const pair = [near, far] as const;
    pairs.add(pair);
    for (const [socket, other] of [
      [near, far],
      [far, near],
    ] as const) {
      open.add(socket);
      socket.on('error', () => socket.destroy());
      socket.on('close', () => {
        open.delete(socket);
        pairs.delete(pair);
        other.destroy();
      });
      socket.pipe(other);
    }
  });
  await new Promise<void>((done) => listener.listen(0, '127.0.0.1', done));
  const address = listener.address();
  if (address === null || typeof address === 'string') throw new Error('no port');
  return {
    endpoint: `http://127.0.0.1:${address.port}`,
    lose: () => {
      for (const [near, far] of pairs) {
        near.unpipe(far).pause();
        far.unpipe(near).pause();
      }
      return pairs.size;
    },
    close: () => {
      listener.close();
      for (const socket of open) socket.destroy();
    },
  };
}
