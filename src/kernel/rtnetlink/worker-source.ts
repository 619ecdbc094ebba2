/**
 * The monitor thread, as source text: it must start alike from TypeScript sources and from one bundled file, and so
 * imports nothing but koffi, by the path that it is given. It posts each datagram as it came, `overrun` when events
 * were lost (the kernel's ENOBUFS, or the main thread too far behind), and ends when told to.
 *
 * What felix did itself it knows: a hundred thousand routes of its own are not told back to it.
 *
 * control[0]: 1 = stop. control[1]: datagrams posted and not yet taken.
 */
export const workerSource = `
'use strict';
const { parentPort, workerData } = require('node:worker_threads');
const { constants, endianness } = require('node:os');
const koffi = require(workerData.koffi);
const recv = koffi.load(null).func('int64_t recv(int fd, void *bytes, size_t length, int flags)');
const { EAGAIN, EINTR, ENOBUFS } = constants.errno;
const { fd, control, queueLimit, quietPort } = workerData;
const buffer = new Uint8Array(256 * 1024);
const view = new DataView(buffer.buffer);
const little = endianness() === 'LE';
// One message, RTM_NEWROUTE or RTM_DELROUTE, that the kernel sent because that port asked for it (nlmsg_pid).
function quiet(length) {
  if (quietPort === 0 || length < 16) return false;
  const type = view.getUint16(4, little);
  if (type !== 24 && type !== 25) return false;
  return view.getUint32(12, little) === quietPort && ((view.getUint32(0, little) + 3) & ~3) >= length;
}
let behind = false;
parentPort.postMessage('ready');
while (Atomics.load(control, 0) === 0) {
  const length = recv(fd, buffer, buffer.length, 0);
  if (length < 0) {
    const errno = koffi.errno();
    if (errno === ENOBUFS) parentPort.postMessage('overrun');
    else if (errno !== EAGAIN && errno !== EINTR) throw new Error('rtnetlink monitor: recv: errno ' + errno);
    continue;
  }
  if (quiet(length)) continue;
  if (Atomics.load(control, 1) >= queueLimit) {
    if (!behind) parentPort.postMessage('overrun');
    behind = true;
    continue;
  }
  behind = false;
  Atomics.add(control, 1, 1);
  parentPort.postMessage(buffer.slice(0, length));
}
`;
