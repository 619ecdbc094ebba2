import { KernelError } from '../types.ts';
import { RTM_GETLINK } from './constants.ts';
import { readLinkName, writeLinkQuery } from './link.ts';
import type { MessageWriter } from './message.ts';
import type { NameOf } from './route.ts';
import type { NetlinkSocket } from './socket.ts';

/** Above this many names one list of all links is cheaper than asking for each. */
const lookupsBeforeList = 8;

/**
 * The links' names by index. What was read serves all that is asked for before the event loop goes on: who looks at
 * addresses and routes of both families would else have a thousand devices listed three times. An index that the list
 * lacks is of a link made meanwhile, and is asked for.
 */
export class LinkNames {
  #byIndex = new Map<number, string>();
  #listed = false;

  constructor(private readonly socket: NetlinkSocket) {}

  readonly nameOf: NameOf = (index) => {
    const known = this.#byIndex.get(index);
    if (known !== undefined) return known;
    if (this.#byIndex.size === 0) queueMicrotask(() => this.forget());
    if (!this.#listed && this.#byIndex.size >= lookupsBeforeList) this.#list();
    return this.#byIndex.get(index) ?? this.#ask(index);
  };

  /** A link has another name now. */
  forget(): void {
    this.#byIndex = new Map();
    this.#listed = false;
  }

  /** @throws KernelError */
  #list(): void {
    const body = (w: MessageWriter) => writeLinkQuery(w);
    for (const payload of this.socket.dump({ operation: 'list links', type: RTM_GETLINK, body }))
      this.#byIndex.set(...readLinkName(payload));
    this.#listed = true;
  }

  /** @throws KernelError */
  #ask(index: number): string | undefined {
    const operation = `get link ${index}`;
    try {
      const payload = this.socket.get({ operation, type: RTM_GETLINK, body: (w) => writeLinkQuery(w, { index }) });
      const [, name] = readLinkName(payload);
      this.#byIndex.set(index, name);
      return name;
    } catch (cause) {
      if (cause instanceof KernelError && cause.code === 'ENODEV') return undefined;
      throw cause;
    }
  }
}
