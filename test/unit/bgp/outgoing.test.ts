import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Server, type Socket } from 'node:net';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { Outgoing } from '../../../src/bgp/outgoing.ts';
import { takeFrom, taken } from '../../../src/bgp/transport.ts';
import { until } from '../../support/wait.ts';

let server: Server;
let ours: Socket;
let theirs: Socket;

beforeEach(async () => {
  server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const accepted = once(server, 'connection') as Promise<[Socket]>;
  theirs = connect((server.address() as AddressInfo).port, '127.0.0.1');
  [ours] = await accepted;
});

afterEach(() => {
  ours.destroy();
  theirs.destroy();
  server.close();
});

/** Octets that tell where in the whole they stand. */
function numbered(length: number): Buffer {
  const octets = Buffer.alloc(length * 4);
  for (let i = 0; i < length; i++) octets.writeUInt32BE(i, i * 4);
  return octets;
}

test('all arrives in order, whether the kernel takes it, a part of it, or nothing', async () => {
  const whole = numbered(2_000_000);
  let progress = 0;
  const outgoing = new Outgoing(ours, () => progress++);
  theirs.pause();
  let at = 0;
  // Growing pieces: the first ones go directly, one in the middle in part, and those behind it wait.
  for (let size = 1; at < whole.length; size *= 3) {
    const end = Math.min(at + size, whole.length);
    const middle = at + ((end - at) >> 1);
    outgoing.send([whole.subarray(at, middle), whole.subarray(middle, end)]);
    at = end;
    await new Promise((resolve) => setImmediate(resolve));
  }
  expect(outgoing.unsent).toBeGreaterThan(0);
  const chunks: Buffer[] = [];
  theirs.on('data', (chunk) => chunks.push(chunk)).resume();
  await until(() => outgoing.unsent === 0, { within: 10_000, what: 'all of it taken' });
  await until(() => chunks.reduce((sum, { length }) => sum + length, 0) === whole.length, {
    within: 10_000,
    what: 'all of it read',
  });
  expect(Buffer.concat(chunks).equals(whole)).toBe(true);
  expect(progress).toBeGreaterThan(2);
});

test('a connection that is gone is told by the socket, and nothing is thrown', async () => {
  theirs.resetAndDestroy();
  await once(ours, 'error');
  const outgoing = new Outgoing(ours, () => undefined);
  outgoing.send([numbered(1)]);
  outgoing.flush();
  expect(outgoing.unsent).toBe(0);
});

test('an accepted connection that was taken over reads and ends as before', async () => {
  const socket = taken(ours);
  const heard: number[] = [];
  takeFrom(socket, (buffer, length) => heard.push(...buffer.subarray(0, length)));
  theirs.write(Uint8Array.of(1, 2));
  await until(() => heard.length === 2, { within: 5000, what: 'the first octets' });
  socket.pause();
  theirs.write(Uint8Array.of(3));
  socket.resume();
  await until(() => heard.length === 3, { within: 5000, what: 'the third octet' });
  expect(heard).toEqual([1, 2, 3]);
  new Outgoing(socket, () => undefined).send([Uint8Array.of(9)]);
  expect((await once(theirs, 'data'))[0]).toEqual(Buffer.of(9));
  expect(socket.remotePort).toBe(theirs.localPort);
  const ended = once(socket, 'end');
  theirs.end();
  await ended;
  await until(() => socket.closed, { within: 5000, what: 'the close' });
});
