import { chmodSync, closeSync, rmSync } from 'node:fs';
import koffi from 'koffi';
import { InputError } from '../base/errors.ts';
import { checked, lastErrno, libc } from './rtnetlink/libc.ts';
import { KernelError } from './types.ts';

/* A datagram socket on which other processes hand over open files (SCM_RIGHTS, unix(7)), which Node cannot receive. */

const AF_UNIX = 1;
/** SOCK_DGRAM with SOCK_CLOEXEC and SOCK_NONBLOCK. */
const SOCK_DGRAM = 2 | 0o2000000 | 0o4000;
const SOL_SOCKET = 1;
const SCM_RIGHTS = 1;
const MSG_CMSG_CLOEXEC = 0x40000000;
/** Of `struct sockaddr_un`: the family, and 108 octets. */
const addressLength = 110;
/** Of `struct cmsghdr` with one descriptor: length, level, type, descriptor. */
const controlLength = 20;
const longestText = 4096;

interface Message {
  readonly msg_iov: readonly { readonly iov_base: Uint8Array; readonly iov_len: number }[];
  readonly [field: string]: unknown;
}
type Receive = (fd: number, message: Message, flags: number) => number | bigint;

let loaded: Receive | undefined;

function recvmsg(): Receive {
  loaded ??= load();
  return loaded;
}

function load(): Receive {
  const iovec = koffi.struct({ iov_base: 'void *', iov_len: 'size_t' });
  const msghdr = koffi.struct({
    ...{ msg_name: 'void *', msg_namelen: 'uint32_t' },
    ...{ msg_iov: koffi.pointer(iovec), msg_iovlen: 'size_t' },
    ...{ msg_control: 'void *', msg_controllen: 'size_t', msg_flags: 'int' },
  });
  return koffi.load(null).func('recvmsg', 'int64_t', ['int', koffi.inout(koffi.pointer(msghdr)), 'int']) as Receive;
}

export interface Handed {
  readonly text: string;
  /** Of whatever it is that was open there; the receiver closes it. Undefined when nothing came with the text. */
  readonly fd?: number;
}

export class DescriptorSocket {
  readonly #fd: number;
  readonly #text = Buffer.alloc(longestText);
  readonly #control = Buffer.alloc(controlLength + 4);

  /** For root alone. A socket that an earlier process left at the path is replaced. @throws InputError, KernelError */
  constructor(private readonly path: string) {
    const address = Buffer.alloc(addressLength);
    if (Buffer.byteLength(path) > 107) throw new InputError('socketPath', path, 'at most 107 octets');
    address.writeUInt16LE(AF_UNIX, 0);
    address.write(path, 2);
    rmSync(path, { force: true });
    this.#fd = checked(`open ${path}`, libc().socket(AF_UNIX, SOCK_DGRAM, 0));
    checked(`bind ${path}`, libc().bind(this.#fd, address, addressLength));
    chmodSync(path, 0o600);
  }

  /** The next that waits; undefined when none does. @throws KernelError */
  receive(): Handed | undefined {
    this.#control.fill(0);
    const read = recvmsg()(
      this.#fd,
      {
        ...{ msg_name: null, msg_namelen: 0 },
        ...{ msg_iov: [{ iov_base: this.#text, iov_len: longestText }], msg_iovlen: 1 },
        ...{ msg_control: this.#control, msg_controllen: this.#control.length, msg_flags: 0 },
      },
      MSG_CMSG_CLOEXEC,
    );
    if (Number(read) < 0) {
      const reason = lastErrno();
      // The first two are one number.
      if (['EAGAIN', 'EWOULDBLOCK', 'EINTR'].includes(reason)) return undefined;
      throw new KernelError(`receive at ${this.path}`, reason);
    }
    const text = this.#text.toString('utf8', 0, Number(read));
    const isDescriptor =
      this.#control.readUInt32LE(0) >= controlLength &&
      this.#control.readInt32LE(8) === SOL_SOCKET &&
      this.#control.readInt32LE(12) === SCM_RIGHTS;
    return isDescriptor ? { text, fd: this.#control.readInt32LE(16) } : { text };
  }

  close(): void {
    closeSync(this.#fd);
    rmSync(this.path, { force: true });
  }
}
