import { constants } from 'node:os';
import { KernelError, type Link } from '../types.ts';
import { RTM_GETLINK } from './constants.ts';
import { linkQuery, readLink, readLinkName, writeLinkQuery } from './link.ts';
import type { MessageWriter } from './message.ts';
import type { IndexOf } from './route.ts';
import type { NetlinkSocket } from './socket.ts';

/** Above this many names one list of all links is cheaper than asking for each. */
const lookupsBeforeList = 4;

/**
 * Links by name, asked of the kernel each time: a device may have gone and come with its name. Only that of one made
 * here a moment ago is known; the kernel never gives an index out again, and refuses a route through one that is gone.
 */
export class LinkIndexes {
  /** Name → index of devices made since routes were last set: until then they are taken for what they were. */
  readonly #fresh = new Map<string, number>();

  constructor(private readonly socket: NetlinkSocket) {}

  /** All links. @throws KernelError */
  list(): Link[] {
    return this.#dump().map(readLink);
  }

  /** @throws KernelError other than `ENODEV` */
  find(name: string): Link | undefined {
    const found = this.socket.find(linkQuery(name), constants.errno.ENODEV);
    return found && readLink(found);
  }

  /** @throws KernelError, `ENODEV` too */
  get(operation: string, name: string): Link {
    const link = this.find(name);
    if (!link) throw new KernelError(operation, 'ENODEV', `no device ${name}`);
    return link;
  }

  /** A device was made just now. */
  made({ name, index }: Link): void {
    this.#fresh.set(name, index);
  }

  /** Indexes of the devices that routes name. @throws KernelError */
  ofRoutes(names: ReadonlySet<string>): IndexOf {
    const byName = new Map<string, number>();
    for (const [name, index] of this.#fresh) if (names.has(name)) byName.set(name, index);
    this.#fresh.clear();
    const asked = [...names].filter((name) => !byName.has(name));
    if (asked.length > lookupsBeforeList)
      for (const payload of this.#dump()) {
        const [index, name] = readLinkName(payload);
        byName.set(name, index);
      }
    else for (const { name, index } of asked.flatMap((one) => this.find(one) ?? [])) byName.set(name, index);
    return (name) => byName.get(name);
  }

  /** RTM_NEWLINK payloads of all links. @throws KernelError */
  #dump(): Uint8Array[] {
    const body = (w: MessageWriter) => writeLinkQuery(w);
    return this.socket.dump({ operation: 'list links', type: RTM_GETLINK, body });
  }
}
