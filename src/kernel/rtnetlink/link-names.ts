import { RTM_GETLINK } from './constants.ts';
import { readLinkName, writeLinkQuery } from './link.ts';
import type { NameOf } from './route.ts';
import type { NetlinkSocket } from './socket.ts';

/**
 * The links' names by index. One reading serves all that is asked for before the event loop goes on: who looks at
 * addresses and routes of both families would else have a thousand devices listed three times. An index that it lacks is
 * of a link made meanwhile, and has it read again.
 */
export class LinkNames {
  #byIndex: ReadonlyMap<number, string> | undefined;

  constructor(private readonly socket: NetlinkSocket) {}

  readonly nameOf: NameOf = (index) => this.#read().get(index) ?? this.#again(index);

  /** A link has another name now. */
  forget(): void {
    this.#byIndex = undefined;
  }

  /** @throws KernelError */
  #read(): ReadonlyMap<number, string> {
    if (this.#byIndex) return this.#byIndex;
    const request = { operation: 'list links', type: RTM_GETLINK };
    const found = this.socket.dump({ ...request, body: (w) => writeLinkQuery(w) });
    this.#byIndex = new Map(found.map(readLinkName));
    queueMicrotask(() => this.forget());
    return this.#byIndex;
  }

  #again(index: number): string | undefined {
    this.forget();
    return this.#read().get(index);
  }
}
