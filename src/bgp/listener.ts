import { createServer, type Server, type Socket } from 'node:net';
import { EnvironmentError, errorCode } from '../base/errors.ts';
import type { Secret } from '../base/secret.ts';
import { bindAddress, closeSocket, familyOptions, openTcp, options, setMd5Key, setOption } from '../kernel/socket.ts';
import { KernelError } from '../kernel/types.ts';
import { type Cidr, type Family, type Ip, parseIp } from '../model/address.ts';
import { classSelector6, fullHops } from './transport.ts';

const wildcard: Readonly<Record<Family, Ip>> = { 4: parseIp('0.0.0.0'), 6: parseIp('::') };
const backlog = 1024;

/** What the listening socket demands of those who connect. */
export interface Protection {
  /** TCP MD5 keys by the addresses that must sign with them. */
  readonly keys: ReadonlyMap<Cidr, Secret>;
  /** The fewest hops left in a packet from anybody; 0: any. */
  readonly minHops: number;
}

/** Who is told of what comes in: connections, and what the kernel refuses a socket that listens. */
export interface Taker {
  readonly accept: (socket: Socket) => void;
  readonly failed: (error: Error) => void;
}

/** A listening socket of one family, and the keys it holds for peers. */
export class Listener {
  readonly #keys = new Map<Cidr, Secret>();

  private constructor(
    readonly family: Family,
    readonly address: Ip | undefined,
    readonly port: number,
    private readonly server: Server,
    private readonly fd: number,
  ) {}

  /**
   * Listens on one address, or on all of the family. The keys stand before the first connection is taken.
   * @throws EnvironmentError when the port is taken or forbidden, or the keys are too many
   */
  static async open(
    family: Family,
    address: Ip | undefined,
    port: number,
    protection: Protection,
    { accept, failed }: Taker,
  ): Promise<Listener> {
    const fd = openTcp(family);
    const server = createServer({ noDelay: true }, accept);
    const listener = new Listener(family, address, port, server, fd);
    try {
      listener.#prepare();
      listener.protect(protection);
    } catch (thrown) {
      closeSocket(fd);
      throw thrown instanceof KernelError ? listenError(thrown, port, address) : thrown;
    }
    return new Promise((resolve, reject) => {
      server.once('error', (cause) => reject(listenError(cause, port, address)));
      server.listen({ fd, backlog }, () => {
        server.on('error', failed);
        resolve(listener);
      });
    });
  }

  /** Brings keys and hop limit to what is wanted; connections that stand keep theirs. @throws EnvironmentError */
  protect({ keys, minHops }: Protection): void {
    for (const peers of [...this.#keys.keys()]) {
      if (keys.has(peers)) continue;
      setMd5Key(this.fd, peers, '');
      this.#keys.delete(peers);
    }
    for (const [peers, key] of keys) {
      if (this.#keys.get(peers)?.reveal() === key.reveal()) continue;
      this.#setKey(peers, key);
    }
    setOption(this.fd, familyOptions[this.family].minHops, minHops);
  }

  close(): void {
    this.server.close();
  }

  #prepare(): void {
    const { fd, family } = this;
    setOption(fd, options.reuseAddress, 1);
    if (family === 6) setOption(fd, options.v6Only, 1);
    setOption(fd, familyOptions[family].trafficClass, classSelector6);
    // A peer with GTSM would not take our answer to its SYN otherwise.
    setOption(fd, familyOptions[family].hops, fullHops);
    bindAddress(fd, this.address ?? wildcard[family], this.port);
  }

  #setKey(peers: Cidr, key: Secret): void {
    try {
      setMd5Key(this.fd, peers, key.reveal());
    } catch (cause) {
      if (!(cause instanceof KernelError) || cause.code !== 'ENOMEM') throw cause;
      const problem = `no room for the TCP MD5 key of ${peers}, after ${this.#keys.size} others`;
      throw new EnvironmentError(problem, 'raise the sysctl net.core.optmem_max', { cause });
    }
    this.#keys.set(peers, key);
  }
}

function listenError(cause: Error, port: number, address: Ip | undefined): Error {
  switch (errorCode(cause)) {
    case 'EADDRINUSE':
      return new EnvironmentError(
        `TCP port ${port} is in use`,
        'stop the other BGP daemon on this node (such as BIRD, FRR or calico-node), or listen on another port (spec.listenPort of BGPConfiguration default)',
        { cause },
      );
    case 'EACCES':
      return new EnvironmentError(
        `TCP port ${port} may not be bound`,
        'run as root or with CAP_NET_BIND_SERVICE, or listen on another port (spec.listenPort of BGPConfiguration default)',
        { cause },
      );
    case 'EADDRNOTAVAIL':
      return new EnvironmentError(`${address} is no address of this host`, 'correct the listening addresses', {
        cause,
      });
    default:
      return cause;
  }
}
