import { type AddressInfo, createServer } from 'node:net';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { systemClock } from '../../../src/base/clock.ts';
import { createLog } from '../../../src/base/log.ts';
import {
  writePeerDown,
  writePeerUp,
  writeRouteMonitoring,
  writeStatistics,
  writeTermination,
} from '../../../src/bgp/bmp/messages.ts';
import type { MonitoredSession } from '../../../src/bgp/bmp/monitor.ts';
import { Station } from '../../../src/bgp/bmp/station.ts';
import type { PeerConfig, SpeakerConfig } from '../../../src/bgp/settings.ts';
import { Speaker } from '../../../src/bgp/speaker.ts';
import { parseCidr, parseIp } from '../../../src/model/address.ts';
import { BmpStation } from '../../support/bmp-station.ts';
import { until } from '../../support/wait.ts';

const log = createLog('test', 'silent');
const loopback = parseIp('127.0.0.1');
const hex = (octets: Uint8Array): string => Buffer.from(octets).toString('hex');
const onlyPrefix = (text: string) => {
  return { cidr: parseCidr(text), match: 'equal', negated: false, least: 0, most: 32 } as const;
};
const packed = (text: string): string => text.replaceAll(/\s/g, '');

describe('messages', () => {
  const peer = { address: parseIp('10.0.0.2'), asn: 4200000001, identifier: parseIp('10.0.0.9') };
  const at = new Date(0x65000000 * 1000 + 250);
  const header = `00 40 0000000000000000 000000000000000000000000 0a000002 fa56ea01 0a000009 65000000 0003d090`;

  test('peer up: addresses, ports and both OPENs', () => {
    const up = {
      localAddress: parseIp('fd00::1'),
      localPort: 179,
      remotePort: 40000,
      sentOpen: Uint8Array.of(1, 2),
      receivedOpen: Uint8Array.of(3),
    };
    expect(hex(writePeerUp(peer, up, at))).toBe(
      packed(`03 00000047 03 ${header} fd000000000000000000000000000001 00b3 9c40 0102 03`),
    );
  });

  test.each([
    ['by us with a NOTIFICATION', { by: 'us', notification: Uint8Array.of(7) } as const, '01 07', '32'],
    ['by us without', { by: 'us' } as const, '02 0000', '33'],
    ['by the peer with a NOTIFICATION', { by: 'peer', notification: Uint8Array.of(7) } as const, '03 07', '32'],
    ['a lost connection', { by: 'peer' } as const, '04', '31'],
  ])('peer down: %s', (_, down, body, length) => {
    expect(hex(writePeerDown(peer, down, at))).toBe(packed(`03 000000${length} 02 ${header} ${body}`));
  });

  test('statistics and termination', () => {
    const six = { ...peer, address: parseIp('fd00::2') };
    const statistics = { rejected: 5, routes: new Map([[6, 3] as const]) };
    expect(hex(writeStatistics(six, statistics, at))).toBe(
      packed(`03 00000057 01 00 c0 0000000000000000 fd000000000000000000000000000002 fa56ea01 0a000009 65000000 0003d090
        00000003 0000 0004 00000005 0007 0008 0000000000000003 0009 000b 0002 01 0000000000000003`),
    );
    expect(hex(writeTermination())).toBe('030000000c05000100020000');
  });

  test('what is told before policy has no L flag', () => {
    expect(hex(writeRouteMonitoring(peer, Uint8Array.of(7), at, 'pre'))).toBe(
      packed(`03 00000031 00 ${header.replace('00 40', '00 00')} 07`),
    );
  });
});

describe('a speaker and its station', () => {
  let speakers: Speaker[];
  let station: BmpStation;
  let stationPort: number;
  let port: number;

  beforeEach(async () => {
    speakers = [];
    station = new BmpStation();
    stationPort = await station.listen();
    port = await freePort();
  });

  afterEach(async () => {
    await Promise.all(speakers.map((speaker) => speaker.stop('shutdown')));
    await station.close();
  });

  async function freePort(): Promise<number> {
    const server = createServer().listen(0, '0.0.0.0');
    await new Promise((resolve) => server.once('listening', resolve));
    const { port: free } = server.address() as AddressInfo;
    await new Promise((resolve) => server.close(resolve));
    return free;
  }

  function peerOf(address: string, asn: number, extra: Partial<PeerConfig>): PeerConfig {
    return {
      name: `as${asn}`,
      role: 'peer',
      address: parseIp(address),
      port: 1,
      asn,
      families: [4],
      initiative: 'never',
      holdSeconds: 90,
      restartSeconds: 0,
      acceptDefault: false,
      nextHopMode: 'auto',
      ...extra,
    };
  }

  /** Sessions run over loopback, which is no next hop: what is announced leads elsewhere. */
  function configOf(asn: number, last: number, rest: Partial<SpeakerConfig>): SpeakerConfig {
    const own = parseIp(`10.9.0.${last}`);
    const addresses = [{ address: own, subnet: parseCidr(`${own}/32`) }];
    return { asn, identifier: own, listenPort: 1, addresses, peers: [], originations: [], ...rest };
  }

  async function run(config: SpeakerConfig): Promise<Speaker> {
    const speaker = new Speaker(config, { clock: systemClock, log });
    speakers.push(speaker);
    await speaker.start();
    return speaker;
  }

  const hubConfig = (bmp: boolean): SpeakerConfig =>
    configOf(64512, 1, {
      listenPort: port,
      peers: [peerOf('127.0.0.2', 65002, {})],
      ...(bmp ? { bmp: [{ address: loopback, port: stationPort }] } : {}),
    });

  const dialler = peerOf('127.0.0.1', 64512, { initiative: 'dial', localAddress: parseIp('127.0.0.2') });

  async function leafConfig(...prefixes: string[]): Promise<SpeakerConfig> {
    const originations = prefixes.map((prefix) => parseCidr(prefix));
    return configOf(65002, 2, { listenPort: await freePort(), peers: [{ ...dialler, port }], originations });
  }

  const announced = () => station.last.flatMap((message) => message.announced ?? []);
  const withdrawn = () => station.last.flatMap((message) => message.withdrawn ?? []);
  const heard = (what: string, condition: () => boolean) => until(condition, { within: 9000, what });

  test('it hears of the session, of what was accepted and taken back, of its end and of ours', async () => {
    const hub = await run(hubConfig(true));
    await heard('the initiation', () => station.last.some(({ type }) => type === 'initiation'));
    expect(hub.stations()).toEqual([{ address: loopback, port: stationPort, policy: 'post', connected: true }]);
    expect(station.last[0]?.body.toString('latin1')).toContain('10.9.0.1');

    const config = await leafConfig('192.0.2.0/24', '198.51.100.0/25', '127.9.0.0/16');
    const leaf = await run(config);
    await heard('both routes', () => announced().length >= 2);
    await heard('the end of the table', () =>
      station.last.some(({ type, body }) => type === 'routes' && body.length === 23),
    );
    const up = station.last[1];
    expect(up).toMatchObject({
      type: 'up',
      peer: { address: '127.0.0.2', asn: 65002, identifier: '10.9.0.2', flags: 0x40 },
    });
    // Both OPENs, whole: ours says AS 64512, theirs 65002.
    const sentLength = up?.body.readUInt16BE(20 + 16) ?? 0;
    expect(up?.body.readUInt16BE(20 + 20)).toBe(64512);
    expect(up?.body.readUInt16BE(20 + sentLength + 20)).toBe(65002);
    expect(up?.body.readUInt16BE(16)).toBe(port);
    // What import checks refuse is not told.
    expect(announced().sort()).toEqual(['192.0.2.0/24', '198.51.100.0/25']);

    await leaf.apply({ ...config, originations: config.originations.slice(1) });
    await heard('the withdrawal', () => withdrawn().includes('192.0.2.0/24'));
    await leaf.stop('shutdown');
    await heard('the end of the session', () => station.last.some(({ type }) => type === 'down'));
    const down = station.last.find(({ type }) => type === 'down');
    // A NOTIFICATION of theirs: the hard reset of RFC 8538, around cease/shutdown.
    expect([down?.body[0], ...(down?.body.subarray(20, 24) ?? [])]).toEqual([3, 6, 9, 6, 2]);
    await hub.stop('shutdown');
    await heard('our goodbye', () => station.last.some(({ type }) => type === 'termination'));
  });

  describe('before policy', () => {
    /** Refuses one prefix and marks another. */
    const importRules: NonNullable<PeerConfig['importRules']> = {
      4: [
        { prefix: onlyPrefix('192.0.2.0/24'), action: 'reject', operations: [] },
        { prefix: onlyPrefix('203.0.113.0/24'), action: 'accept', operations: [{ do: 'addCommunity', community: 7 }] },
      ],
      6: [],
    };
    const hubWith = (policy: 'pre' | 'both' | undefined): SpeakerConfig => ({
      ...hubConfig(false),
      peers: [peerOf('127.0.0.2', 65002, { importRules })],
      ...(policy ? { bmp: [{ address: loopback, port: stationPort, policy }] } : {}),
    });
    const prefixes = ['127.9.0.0/16', '192.0.2.0/24', '203.0.113.0/24'];
    /** Prefixes announced on a side, and how many of their messages carry a community. */
    const told = (side: 'pre' | 'post') => {
      const messages = station.last.filter(({ peer }) => ((peer?.flags ?? 0) & 0x40) === (side === 'post' ? 0x40 : 0));
      return {
        prefixes: [...new Set(messages.flatMap((message) => message.announced ?? []))].sort(),
        withdrawn: messages.flatMap((message) => message.withdrawn ?? []),
        marked: messages.filter(({ body }) => body.includes(Buffer.from('c0080400000007', 'hex'))).length,
      };
    };

    test('a station hears what the peer says, whatever becomes of it', async () => {
      await run(hubWith('both'));
      await heard('the initiation', () => station.last.some(({ type }) => type === 'initiation'));
      const config = await leafConfig(...prefixes);
      const leaf = await run(config);
      await heard('both sides', () => told('pre').prefixes.length === 3 && told('post').prefixes.length === 1);
      expect(told('pre')).toMatchObject({ prefixes, marked: 0 });
      expect(told('post')).toMatchObject({ prefixes: ['203.0.113.0/24'], marked: 1 });
      expect(station.last.filter(({ type }) => type === 'up')).toHaveLength(1);
      await leaf.apply({ ...config, originations: config.originations.slice(2) });
      await heard('the withdrawals', () => told('pre').withdrawn.length === 2);
      expect(told('post').prefixes).toEqual(['203.0.113.0/24']);
    });

    test('one that comes later hears it too, as the peer said it', async () => {
      const hub = await run(hubWith(undefined));
      await run(await leafConfig(...prefixes));
      await until(() => hub.peers()[0]?.families['ipv4']?.accepted === 1, { within: 9000, what: 'the route' });
      await hub.apply(hubWith('pre'));
      // The first telling is what is known, with the mark that import put on; the peer then says it itself.
      await heard('all prefixes', () => told('pre').prefixes.length === 3);
      await heard('the peer’s own words', () => {
        const last = station.last.findLast(({ announced = [] }) => announced.includes('203.0.113.0/24'));
        return last?.body.includes(Buffer.from('c0080400000007', 'hex')) === false;
      });
      expect(told('post').prefixes).toEqual([]);
      expect(hub.peers()[0]?.flaps).toBe(0);
    });
  });

  test('a station that is added later, or that was away, is told everything anew', async () => {
    const hub = await run(hubConfig(false));
    await run(await leafConfig('192.0.2.0/24'));
    await until(() => hub.peers()[0]?.families['ipv4']?.accepted === 1, { within: 9000, what: 'the route' });
    expect(hub.stations()).toEqual([]);
    await hub.apply(hubConfig(true));
    await heard('the route', () => announced().includes('192.0.2.0/24'));
    station.drop();
    await heard('another connection', () => station.connections.length === 2);
    await heard('the route again', () => announced().includes('192.0.2.0/24'));
    expect(station.last.slice(0, 2).map(({ type }) => type)).toEqual(['initiation', 'up']);
    expect(hub.peers()[0]?.flaps).toBe(0);
  });
});

test('a station that does not read is cut off when too much waits for it', async () => {
  const deaf = new BmpStation(false);
  const session: MonitoredSession = {
    name: 'tor',
    peer: { address: parseIp('10.0.0.2'), asn: 65002, identifier: parseIp('10.0.0.2') },
    up: {
      localAddress: loopback,
      localPort: 179,
      remotePort: 1,
      sentOpen: new Uint8Array(0),
      receivedOpen: new Uint8Array(0),
    },
    families: [4],
    routes: () => [],
    askAgain: () => undefined,
    statistics: () => ({ rejected: 0, routes: new Map() }),
  };
  const config = { address: loopback, port: await deaf.listen() };
  const name = () => 'node';
  const station = new Station(config, {
    clock: systemClock,
    log,
    name,
    sessions: () => [session],
    queuedOctets: 1 << 20,
  });
  try {
    station.start();
    await until(() => station.status().connected, { within: 9000, what: 'the connection' });
    // More than the kernel takes on for a reader that sleeps.
    const large = { ...session.up, sentOpen: new Uint8Array(1 << 20) };
    for (let i = 0; i < 64 && station.status().connected; i++) {
      station.up({ ...session, up: large });
      await new Promise((resolve) => setImmediate(resolve));
    }
    await until(() => station.status().problem, { within: 9000, what: 'the problem' });
    expect(station.status().problem).toBe('more than 1048576 octets wait to be read');
  } finally {
    station.close();
    await deaf.close();
  }
});
