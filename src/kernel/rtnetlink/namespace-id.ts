import { closeSync } from 'node:fs';
import { openNamespace } from '../namespace-file.ts';
import { hostI32, readAttributes } from './message.ts';
import { NetlinkSocket } from './socket.ts';

/** linux/rtnetlink.h, net_namespace.h */
const RTM_GETNSID = 90;
const NETNSA_NSID = 1;
const NETNSA_FD = 3;
/** Length of `struct rtgenmsg`, padded. */
const headLength = 4;

/** Other network namespaces as the one that the object was opened in numbers them: what `Link.peerNamespaceId` is. */
export class NamespaceIds {
  readonly #socket = new NetlinkSocket();

  /** Negative when the namespace has no number here. @throws InputError for the path, KernelError */
  of(path: string): number | undefined {
    const fd = openNamespace(path);
    try {
      const payload = this.#socket.get({
        operation: `number of namespace ${path}`,
        type: RTM_GETNSID,
        body: (w) => {
          w.u32(0);
          w.attributeU32(NETNSA_FD, fd);
        },
      });
      const id = readAttributes(payload, headLength).get(NETNSA_NSID);
      return id && hostI32(id, 0);
    } finally {
      closeSync(fd);
    }
  }

  close(): void {
    this.#socket.close();
  }
}
