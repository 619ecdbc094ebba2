import { createServer, type Server, type Socket } from 'node:net';
import type { Log } from '../base/log.ts';
import type { Cidr } from '../model/address.ts';
import { compareHops, type FeedMessage, feedVersion } from '../model/feed.ts';
import { hopOf } from './nexthop.ts';
import { listenUnix } from './socket.ts';
import type { Speaker } from './speaker.ts';
import type { Selected } from './table.ts';

/** Queued octets above which a reader gets nothing more until it has read. */
const highWater = 1 << 20;

interface Reader {
  readonly socket: Socket;
  /** Prefixes that the reader must still be told of; bounded by the table, however slowly it reads. */
  readonly pending: Set<Cidr>;
  snapshotDone: boolean;
}

/**
 * Serves the selected routes to felix over a unix socket, one JSON object a line (model/feed.ts). The snapshot of the
 * first reader after a start ends only when the speaker has converged, so that felix keeps its stale routes until then.
 */
export class Feed {
  readonly #lines = new Map<Cidr, string>();
  readonly #readers = new Set<Reader>();
  readonly #server: Server;

  constructor(
    private readonly speaker: Speaker,
    private readonly log: Log,
  ) {
    this.#server = createServer((socket) => this.#welcome(socket));
    speaker.subscribe({ selected: (changes) => this.#selected(changes), converged: () => this.#pumpAll() });
  }

  /** @throws EnvironmentError when another process serves the socket */
  async listen(path: string): Promise<void> {
    await listenUnix(this.#server, path, this.log);
  }

  close(): void {
    this.#server.close();
    for (const { socket } of this.#readers) socket.destroy();
  }

  #welcome(socket: Socket): void {
    const reader: Reader = { socket, pending: new Set(this.#lines.keys()), snapshotDone: false };
    this.#readers.add(reader);
    socket.on('drain', () => this.#pump(reader));
    socket.on('error', (cause) => this.log.debug({ cause }, 'route feed reader failed'));
    socket.on('close', () => this.#readers.delete(reader));
    socket.resume();
    socket.write(line({ type: 'hello', version: feedVersion }));
    this.#pump(reader);
  }

  #selected(changes: readonly Selected[]): void {
    for (const { prefix, decision } of changes) {
      const after = routeLine(prefix, decision);
      if (after === this.#lines.get(prefix)) continue;
      if (after === undefined) this.#lines.delete(prefix);
      else this.#lines.set(prefix, after);
      for (const { pending } of this.#readers) pending.add(prefix);
    }
    this.#pumpAll();
  }

  #pumpAll(): void {
    for (const reader of this.#readers) this.#pump(reader);
  }

  #pump(reader: Reader): void {
    const { socket, pending } = reader;
    if (socket.destroyed) return;
    socket.cork();
    for (const prefix of pending) {
      if (socket.writableLength > highWater) break;
      pending.delete(prefix);
      socket.write(this.#lines.get(prefix) ?? line({ type: 'withdraw', prefix }));
    }
    if (pending.size === 0 && !reader.snapshotDone && this.speaker.converged) {
      reader.snapshotDone = true;
      socket.write(line({ type: 'endOfSnapshot' }));
    }
    socket.uncork();
  }
}

/** The line for a prefix, or undefined when no peer's route is best: what this node owns felix knows itself. */
function routeLine(prefix: Cidr, decision: Selected['decision']): string | undefined {
  if (!decision || decision.best.source.kind === 'local') return undefined;
  const nextHops = decision.multipath.flatMap((candidate) => hopOf(candidate) ?? []);
  return line({ type: 'route', prefix, nextHops: nextHops.sort(compareHops), source: decision.best.source.kind });
}

function line(message: FeedMessage): string {
  return `${JSON.stringify(message)}\n`;
}
