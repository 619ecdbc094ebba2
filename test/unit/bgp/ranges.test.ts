import { beforeEach, describe, expect, test } from 'vitest';
import type { Clock } from '../../../src/base/clock.ts';
import { createLog } from '../../../src/base/log.ts';
import { Secret } from '../../../src/base/secret.ts';
import { DynamicPeers, rangeFor } from '../../../src/bgp/dynamic.ts';
import { placesOf, protectionOf } from '../../../src/bgp/listening.ts';
import type { PeerConfig, RangeConfig, SpeakerConfig } from '../../../src/bgp/settings.ts';
import { parseCidr, parseIp } from '../../../src/model/address.ts';

const template: RangeConfig['peer'] = {
  role: 'peer',
  asn: 64512,
  families: [4],
  holdSeconds: 90,
  restartSeconds: 120,
  acceptDefault: false,
  nextHopMode: 'auto',
};

function range(name: string, prefix: string, limit: number, extra: Partial<RangeConfig['peer']> = {}): RangeConfig {
  return { name, prefix: parseCidr(prefix), limit, peer: { ...template, ...extra } };
}

function peer(address: string, extra: Partial<PeerConfig> = {}): PeerConfig {
  return { ...template, name: address, address: parseIp(address), port: 179, initiative: 'dial', ...extra };
}

function config(extra: Partial<SpeakerConfig>): SpeakerConfig {
  return {
    asn: 64512,
    identifier: parseIp('10.0.0.1'),
    listenPort: 179,
    addresses: [],
    peers: [],
    originations: [],
    ...extra,
  };
}

describe('the range for an address', () => {
  const ranges = [
    range('wide', '10.0.0.0/8', 9),
    range('narrow', '10.1.0.0/16', 9),
    range('link', 'fe80::/10', 9, { interface: 'eth0' }),
  ];
  test.each([
    ['10.2.0.1', undefined, 'wide'],
    ['10.1.0.1', undefined, 'narrow'],
    ['11.0.0.1', undefined, undefined],
    ['fe80::1', 'eth0', 'link'],
    ['fe80::1', 'eth1', undefined],
  ])('%s %s is in %s', (address, zone, expected) => {
    expect(rangeFor(ranges, { address: parseIp(address), ...(zone ? { zone } : {}) })?.name).toBe(expected);
  });
});

describe('peers of ranges', () => {
  let now: (() => void)[];
  let sleeping: Set<string>;
  let removed: string[];
  let dynamic: DynamicPeers;
  const limited = config({ ranges: [range('clients', '10.0.0.0/24', 2)], listenPort: 1179 });
  const admit = (address: string) => dynamic.admit({ address: parseIp(address) }, limited);
  const look = () => {
    for (const action of now.splice(0)) action();
  };

  beforeEach(() => {
    now = [];
    sleeping = new Set();
    removed = [];
    const clock: Clock = {
      monotonic: () => 0,
      wall: () => new Date(0),
      after: (_, action) => {
        now.push(action);
        return () => void now.splice(now.indexOf(action), 1);
      },
    };
    dynamic = new DynamicPeers({
      clock,
      log: createLog('test', 'silent'),
      dormant: (name) => sleeping.has(name),
      remove: (name) => void removed.push(name),
    });
  });

  test('are passive, named after range and address, and no more than the limit', () => {
    expect(admit('10.0.0.5')).toEqual({
      ...template,
      name: 'clients-10.0.0.5',
      address: '10.0.0.5',
      port: 1179,
      initiative: 'never',
      range: 'clients',
    });
    admit('10.0.0.6');
    expect(admit('10.0.0.7')).toEqual({ refused: 'the range clients has its limit of 2 peers' });
    expect(admit('192.0.2.1')).toBeUndefined();
  });

  test('that are gone make room at once, and are forgotten after two looks', () => {
    admit('10.0.0.5');
    admit('10.0.0.6');
    sleeping.add('clients-10.0.0.5');
    expect(admit('10.0.0.7')).toMatchObject({ name: 'clients-10.0.0.7' });
    expect(removed).toEqual(['clients-10.0.0.5']);
    sleeping.add('clients-10.0.0.6');
    look();
    expect(removed).toHaveLength(1);
    look();
    expect(removed).toEqual(['clients-10.0.0.5', 'clients-10.0.0.6']);
  });

  test('follow a change of their range, and end with it', () => {
    admit('10.0.0.5');
    const changed = config({ ranges: [range('clients', '10.0.0.0/24', 2, { holdSeconds: 30 })] });
    expect(dynamic.follow(changed)).toMatchObject([{ name: 'clients-10.0.0.5', holdSeconds: 30 }]);
    expect(dynamic.follow(config({}))).toEqual([]);
    expect(dynamic.follow({ ...changed, peers: [peer('10.0.0.5')] })).toEqual([]);
  });
});

describe('what is listened on', () => {
  test('every family that something is of, or just the addresses told', () => {
    expect(placesOf(config({ peers: [peer('10.0.0.2')] }))).toEqual([{ family: 4 }]);
    expect(placesOf(config({ ranges: [range('six', 'fd00::/8', 1)] }))).toEqual([{ family: 6 }]);
    expect(placesOf(config({ listenAddresses: [parseIp('10.0.0.1')], peers: [peer('fd00::2')] }))).toEqual([
      { family: 4, address: '10.0.0.1' },
    ]);
  });

  test('keys by address and prefix of the family', () => {
    const password = new Secret('x');
    const { keys } = protectionOf(
      config({
        peers: [peer('10.0.0.2', { password }), peer('fd00::2', { password }), peer('10.0.0.3')],
        ranges: [range('clients', '10.1.0.0/16', 5, { password })],
      }),
      4,
    );
    expect([...keys.keys()]).toEqual(['10.1.0.0/16', '10.0.0.2/32']);
  });

  test('a hop limit only where everybody has one, as low as the farthest needs', () => {
    const near = peer('10.0.0.2', { ttlSecurity: 1 });
    expect(protectionOf(config({ peers: [near] }), 4).minHops).toBe(255);
    expect(protectionOf(config({ peers: [near, peer('10.0.0.3', { ttlSecurity: 3 })] }), 4).minHops).toBe(253);
    expect(protectionOf(config({ peers: [near, peer('10.0.0.4')] }), 4).minHops).toBe(0);
    expect(protectionOf(config({ peers: [near] }), 6).minHops).toBe(0);
  });
});
