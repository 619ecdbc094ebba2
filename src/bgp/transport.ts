import { connect, createServer, type Server, type Socket } from 'node:net';
import { EnvironmentError, errorCode } from '../base/errors.ts';
import type { Family, Ip } from '../model/address.ts';

export interface Endpoint {
  readonly address: Ip;
  readonly port: number;
  /** Ours, which the peer knows us by. */
  readonly localAddress?: Ip;
}

/** Begins a TCP connection; it reports by events. */
export function dial({ address, port, localAddress }: Endpoint): Socket {
  return connect({ host: address, port, noDelay: true, ...(localAddress ? { localAddress } : {}) });
}

/**
 * Listens on every address of the family.
 * @throws EnvironmentError when the port is taken or forbidden
 */
export function listen(family: Family, port: number, accept: (socket: Socket) => void): Promise<Server> {
  const server = createServer({ noDelay: true }, accept);
  return new Promise((resolve, reject) => {
    server.once('error', (cause) => reject(listenError(cause, port)));
    server.listen({ host: family === 4 ? '0.0.0.0' : '::', port, ipv6Only: family === 6, backlog: 1024 }, () =>
      resolve(server),
    );
  });
}

function listenError(cause: Error, port: number): Error {
  switch (errorCode(cause)) {
    case 'EADDRINUSE':
      return new EnvironmentError(
        `TCP port ${port} is in use`,
        'stop the other BGP daemon on this node (such as BIRD, FRR or calico-node), or set spec.listenPort of BGPConfiguration default',
        { cause },
      );
    case 'EACCES':
      return new EnvironmentError(
        `TCP port ${port} may not be bound`,
        'run as root or with CAP_NET_BIND_SERVICE, or set spec.listenPort of BGPConfiguration default',
        { cause },
      );
    default:
      return cause;
  }
}

/** The other end's address without zone or IPv4-mapped prefix; undefined once the socket is gone. */
export function remoteAddressOf(socket: Socket): string | undefined {
  return socket.remoteAddress?.replace(/^::ffff:/, '').replace(/%.*$/, '');
}
