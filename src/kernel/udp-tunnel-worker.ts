/**
 * The thread of a UDP tunnel, as source text: it must start alike from TypeScript sources and from one bundled file, and
 * so imports nothing but koffi, by the path that it is given. It waits for the TUN device, the UDP socket and an eventfd
 * that says that there is a message, and ends when a message says so or the device is gone.
 *
 * A message is { stop: true }, or a table: { lengths: [26, …] longest first, networks: [Map of masked address → octets of
 * the node's sockaddr_in, …] by length, sources: Set of addresses that may send }, IPv4 addresses as numbers.
 *
 * counts (doubles, shared): 0 sent, 1 received, 2 to no node, 3 from strangers, 4 no IPv4 packet, 5 refused by the kernel.
 */
export const udpTunnelWorkerSource = `
'use strict';
const { parentPort, receiveMessageOnPort, workerData } = require('node:worker_threads');
const { constants, endianness } = require('node:os');
const koffi = require(workerData.koffi);
const libc = koffi.load(null);
const poll = libc.func('int poll(void *fds, unsigned long count, int timeout)');
const read = libc.func('int64_t read(int fd, void *bytes, size_t length)');
const write = libc.func('int64_t write(int fd, void *bytes, size_t length)');
const sendto = libc.func('int64_t sendto(int fd, void *bytes, size_t length, int flags, void *to, uint32_t size)');
const recvfrom = libc.func('int64_t recvfrom(int fd, void *bytes, size_t length, int flags, void *from, void *size)');
const { EAGAIN, EINTR } = constants.errno;
const EBADFD = 77;
const POLLIN = 1;
const { tun, udp, wake, counts } = workerData;
const little = endianness() === 'LE';

// Packets that one side may have before it is the other's turn.
const turn = 64;
const packet = new Uint8Array(65536);
const view = new DataView(packet.buffer);
const from = new Uint8Array(16);
const fromView = new DataView(from.buffer);
const size = new Uint8Array(4);
const sizeView = new DataView(size.buffer);
const fds = new Uint8Array(24);
const fdsView = new DataView(fds.buffer);
[tun, udp, wake].forEach((fd, at) => {
  fdsView.setInt32(at * 8, fd, little);
  fdsView.setInt16(at * 8 + 4, POLLIN, little);
});
const ready = (at) => fdsView.getUint16(at * 8 + 6, little);

let lengths = [];
let networks = [];
let sources = new Set();

function nodeOf(address) {
  for (let at = 0; at < lengths.length; at++) {
    const length = lengths[at];
    const found = networks[at].get(length === 0 ? 0 : (address & (-1 << (32 - length))) >>> 0);
    if (found) return found;
  }
  return undefined;
}

/** Whether it is the whole of an IPv4 packet (RFC 791 §3.1). */
function isPacket(length) {
  return length >= 20 && packet[0] >> 4 === 4 && view.getUint16(2) === length;
}

/** Whether the descriptor has more to give. */
function failed(what) {
  const errno = koffi.errno();
  if (errno === EAGAIN) return false;
  if (errno === EINTR) return true;
  throw new Error('UDP tunnel: ' + what + ': ' + (errno === EBADFD ? 'the device is gone' : 'errno ' + errno));
}

function fromDevice() {
  for (let at = 0; at < turn; at++) {
    const length = Number(read(tun, packet, packet.length));
    if (length < 0) {
      if (failed('read')) continue;
      return at > 0;
    }
    // The kernel sends IPv6 neighbour discovery into every device.
    if (packet[0] >> 4 !== 4) continue;
    const node = length >= 20 ? nodeOf(view.getUint32(16)) : undefined;
    if (!node) counts[2]++;
    else if (sendto(udp, packet, length, 0, node, 16) < 0) counts[5]++;
    else counts[0]++;
  }
  return true;
}

function fromNodes() {
  for (let at = 0; at < turn; at++) {
    sizeView.setUint32(0, 16, little);
    const length = Number(recvfrom(udp, packet, packet.length, 0, from, size));
    if (length < 0) {
      if (failed('receive')) continue;
      return;
    }
    if (!sources.has(fromView.getUint32(4))) counts[3]++;
    else if (!isPacket(length)) counts[4]++;
    else if (write(tun, packet, length) < 0) counts[5]++;
    else counts[1]++;
  }
}

/** Takes every message that is there. @returns whether to go on */
function messages() {
  read(wake, size8, 8);
  for (let one = receiveMessageOnPort(parentPort); one; one = receiveMessageOnPort(parentPort)) {
    if (one.message.stop) return false;
    ({ lengths, networks, sources } = one.message);
  }
  return true;
}
const size8 = new Uint8Array(8);

function run() {
  for (;;) {
    // A second at most, so that the end of the process need not wait for a packet.
    const found = poll(fds, 3, 1000);
    if (found < 0) {
      failed('poll');
      continue;
    }
    if (found === 0) continue;
    if (ready(2) && !messages()) return;
    if (ready(0) && !fromDevice() && ready(0) !== POLLIN) throw new Error('UDP tunnel: the device is gone');
    if (ready(1)) fromNodes();
  }
}
run();
// Its port would keep the thread alive.
parentPort.close();
`;
