import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Server, type Socket } from 'node:net';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import type { Clock } from '../../../src/base/clock.ts';
import { Connection } from '../../../src/bgp/connection.ts';
import type { Ending } from '../../../src/bgp/fsm.ts';
import { openOf, type SessionConfig } from '../../../src/bgp/negotiate.ts';
import { readFrame } from '../../../src/bgp/wire/framing.ts';
import { writeMessage } from '../../../src/bgp/wire/message.ts';
import { parseIp } from '../../../src/model/address.ts';
import { until } from '../../support/wait.ts';

/** Time that the test moves. */
class TestClock implements Clock {
  #now = 0;
  readonly #timers = new Set<{ at: number; action: () => void }>();

  monotonic = () => this.#now;
  wall = () => new Date(this.#now);
  after = (milliseconds: number, action: () => void) => {
    const timer = { at: this.#now + milliseconds, action };
    this.#timers.add(timer);
    return () => void this.#timers.delete(timer);
  };

  advance(seconds: number): void {
    this.#now += seconds * 1000;
    for (const timer of [...this.#timers]) {
      if (timer.at <= this.#now && this.#timers.delete(timer)) timer.action();
    }
  }
}

const config: SessionConfig = {
  asn: 64512,
  identifier: parseIp('10.0.0.1'),
  peerAsn: 64512,
  families: [4],
  holdSeconds: 90,
  keepaliveSeconds: 30,
  restart: { restarted: false, restartSeconds: 120, preserved: false },
  initiative: 'dial',
  connectRetrySeconds: 1,
  idleHoldSeconds: 1,
};
const keepalive = writeMessage({ type: 'keepalive' });
const open = writeMessage({ type: 'open', open: openOf({ ...config, identifier: parseIp('10.0.0.2') }) });

let server: Server;
let peer: Socket;
let heard: Buffer;
let clock: TestClock;
let endings: Ending[];
let connection: Connection;
let extra: Partial<SessionConfig>;

beforeEach(async () => {
  server = createServer();
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  clock = new TestClock();
  endings = [];
  extra = {};
  heard = Buffer.alloc(0);
  const nothing = () => undefined;
  connection = new Connection('us', {
    clock,
    random: () => 1,
    config: () => ({ ...config, ...extra }),
    dial: () => connect((server.address() as AddressInfo).port, '127.0.0.1'),
    events: {
      moved: nothing,
      opened: nothing,
      up: nothing,
      ended: (_, ending) => void endings.push(ending),
      update: nothing,
      refresh: nothing,
      drained: nothing,
      taken: nothing,
    },
  });
  connection.event({ on: 'start' });
  [peer] = (await once(server, 'connection')) as [Socket];
  peer.on('data', (chunk) => {
    heard = Buffer.concat([heard, chunk]);
  });
});

afterEach(() => {
  connection.event({ on: 'stop' });
  connection.dispose();
  peer.destroy();
  server.close();
});

async function established(): Promise<void> {
  peer.write(Buffer.concat([open, keepalive]));
  await until(() => connection.state === 'Established', { within: 5000, what: 'Established' });
}

/** Runs in the event loop's timer phase, where timers expire in earnest. */
function inTimerPhase(action: () => void): Promise<void> {
  return new Promise((resolve) =>
    setTimeout(() => {
      action();
      resolve();
    }, 0),
  );
}

function sent(): string[] {
  const found: string[] = [];
  for (let at = 0; ; ) {
    const frame = readFrame(heard, at);
    if (!frame) return found;
    found.push(frame.type === 'notification' ? `notification ${frame.body[0]}/${frame.body[1]}` : frame.type);
    at += frame.length;
  }
}

describe('the hold timer', () => {
  test('ends a silent session with 4/0, which arrives', async () => {
    await established();
    await inTimerPhase(() => clock.advance(91));
    await once(peer, 'end');
    expect(sent().at(-1)).toBe('notification 4/0');
    expect(endings).toMatchObject([{ by: 'us', reason: 'hold timer expired' }]);
  });

  test('reads what waits in the socket before it judges', async () => {
    await established();
    await inTimerPhase(() => {
      // Written while the event loop was busy elsewhere; the timer comes up before the bytes are read.
      peer.write(keepalive);
      clock.advance(91);
    });
    const before = sent().length;
    await inTimerPhase(() => clock.advance(31));
    await until(() => sent().length > before, { within: 5000, what: 'our next keepalive' });
    expect(connection.state).toBe('Established');
    expect(endings).toEqual([]);
  });
});

describe('the stream', () => {
  test('may arrive octet by octet', async () => {
    for (const octet of Buffer.concat([open, keepalive])) peer.write(Uint8Array.of(octet));
    await until(() => connection.state === 'Established', { within: 5000, what: 'Established' });
  });

  test('that is no BGP is refused with 1/1, and the reason arrives before the end', async () => {
    peer.write('GET / HTTP/1.1\r\n\r\n'.repeat(500));
    await once(peer, 'end');
    expect(sent()).toEqual(['open', 'notification 1/1']);
    expect(connection.state).toBe('Idle');
  });

  test('a NOTIFICATION is not answered with one', async () => {
    await established();
    const notification = { code: 6, subcode: 4, data: new Uint8Array(0) };
    peer.write(writeMessage({ type: 'notification', notification }));
    await once(peer, 'end');
    expect(sent()).toEqual(['open', 'keepalive']);
    expect(endings).toMatchObject([{ by: 'peer', notification }]);
  });

  test('a second OPEN in Established is refused with 5/3', async () => {
    await established();
    peer.write(open);
    await once(peer, 'end');
    expect(sent().at(-1)).toBe('notification 5/3');
  });

  test('a lost connection is nobody’s offence', async () => {
    await established();
    peer.end();
    await until(() => endings.length === 1, { within: 5000, what: 'the end' });
    expect(endings).toEqual([{ by: 'tcp', reason: 'closed by the peer' }]);
  });
});

describe('the send hold timer', () => {
  /** More than the buffers of both sockets hold. */
  const flood = [new Uint8Array(32 << 20)];

  test('ends the session of a peer that does not read, without a message that it would not read either', async () => {
    extra = { sendHoldSeconds: 20 };
    await established();
    peer.pause();
    connection.send(flood);
    await inTimerPhase(() => clock.advance(19));
    expect(connection.state).toBe('Established');
    await inTimerPhase(() => clock.advance(2));
    await until(() => endings.length > 0, { within: 5000, what: 'the end' });
    expect(endings).toMatchObject([{ by: 'us', reason: 'sendHold/0 (8/0)' }]);
  });

  test('leaves one alone that has read at last', async () => {
    extra = { sendHoldSeconds: 20 };
    await established();
    peer.pause();
    connection.send(flood);
    await inTimerPhase(() => clock.advance(19));
    peer.removeAllListeners('data').resume();
    await until(() => connection.unsent === 0, { within: 10_000, what: 'everything read' });
    await inTimerPhase(() => clock.advance(19));
    await inTimerPhase(() => undefined);
    expect(connection.state).toBe('Established');
  });
});
