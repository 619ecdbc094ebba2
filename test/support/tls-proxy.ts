import { readFile } from 'node:fs/promises';
import { connect, type Socket } from 'node:net';
import { createServer } from 'node:tls';
import type { Pair } from './certificates.ts';

/** TLS in front of a plain etcd, that knows who is connected. */
export interface TlsProxy {
  /** `https://127.0.0.1:<port>` */
  readonly endpoint: string;
  /** The common names of the client certificates of the open connections, in the order of their opening. */
  connected(): readonly string[];
  close(): void;
}

/** Listens on loopback with the certificate of `server`; only clients that the authority signed get through. */
export async function startTlsProxy(plain: string, server: Pair, caFile: string): Promise<TlsProxy> {
  const { hostname, port } = new URL(plain);
  const [cert, key, ca] = await Promise.all(
    [server.certificateFile, server.keyFile, caFile].map((file) => readFile(file)),
  );
  const names = new Map<Socket, string>();
  const options = { cert, key, ca, requestCert: true, rejectUnauthorized: true, ALPNProtocols: ['h2'] };
  const listener = createServer(options, (near) => {
    const far = connect(Number(port), hostname);
    names.set(near, String(near.getPeerCertificate().subject.CN));
    for (const [socket, other] of [
      [near, far],
      [far, near],
    ] as const) {
      socket.on('error', () => socket.destroy());
      socket.on('close', () => other.destroy());
      socket.pipe(other);
    }
    near.on('close', () => names.delete(near));
  });
  await new Promise<void>((done) => listener.listen(0, '127.0.0.1', done));
  const address = listener.address();
  if (address === null || typeof address === 'string') throw new Error('no port');
  return {
    endpoint: `https://127.0.0.1:${address.port}`,
    connected: () => [...names.values()],
    close: () => {
      listener.close();
      for (const socket of names.keys()) socket.destroy();
    },
  };
}
