import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { request } from 'node:http';
import { type AddressInfo, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { systemClock } from '../../../src/base/clock.ts';
import { createLog } from '../../../src/base/log.ts';
import { Control } from '../../../src/bgp/control.ts';
import { Rejections } from '../../../src/bgp/rejections.ts';
import type { PeerConfig, SpeakerConfig } from '../../../src/bgp/settings.ts';
import { Speaker } from '../../../src/bgp/speaker.ts';
import { MessageTally } from '../../../src/bgp/tally.ts';
import { writeMessage } from '../../../src/bgp/wire/message.ts';
import { writeEndOfRib } from '../../../src/bgp/wire/write-update.ts';
import { parseCidr, parseIp } from '../../../src/model/address.ts';
import { until } from '../../support/wait.ts';

const log = createLog('test', 'silent');
const hub = parseIp('127.0.0.1');
let directory: string;
let speakers: Speaker[];
let control: Control;
let port: number;

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '0.0.0.0');
  await new Promise((resolve) => server.once('listening', resolve));
  const { port: free } = server.address() as AddressInfo;
  await new Promise((resolve) => server.close(resolve));
  return free;
}

function peerOf(name: string, address: string, asn: number, extra: Partial<PeerConfig>): PeerConfig {
  return {
    name,
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

function configOf(asn: number, address: string, rest: Partial<SpeakerConfig>): SpeakerConfig {
  // Sessions run over loopback, which is no next hop: what is announced leads elsewhere.
  const own = parseIp(address.replace('127.0.0', '10.9.0'));
  const addresses = [{ address: own, subnet: parseCidr(`${own}/32`) }];
  return { asn, identifier: own, listenPort: 1, addresses, peers: [], originations: [], ...rest };
}

async function run(config: SpeakerConfig): Promise<Speaker> {
  const speaker = new Speaker(config, { clock: systemClock, log });
  speakers.push(speaker);
  await speaker.start();
  return speaker;
}

/** A speaker in another AS that dials the hub. */
async function leaf(asn: number, address: string, originations: readonly string[]): Promise<Speaker> {
  const localAddress = parseIp(address);
  const peer = peerOf('hub', hub, 64512, { port, localAddress, initiative: 'dial' });
  return run(
    configOf(asn, address, {
      listenPort: await freePort(),
      peers: [peer],
      originations: originations.map((prefix) => parseCidr(prefix)),
    }),
  );
}

function call(
  path: string,
  options: { method?: string; body?: string; accept?: string } = {},
): Promise<[number, string]> {
  const { method = 'GET', body = '', accept = 'application/json' } = options;
  return new Promise((resolve, reject) => {
    const sent = request(
      { socketPath: join(directory, 'bgp.sock'), path, method, headers: { accept } },
      async (response) => {
        let text = '';
        for await (const chunk of response) text += chunk;
        resolve([response.statusCode ?? 0, text]);
      },
    );
    sent.on('error', reject);
    sent.end(body);
  });
}

async function get(path: string) {
  return JSON.parse((await call(path))[1]);
}

const shared = '192.0.2.0/24';

describe('the control socket', () => {
  beforeEach(async () => {
    directory = mkdtempSync(join(tmpdir(), 'margay-bgp-'));
    speakers = [];
    port = await freePort();
    const center = await run(
      configOf(64512, hub, {
        listenPort: port,
        peers: [peerOf('left', '127.0.0.2', 65002, {}), peerOf('right', '127.0.0.3', 65003, {})],
        originations: [parseCidr('10.65.1.0/26')],
      }),
    );
    control = new Control(center, log);
    await control.listen(join(directory, 'bgp.sock'));
    await leaf(65002, '127.0.0.2', [shared, '198.51.100.0/24', '127.9.0.0/16']);
    await leaf(65003, '127.0.0.3', [shared]);
    await until(async () => (await get(`/v1/routes?prefix=${shared}`)).routes[0]?.paths.length === 2, {
      within: 8000,
      what: 'both paths',
    });
    await until(async () => (await get('/v1/routes?prefix=198.51.100.0/24')).routes.length === 1, {
      within: 8000,
      what: 'the single path',
    });
  });

  afterEach(async () => {
    control.close();
    await Promise.all(speakers.map((speaker) => speaker.stop('shutdown')));
    rmSync(directory, { recursive: true, force: true });
  });

  test('says why a path won, and that the other, through another AS, is used beside it', async () => {
    const found = await get(`/v1/why?prefix=${shared}`);
    expect(found).toMatchObject({ prefix: shared, selected: true, rejected: [] });
    expect(found.paths).toMatchObject([
      { peer: 'left', verdict: 'best', why: 'best by lower BGP identifier (or originator)' },
      { peer: 'right', verdict: 'multipath', why: 'equal to the best path up to the tie-breaks, and used beside it' },
    ]);
    expect(await get('/v1/why?prefix=192.0.2.77')).toMatchObject({ prefix: shared });
    expect(await get('/v1/why?prefix=203.0.113.1')).toMatchObject({
      prefix: '203.0.113.1/32',
      selected: false,
      paths: [],
    });
  });

  test('shows what import refused, to why and to received, until it is withdrawn', async () => {
    expect(await get('/v1/why?prefix=127.9.0.0/16')).toMatchObject({
      selected: false,
      rejected: [{ peer: 'left', reason: 'loopbackPrefix', asPath: '65002', nextHop: '10.9.0.2' }],
    });
    const { routes, truncated } = await get('/v1/peers/left/received');
    expect(truncated).toBe(false);
    expect(routes).toHaveLength(3);
    expect(routes).toContainEqual(
      expect.objectContaining({ prefix: '127.9.0.0/16', accepted: false, reason: 'loopbackPrefix' }),
    );
    const [, left] = speakers;
    await left?.apply({ ...left.config, originations: [parseCidr(shared)] });
    await until(async () => (await get('/v1/peers/left/received')).routes.length === 1, {
      within: 5000,
      what: 'withdrawals',
    });
    expect(await get('/v1/why?prefix=127.9.0.0/16')).toMatchObject({ rejected: [] });
  });

  test('shows what a peer is told: not its own routes', async () => {
    const { routes } = await get('/v1/peers/left/advertised');
    expect(routes.map(({ prefix }: { prefix: string }) => prefix)).toEqual(['10.65.1.0/26']);
    expect(routes[0]).toMatchObject({ asPath: '64512', nextHop: '10.9.0.1', origin: 'igp' });
  });

  test('cuts lists at the limit, and sends them a line an item', async () => {
    expect(await get('/v1/routes?limit=1')).toMatchObject({ routes: [{}], truncated: true });
    const [, text] = await call('/v1/routes?limit=2', { accept: 'application/x-ndjson' });
    const lines = text.trimEnd().split('\n');
    expect(lines).toHaveLength(3);
    expect(JSON.parse(lines[2] ?? '')).toEqual({ end: true, truncated: true });
  });

  test('the fields of a peer are those that are documented', async () => {
    const peer = await get('/v1/peers/left');
    const documented = [
      'name',
      'role',
      'address',
      'port',
      'asn',
      'state',
      'since',
      'uptimeSeconds',
      'flaps',
      'negotiated',
    ];
    documented.push('families', 'faults', 'rejected', 'messages', 'remembered');
    expect(Object.keys(peer)).toEqual(expect.arrayContaining(documented));
    expect(peer).toMatchObject({ state: 'Established', rejected: { loopbackPrefix: 1 }, remembered: 1 });
    expect(peer.messages.received).toMatchObject({ open: 1, notification: 0 });
  });

  test('every other view has only fields that are documented, those of a path in each', async () => {
    const guide = readFileSync(join(import.meta.dirname, '../../../docs/bgp.md'), 'utf8');
    const named = (view: string) => {
      const row = guide.split('\n').find((line) => line.startsWith(`| ${view} |`)) ?? expect.fail(view);
      return [...(row.split('|')[2] ?? '').matchAll(/`([a-zA-Z]+)`/g)].map(([, name = '']) => name);
    };
    const path = named('path');
    const attributes = path.filter((name) => !['peer', 'pathId', 'source', 'stale', 'verdict'].includes(name));
    const within = (value: object, fields: readonly string[]) =>
      expect(Object.keys(value).filter((name) => !fields.includes(name))).toEqual([]);

    const [route] = (await get(`/v1/routes?prefix=${shared}`)).routes;
    expect(Object.keys(route).sort()).toEqual([...named('route')].sort());
    expect(route.paths).toHaveLength(2);
    for (const one of route.paths) {
      within(one, path);
      expect(Object.keys(one)).toEqual(
        expect.arrayContaining(['peer', 'source', 'asPath', 'origin', 'stale', 'verdict']),
      );
    }
    const why = await get(`/v1/why?prefix=${shared}`);
    expect(Object.keys(why).sort()).toEqual(['paths', 'prefix', 'rejected', 'selected', 'summary']);
    for (const one of why.paths) within(one, [...path, 'why']);
    const refused = await get('/v1/why?prefix=127.9.0.0/16');
    expect(refused.rejected).toHaveLength(1);
    within(refused.rejected[0], ['peer', 'reason', ...attributes]);
    const { routes: received } = await get('/v1/peers/left/received');
    expect(received).toHaveLength(3);
    for (const one of received) within(one, [...named('received'), ...attributes]);
    const { routes: advertised } = await get('/v1/peers/left/advertised');
    expect(advertised.length).toBeGreaterThan(0);
    for (const one of advertised) within(one, ['prefix', ...attributes]);
  });

  test('a hard reset ends the session with the message, and it comes back', async () => {
    const [status, text] = await call('/v1/peers/left/reset', {
      method: 'POST',
      body: JSON.stringify({ message: 'cable swap' }),
    });
    expect([status, JSON.parse(text)]).toEqual([200, { peer: 'left', reset: 'hard', refreshAsked: [] }]);
    const [, left] = speakers;
    await until(() => left?.peer('hub')?.status().lastError, { within: 5000, what: 'the reason' });
    expect(left?.peer('hub')?.status().lastError).toMatchObject({
      by: 'peer',
      reason: 'cease/reset (6/4) "cable swap"',
    });
    expect(await get('/v1/peers/left')).toMatchObject({ lastError: { by: 'us' }, flaps: 1 });
    await until(async () => (await get('/v1/peers/left')).state === 'Established', {
      within: 9000,
      what: 'the session',
    });
  });

  test('a soft reset keeps the session and asks for the routes', async () => {
    const [, text] = await call('/v1/peers/right/reset', { method: 'POST', body: '{"soft":true}' });
    expect(JSON.parse(text)).toEqual({ peer: 'right', reset: 'soft', refreshAsked: [4] });
    const sent = async () => (await get('/v1/peers/right')).messages.sent.refresh;
    await until(async () => (await sent()) === 3, { within: 5000, what: 'the request, and our routes between marks' });
    await until(async () => (await get('/v1/peers/right')).families.ipv4.received > 1, {
      within: 5000,
      what: 'routes again',
    });
    expect((await get('/v1/peers/right')).flaps).toBe(0);
  });

  test.each([
    ['{', 'body'],
    ['[]'.repeat(4000), 'body of more than'],
    ['{"soft":"yes"}', 'soft: "yes"'],
    ['{"hard":true}', 'hard: true'],
    [JSON.stringify({ message: 'x'.repeat(256) }), '255 octets'],
    ['{"soft":true,"message":"x"}', 'ends no session'],
  ])('a wrong reset %.20s is refused in words', async (body, words) => {
    const [status, text] = await call('/v1/peers/left/reset', { method: 'POST', body });
    expect(status).toBeGreaterThanOrEqual(400);
    expect(status).toBeLessThan(500);
    expect(JSON.parse(text).error).toContain(words);
  });
});

describe('counting', () => {
  test('refused routes are bounded: the oldest give way and are counted', () => {
    const rejections = new Rejections(2);
    const attributes = { origin: 'igp', asPath: [] } as const;
    for (const prefix of ['10.0.0.0/8', '10.1.0.0/16', '10.2.0.0/16'].map((text) => parseCidr(text)))
      rejections.add({ prefix, reason: 'nextHop', attributes });
    expect([...rejections.values()].map(({ prefix }) => prefix)).toEqual(['10.1.0.0/16', '10.2.0.0/16']);
    expect([rejections.size, rejections.forgotten]).toEqual([2, 1]);
  });

  test('messages are counted one by one, also when they leave in one piece', () => {
    const tally = new MessageTally();
    tally.sent(Buffer.concat([writeMessage({ type: 'keepalive' }), writeEndOfRib(4), writeEndOfRib(6)]));
    tally.received('open');
    expect(tally.counts()).toMatchObject({ sent: { keepalive: 1, update: 2 }, received: { open: 1, update: 0 } });
  });
});
