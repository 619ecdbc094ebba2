import { type AddressInfo, createServer, type Socket } from 'node:net';
import koffi from 'koffi';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { Listening } from '../../../src/bgp/listening.ts';
import { descriptorOf, dial, protectAccepted, transportOf } from '../../../src/bgp/transport.ts';
import { type Family, familyOf, parseCidr, parseIp } from '../../../src/model/address.ts';
import { until } from '../../support/wait.ts';

/* What the kernel says of the sockets that sessions go over. */

const getsockopt = koffi
  .load(null)
  .func('int getsockopt(int fd, int level, int option, _Out_ uint8_t *value, _Inout_ uint32_t *length)');

function optionOf(socket: Socket, level: number, name: number): Buffer {
  const fd = descriptorOf(socket) ?? expect.fail('closed');
  const value = Buffer.alloc(64);
  const length = [value.length];
  expect(getsockopt(fd, level, name, value, length)).toBe(0);
  return value.subarray(0, length[0]);
}

const numberOf = (socket: Socket, level: number, name: number) => optionOf(socket, level, name).readInt32LE();
/** linux/in.h, in6.h: IP_TOS, IPV6_TCLASS; IP_TTL, IPV6_UNICAST_HOPS; IP_MINTTL, IPV6_MINHOPCOUNT. */
const names: Readonly<Record<Family, readonly [level: number, tos: number, hops: number, least: number]>> = {
  4: [0, 1, 2, 21],
  6: [41, 67, 16, 73],
};

/** What every session's socket has: the class, the hops of GTSM, milliseconds without an answer, no waiting for more. */
function shown(socket: Socket, family: Family) {
  const [level, tos, hops, least] = names[family];
  return {
    trafficClass: numberOf(socket, level, tos),
    hops: [numberOf(socket, level, hops), numberOf(socket, level, least)],
    userTimeout: numberOf(socket, 6, 18),
    noDelay: numberOf(socket, 6, 1) !== 0,
  };
}

let listening: Listening;
let sockets: Socket[];

beforeEach(() => {
  sockets = [];
  const failed = (error: Error) => expect.fail(error.message);
  listening = new Listening({ accept: (socket) => void sockets.push(socket), failed });
});

afterEach(() => {
  listening.close();
  for (const socket of sockets) socket.destroy();
});

async function freePort(host: string): Promise<number> {
  const server = createServer().listen(0, host);
  await new Promise((resolve) => server.once('listening', resolve));
  const { port } = server.address() as AddressInfo;
  await new Promise((resolve) => server.close(resolve));
  return port;
}

test.each([
  { own: '127.0.0.1', other: '127.0.0.2' },
  { own: '::1', other: '::1' },
])(
  'both who dialled and who was dialled, $own: CS6, GTSM, the user timeout, the device and the address',
  async (ends) => {
    const [own, other] = [parseIp(ends.own), parseIp(ends.other)];
    const family = familyOf(own);
    const port = await freePort(ends.other);
    const peer = {
      name: 'other',
      role: 'peer',
      address: other,
      port,
      asn: 65001,
      families: [family],
      interface: 'lo',
      localAddress: own,
      initiative: 'dial',
      ttlSecurity: 2,
      holdSeconds: 9,
      sendHoldSeconds: 47,
      restartSeconds: 0,
      acceptDefault: false,
      nextHopMode: 'auto',
    } as const;
    const prefix = parseCidr(family === 4 ? '127.0.0.0/8' : '::1/128');
    await listening.follow({
      asn: 64512,
      identifier: parseIp('10.0.0.1'),
      listenPort: port,
      listenAddresses: [other],
      addresses: [{ address: other, subnet: prefix }],
      peers: [{ ...peer, address: own }],
      originations: [],
    });
    const dialled = dial({ address: other, port, localAddress: own, ...transportOf(peer) });
    sockets.push(dialled);
    const accepted = await until(() => sockets[1], { within: 5000, what: 'the connection' });
    protectAccepted(accepted, family, transportOf(peer));
    expect(accepted.remoteAddress).toBe(ends.own);
    expect(optionOf(dialled, 1, 25).toString()).toBe('lo\0');
    const expected = { trafficClass: 0xc0, hops: [255, 254], userTimeout: 77_000 };
    expect(shown(accepted, family)).toEqual({ ...expected, noDelay: true });
    // Connection switches delays off once it has the socket.
    expect(shown(dialled, family)).toMatchObject(expected);
  },
);
