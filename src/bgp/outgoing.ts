import { writeSync, writevSync } from 'node:fs';
import type { Socket } from 'node:net';
import { errorCode } from '../base/errors.ts';
import { descriptorOf } from './transport.ts';

/**
 * What leaves by one socket. Messages of one turn leave in one write, and by the shortest way: straight to the kernel
 * while it takes them, through the stream once it does not.
 */
export class Outgoing {
  #waiting: Uint8Array[] = [];
  #octets = 0;
  readonly #flush = () => this.flush();

  /**
   * @param progressed the kernel has taken what was handed over up to some point, or refuses more
   * @param soon runs an action when no more is to be expected
   */
  constructor(
    private readonly socket: Socket,
    private readonly progressed: () => void,
    private readonly soon: (action: () => void) => void = process.nextTick,
  ) {}

  /** Octets that the kernel has not yet taken. */
  get unsent(): number {
    return this.#octets + this.socket.writableLength;
  }

  send(messages: readonly Uint8Array[]): void {
    if (this.#closed || messages.length === 0) return;
    if (this.#waiting.length === 0) this.soon(this.#flush);
    for (const message of messages) {
      this.#waiting.push(message);
      this.#octets += message.length;
    }
  }

  /** Does not wait for the turn to end. */
  flush(): void {
    const messages = this.#waiting;
    if (messages.length === 0) return;
    this.#waiting = [];
    this.#octets = 0;
    if (this.#closed) return;
    const taken = this.#writeDirectly(messages);
    this.#write(behind(messages, taken));
    this.progressed();
  }

  get #closed(): boolean {
    return this.socket.destroyed || this.socket.writableEnded;
  }

  /** @returns octets that the kernel took: none where others wait before them, or it refuses; the stream learns why */
  #writeDirectly(messages: readonly Uint8Array[]): number {
    const { socket } = this;
    const fd = socket.connecting || socket.writableLength > 0 ? undefined : descriptorOf(socket);
    const [only] = messages;
    if (fd === undefined || only === undefined) return 0;
    try {
      return messages.length === 1 ? writeSync(fd, only) : writevSync(fd, messages);
    } catch (thrown) {
      if (errorCode(thrown) === undefined) throw thrown;
      return 0;
    }
  }

  #write(messages: readonly Uint8Array[]): void {
    if (messages.length === 0) return;
    const { socket } = this;
    socket.cork();
    for (const message of messages.slice(0, -1)) socket.write(message);
    socket.write(messages.at(-1) ?? new Uint8Array(0), this.progressed);
    socket.uncork();
  }
}

/** What is left of the messages after so many octets. */
function behind(messages: readonly Uint8Array[], octets: number): Uint8Array[] {
  let left = octets;
  for (const [i, message] of messages.entries()) {
    if (left < message.length) return [message.subarray(left), ...messages.slice(i + 1)];
    left -= message.length;
  }
  return [];
}
