import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Server, type Socket } from 'node:net';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { createLog } from '../../../src/base/log.ts';
import { openOf } from '../../../src/bgp/negotiate.ts';
import { Speaker } from '../../../src/bgp/speaker.ts';
import { errorCodes, subcodes } from '../../../src/bgp/wire/errors.ts';
import { readFrame } from '../../../src/bgp/wire/framing.ts';
import { writeMessage } from '../../../src/bgp/wire/message.ts';
import { parseCidr, parseIp } from '../../../src/model/address.ts';
import { ManualClock } from '../../support/manual-clock.ts';
import { until } from '../../support/wait.ts';

/* Two connections at once with a peer that sees their messages in another order than we do. RFC 4271 §6.8. */

const us = parseIp('127.0.0.1');
const them = parseIp('127.0.0.2');

const keepalive = writeMessage({ type: 'keepalive' });
const refused = writeMessage({
  type: 'notification',
  notification: { code: errorCodes.cease, subcode: subcodes.cease.collision, data: new Uint8Array(0) },
});

/** A connection of the scripted peer. */
class Line {
  #heard = Buffer.alloc(0);
  closed = false;

  constructor(readonly socket: Socket) {
    socket.on('data', (chunk) => {
      this.#heard = Buffer.concat([this.#heard, chunk]);
    });
    socket.on('error', () => socket.destroy());
    socket.on('close', () => {
      this.closed = true;
    });
    socket.on('end', () => {
      this.closed = true;
    });
  }

  /** The types of the messages so far. */
  get heard(): string[] {
    const types: string[] = [];
    for (let at = 0; ; ) {
      const frame = readFrame(this.#heard, at);
      if (!frame) return types;
      types.push(frame.type);
      at += frame.length;
    }
  }

  async hears(type: string): Promise<void> {
    await until(() => this.heard.includes(type), { within: 5000, what: `${type}; heard ${this.heard}` });
  }
}

let server: Server;
let clock: ManualClock;
let speaker: Speaker;
let port: number;

/** @param identifier the peer's, which says who prevails */
async function begin(identifier: string): Promise<{ dialled: Line; incoming: () => Promise<Line>; open: Uint8Array }> {
  const local = server.address() as AddressInfo;
  const dialled = once(server, 'connection');
  clock = new ManualClock();
  const peer = {
    name: 'them',
    role: 'peer',
    address: them,
    port: local.port,
    asn: 64513,
    families: [4],
    localAddress: us,
    initiative: 'dial',
    holdSeconds: 90,
    restartSeconds: 0,
    acceptDefault: false,
    nextHopMode: 'auto',
  } as const;
  const config = {
    asn: 64512,
    identifier: parseIp('10.0.0.5'),
    listenPort: port,
    listenAddresses: [us],
    addresses: [{ address: us, subnet: parseCidr('127.0.0.1/32') }],
    originations: [],
    peers: [peer],
  };
  speaker = new Speaker(config, { clock, log: createLog('test', 'silent') });
  await speaker.start();
  const restart = { restarted: false, restartSeconds: 0, preserved: false };
  const session = { ...peer, restart, connectRetrySeconds: 1, idleHoldSeconds: 1 };
  const opening = openOf({ ...session, asn: 64513, peerAsn: 64512, identifier: parseIp(identifier) });
  const [socket] = await dialled;
  const incoming = async () => {
    const line = new Line(connect({ host: us, port, localAddress: them }));
    await line.hears('open');
    return line;
  };
  return { dialled: new Line(socket), incoming, open: writeMessage({ type: 'open', open: opening }) };
}

const status = () => speaker.peers()[0] ?? expect.fail('no peer');

async function established(): Promise<void> {
  await until(() => status().state === 'Established', { within: 5000, what: 'the session' });
}

beforeEach(async () => {
  server = createServer().listen(0, them);
  await once(server, 'listening');
  const other = createServer().listen(0, us);
  await once(other, 'listening');
  ({ port } = other.address() as AddressInfo);
  other.close();
  await once(other, 'close');
});

afterEach(async () => {
  await speaker.stop('shutdown');
  server.close();
});

/** Both connections are open on our side, and the one that we dialled is established here. */
async function race(identifier: string): Promise<{ dialled: Line; accepted: Line; open: Uint8Array }> {
  const { dialled, incoming, open } = await begin(identifier);
  await dialled.hears('open');
  dialled.socket.write(open);
  await dialled.hears('keepalive');
  const accepted = await incoming();
  dialled.socket.write(keepalive);
  await established();
  return { dialled, accepted, open };
}

for (const [who, identifier] of [
  ['the peer', '10.0.0.9'],
  ['this side', '10.0.0.1'],
] as const) {
  test(`${who} prevails: the peer had not seen the session come up, and keeps the other connection`, async () => {
    const { dialled, accepted, open } = await race(identifier);
    accepted.socket.write(open);
    await accepted.hears('keepalive');
    dialled.socket.end(refused);
    accepted.socket.write(keepalive);
    await until(() => dialled.closed && status().state === 'Established', { within: 5000, what: 'one session' });
    await accepted.hears('update');
    expect(status()).toMatchObject({ state: 'Established', flaps: 0 });
    expect(status()).not.toHaveProperty('lastError');
    expect(accepted.heard).not.toContain('notification');
  });

  test(`${who} prevails: the peer takes the other connection over before it ends this one`, async () => {
    const { dialled, accepted, open } = await race(identifier);
    accepted.socket.write(Buffer.concat([open, keepalive]));
    await dialled.hears('notification');
    await accepted.hears('update');
    expect(status()).toMatchObject({ state: 'Established', flaps: 0 });
  });

  test(`${who} prevails: the peer has seen the session come up, and ends the other connection`, async () => {
    const { dialled, accepted, open } = await race(identifier);
    accepted.socket.write(open);
    await accepted.hears('keepalive');
    accepted.socket.end(refused);
    await until(() => accepted.closed, { within: 5000, what: 'the end of the other connection' });
    await dialled.hears('update');
    expect(status()).toMatchObject({ state: 'Established', flaps: 0 });
    expect(dialled.heard).not.toContain('notification');
  });

  test(`${who} prevails: a peer that does not decide loses the other connection after a moment`, async () => {
    const { dialled, accepted, open } = await race(identifier);
    accepted.socket.write(open);
    await accepted.hears('keepalive');
    expect(accepted.heard).not.toContain('notification');
    clock.advance(2000);
    await accepted.hears('notification');
    expect(status()).toMatchObject({ state: 'Established', flaps: 0 });
    expect(dialled.heard).not.toContain('notification');
  });
}

test('a session that the peer ends for a collision that is none counts as lost', async () => {
  const { dialled, open } = await begin('10.0.0.9');
  dialled.socket.write(Buffer.concat([open, keepalive]));
  await established();
  dialled.socket.end(refused);
  await until(() => status().flaps === 1, { within: 5000, what: 'the end of the session' });
  expect(status().lastError).toMatchObject({ by: 'peer', reason: expect.stringContaining('(6/7)') });
});
