import { KernelError } from '../types.ts';
import type { AsideRequest, Request } from './requests.ts';
import type { NetlinkSocket } from './socket.ts';

/** Sent together. One device takes the kernel about a millisecond, and the first waits for the last. */
const mostAtOnce = 8;

interface Asked extends AsideRequest {
  readonly answered: (outcome: Uint8Array | KernelError | undefined) => void;
  readonly failed: (cause: unknown) => void;
}

/**
 * Requests through a socket of their own, for which the kernel works in a thread of libuv's pool. What is asked while it
 * works goes to it in one message: thirty pods that start at once would otherwise wait thirty times until a busy event
 * loop hands the next one over.
 */
export class Aside {
  #waiting: Asked[] = [];
  #busy = false;

  constructor(private readonly socket: NetlinkSocket) {}

  close(): void {
    this.socket.close();
  }

  /** @returns the payload that `query`, asked after the request, is answered with @throws KernelError */
  async get(request: Request, query: Request): Promise<Uint8Array> {
    const payload = await this.#ask({ request, query });
    if (payload === undefined) throw new KernelError(query.operation, 'EPROTO', 'no object');
    return payload;
  }

  /** @throws KernelError */
  async change(request: Request): Promise<void> {
    await this.#ask({ request });
  }

  #ask(asked: AsideRequest): Promise<Uint8Array | undefined> {
    return new Promise((resolve, reject) => {
      const answered = (outcome: Uint8Array | KernelError | undefined) =>
        outcome instanceof KernelError ? reject(outcome) : resolve(outcome);
      this.#waiting.push({ ...asked, answered, failed: reject });
      if (!this.#busy) void this.#work();
    });
  }

  async #work(): Promise<void> {
    this.#busy = true;
    while (this.#waiting.length > 0) {
      const together = this.#waiting.splice(0, mostAtOnce);
      try {
        const outcomes = await this.socket.requestsAside(together);
        together.forEach(({ answered }, at) => {
          answered(outcomes[at]);
        });
      } catch (cause) {
        for (const { failed } of together) failed(cause);
      }
    }
    this.#busy = false;
  }
}
