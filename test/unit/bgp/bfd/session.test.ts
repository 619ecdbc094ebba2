import { beforeEach, describe, expect, test } from 'vitest';
import type { Change } from '../../../../src/bgp/bfd/fsm.ts';
import { type ControlPacket, readPacket } from '../../../../src/bgp/bfd/packet.ts';
import { Session } from '../../../../src/bgp/bfd/session.ts';
import type { BfdSettings } from '../../../../src/bgp/bfd/settings.ts';
import { detectionTime, jittered, transmitInterval } from '../../../../src/bgp/bfd/timing.ts';
import { ManualClock } from '../../../support/manual-clock.ts';

const settings: BfdSettings = { minTxMs: 100, minRxMs: 200, multiplier: 3, multihop: false };

let clock: ManualClock;
let sent: { readonly at: number; readonly packet: ControlPacket }[];
let changes: Change[];
let session: Session;
/** 1: the whole interval, without jitter. */
let random: number;

function build(options: Partial<BfdSettings> = {}): Session {
  return new Session(
    7,
    { ...settings, ...options },
    {
      clock,
      random: () => random,
      send: (octets) => sent.push({ at: clock.monotonic(), packet: readPacket(octets) }),
      afterReads: (action) => action(),
      changed: (_, change) => {
        if (change) changes.push(change);
      },
    },
  );
}

beforeEach(() => {
  clock = new ManualClock();
  sent = [];
  changes = [];
  random = 1;
  session = build();
});

const theirs: ControlPacket = {
  diagnostic: 0,
  state: 'Down',
  poll: false,
  final: false,
  independent: false,
  demand: false,
  multiplier: 4,
  myDiscriminator: 99,
  yourDiscriminator: 7,
  desiredMinTxUs: 1_000_000,
  requiredMinRxUs: 150_000,
  requiredMinEchoRxUs: 0,
};

const hear = (fields: Partial<ControlPacket>): void => session.receive({ ...theirs, ...fields });
const last = (): ControlPacket | undefined => sent.at(-1)?.packet;
const times = (): number[] => sent.map(({ at }) => at);

/** Brings the session up; the peer wants packets at least 150 ms apart and sends every 250 ms. */
function bringUp(): void {
  session.start();
  hear({ yourDiscriminator: 0 });
  hear({ state: 'Init' });
  hear({ state: 'Up', desiredMinTxUs: 250_000, final: true });
  sent = [];
}

test('Down to Up by three-way handshake, each step told at once', () => {
  session.start();
  expect(last()).toMatchObject({ state: 'Down', yourDiscriminator: 0, desiredMinTxUs: 1_000_000, poll: false });
  hear({ yourDiscriminator: 0 });
  expect(last()).toMatchObject({ state: 'Init', yourDiscriminator: 99, desiredMinTxUs: 1_000_000 });
  hear({ state: 'Init' });
  expect(last()).toMatchObject({ state: 'Up', poll: true, desiredMinTxUs: 100_000, requiredMinRxUs: 200_000 });
  expect(changes.map(({ from, to }) => `${from} ${to}`)).toEqual(['Down Init', 'Init Up']);
  expect(times()).toEqual([0, 0, 0]);
});

test('slow while not Up: a second apart at most, whatever is configured', () => {
  session.start();
  clock.advance(3000);
  expect(times()).toEqual([0, 1000, 2000, 3000]);
});

test('Up: the slower of what we want to send and the peer wants to receive', () => {
  bringUp();
  hear({ state: 'Up', desiredMinTxUs: 250_000 });
  clock.advance(450);
  expect(times()).toEqual([150, 300, 450]);
  hear({ state: 'Up', desiredMinTxUs: 250_000, requiredMinRxUs: 50_000 });
  sent = [];
  clock.advance(200);
  expect(times()).toEqual([550, 650]);
});

test('the poll bit is set until the peer has answered', () => {
  session.start();
  hear({ yourDiscriminator: 0 });
  hear({ state: 'Init' });
  clock.advance(300);
  expect(sent.slice(-2).map(({ packet }) => packet.poll)).toEqual([true, true]);
  hear({ state: 'Up', final: true });
  clock.advance(300);
  expect(last()?.poll).toBe(false);
});

test('a poll is answered at once, with final and without poll', () => {
  bringUp();
  clock.advance(40);
  hear({ state: 'Up', poll: true, desiredMinTxUs: 250_000 });
  expect(times()).toEqual([40]);
  expect(last()).toMatchObject({ final: true, poll: false, state: 'Up' });
  clock.advance(110);
  expect(times()).toEqual([40, 150]);
});

test("down after the peer's multiplier times the slower of both intervals", () => {
  bringUp();
  // 4 × max(200 ms of ours, 250 ms of theirs).
  clock.advance(999);
  expect(session.state).toBe('Up');
  clock.advance(2);
  expect(session.state).toBe('Down');
  expect(changes.at(-1)).toMatchObject({ from: 'Up', to: 'Down', diagnostic: 'detectionTimeExpired' });
  expect(last()).toMatchObject({ state: 'Down', diagnostic: 1, yourDiscriminator: 0, desiredMinTxUs: 1_000_000 });
});

test('a packet that waited to be read counts before the detection time does', () => {
  const waiting: ControlPacket[] = [];
  session = new Session(7, settings, {
    clock,
    random: () => 1,
    send: () => undefined,
    afterReads: (action) => {
      for (const packet of waiting.splice(0)) session.receive(packet);
      action();
    },
    changed: () => undefined,
  });
  bringUp();
  waiting.push({ ...theirs, state: 'Up', desiredMinTxUs: 250_000 });
  clock.advance(1500);
  expect(session.state).toBe('Up');
  clock.advance(600);
  expect(session.state).toBe('Down');
});

test('the peer that begins anew takes the session down', () => {
  bringUp();
  hear({ state: 'Down', yourDiscriminator: 0, myDiscriminator: 100 });
  expect(changes.at(-1)).toMatchObject({ from: 'Up', to: 'Down', diagnostic: 'neighborSignaledDown' });
  expect(last()).toMatchObject({ state: 'Down', diagnostic: 3, yourDiscriminator: 100 });
});

test('a peer that wants no packets gets none but answers', () => {
  bringUp();
  hear({ state: 'Up', requiredMinRxUs: 0, desiredMinTxUs: 250_000 });
  clock.advance(900);
  expect(sent).toEqual([]);
  hear({ state: 'Up', requiredMinRxUs: 0, desiredMinTxUs: 250_000, poll: true });
  expect(last()?.final).toBe(true);
});

test('in demand mode a peer that is Up is not sent anything', () => {
  bringUp();
  hear({ state: 'Up', demand: true, desiredMinTxUs: 250_000 });
  clock.advance(900);
  expect(sent).toEqual([]);
});

test('stopped: AdminDown is told once, then silence, whatever comes', () => {
  bringUp();
  session.stop();
  expect(last()).toMatchObject({ state: 'AdminDown', diagnostic: 7 });
  hear({ state: 'Down' });
  clock.advance(10_000);
  expect(sent).toHaveLength(1);
  expect(clock.armed).toBe(0);
});

test('the status tells both sides and the negotiated times', () => {
  bringUp();
  expect(session.status()).toEqual({
    state: 'Up',
    remoteState: 'Up',
    diagnostic: 'none',
    remoteDiagnostic: 'none',
    localDiscriminator: 7,
    remoteDiscriminator: 99,
    transmitMs: 150,
    detectionMs: 1000,
  });
});

describe('timing', () => {
  test.each([
    [3, 0, 750],
    [3, 1, 1000],
    [1, 0, 750],
    [1, 1, 900],
  ])('jitter with multiplier %i at %f', (multiplier, at, expected) => {
    expect(jittered(1000, multiplier, at)).toBeCloseTo(expected);
  });
  test('intervals and detection', () => {
    expect(transmitInterval(100, 200)).toBe(200);
    expect(transmitInterval(300, 200)).toBe(300);
    expect(transmitInterval(300, 0)).toBeUndefined();
    expect(detectionTime(3, 300, 100)).toBe(900);
    expect(detectionTime(5, 100, 300)).toBe(1500);
  });
  test('jitter shortens the interval of a session', () => {
    random = 0;
    session.start();
    clock.advance(1600);
    expect(times()).toEqual([0, 750, 1500]);
  });
});
