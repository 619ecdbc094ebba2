import { beforeEach, expect, test } from 'vitest';
import { Engine } from '../../../../src/bgp/bfd/engine.ts';
import { type ControlPacket, readPacket, writePacket } from '../../../../src/bgp/bfd/packet.ts';
import type { BfdStatus, BfdTarget, Counter } from '../../../../src/bgp/bfd/settings.ts';
import { parseIp } from '../../../../src/model/address.ts';
import { ManualClock } from '../../../support/manual-clock.ts';

const target: BfdTarget = {
  name: 'tor',
  address: parseIp('10.0.0.1'),
  minTxMs: 300,
  minRxMs: 300,
  multiplier: 3,
  multihop: false,
};

let counts: Map<Counter, number>;
let statuses: Map<number, BfdStatus>;
let engine: Engine;

beforeEach(() => {
  counts = new Map();
  statuses = new Map();
  let seed = 0;
  engine = new Engine({
    clock: new ManualClock(),
    random: () => {
      seed = (seed + 0.1) % 1;
      return seed;
    },
    afterReads: (action) => action(),
    count: (counter) => counts.set(counter, (counts.get(counter) ?? 0) + 1),
    changed: (key, status) => statuses.set(key, status),
  });
});

function packet(yourDiscriminator: number, state: ControlPacket['state'] = 'Down'): Uint8Array {
  return writePacket({
    diagnostic: 0,
    state,
    poll: false,
    final: false,
    independent: false,
    demand: false,
    multiplier: 3,
    myDiscriminator: 5,
    yourDiscriminator,
    desiredMinTxUs: 1_000_000,
    requiredMinRxUs: 300_000,
    requiredMinEchoRxUs: 0,
  });
}

test('a first packet is found by its source, later ones by our discriminator', () => {
  const sent: ControlPacket[] = [];
  engine.open(1, target, (octets) => sent.push(readPacket(octets)));
  engine.open(2, { ...target, multihop: true }, () => undefined);
  engine.receive(packet(0), { address: '10.0.0.1' }, false);
  expect(statuses.get(1)?.state).toBe('Init');
  expect(statuses.get(2)?.state).toBe('Down');
  engine.receive(packet(sent[0]?.myDiscriminator ?? 0, 'Init'), { address: '10.0.0.1' }, false);
  expect(statuses.get(1)?.state).toBe('Up');
});

test.each<[Counter, string, boolean, number | 'own']>([
  ['unknownPeer', '10.0.0.9', false, 0],
  ['unknownPeer', '10.0.0.1', true, 0],
  ['unknownDiscriminator', '10.0.0.1', false, 12345],
  ['wrongSource', '10.0.0.9', false, 'own'],
  ['wrongSource', '10.0.0.1', true, 'own'],
])('dropped and counted: %s from %s, multihop %s', (counter, from, multihop, discriminator) => {
  let own = 0;
  engine.open(1, target, (octets) => {
    own = readPacket(octets).myDiscriminator;
  });
  engine.receive(packet(discriminator === 'own' ? own : discriminator), { address: from }, multihop);
  expect(Object.fromEntries(counts)).toEqual({ received: 1, [counter]: 1 });
  expect(statuses.get(1)?.state).toBe('Down');
});

test('malformed packets are counted and touch nothing', () => {
  engine.open(1, target, () => undefined);
  engine.receive(new Uint8Array(3), { address: '10.0.0.1' }, false);
  expect(Object.fromEntries(counts)).toEqual({ received: 1, malformed: 1 });
});

test('a closed session is told of, and its packets are unknown', () => {
  const sent: ControlPacket[] = [];
  engine.open(1, target, (octets) => sent.push(readPacket(octets)));
  engine.close(1);
  engine.close(1);
  expect(sent.map(({ state }) => state)).toEqual(['Down', 'AdminDown']);
  engine.receive(packet(sent[0]?.myDiscriminator ?? 0), { address: '10.0.0.1' }, false);
  engine.receive(packet(0), { address: '10.0.0.1' }, false);
  expect(counts.get('unknownDiscriminator')).toBe(1);
  expect(counts.get('unknownPeer')).toBe(1);
});

test('of two sessions with one link-local address, the device tells which a packet is for', () => {
  const linkLocal = { ...target, address: parseIp('fe80::1') };
  engine.open(1, { ...linkLocal, interface: 'eth0' }, () => undefined);
  engine.open(2, { ...linkLocal, interface: 'eth1' }, () => undefined);
  engine.receive(packet(0), { address: 'fe80::1', zone: 'eth1' }, false);
  expect(statuses.get(1)?.state).toBe('Down');
  expect(statuses.get(2)?.state).toBe('Init');
  engine.receive(packet(0), { address: 'fe80::1' }, false);
  expect(counts.get('unknownPeer')).toBe(1);
});
