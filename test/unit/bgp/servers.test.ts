import { mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { request } from 'node:http';
import { type AddressInfo, connect, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { systemClock } from '../../../src/base/clock.ts';
import { EnvironmentError, explain } from '../../../src/base/errors.ts';
import { createLog } from '../../../src/base/log.ts';
import { Control } from '../../../src/bgp/control.ts';
import { Feed } from '../../../src/bgp/feed.ts';
import type { SpeakerConfig } from '../../../src/bgp/settings.ts';
import { makeRunDir } from '../../../src/bgp/socket.ts';
import { Speaker } from '../../../src/bgp/speaker.ts';
import { parseCidr, parseIp } from '../../../src/model/address.ts';

const log = createLog('test', 'silent');
let directory: string;
let speaker: Speaker;
let feed: Feed;
let control: Control;

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '0.0.0.0');
  await new Promise((resolve) => server.once('listening', resolve));
  const { port } = server.address() as AddressInfo;
  await new Promise((resolve) => server.close(resolve));
  return port;
}

function configOf(listenPort: number): SpeakerConfig {
  const address = parseIp('127.0.0.1');
  return {
    asn: 64512,
    identifier: address,
    listenPort,
    addresses: [{ address, subnet: parseCidr('127.0.0.0/8') }],
    peers: [],
    originations: [parseCidr('10.65.1.0/26')],
  };
}

beforeEach(async () => {
  directory = mkdtempSync(join(tmpdir(), 'margay-bgp-'));
  speaker = new Speaker(configOf(await freePort()), { clock: systemClock, log });
  feed = new Feed(speaker, log);
  control = new Control(speaker, log);
});

afterEach(async () => {
  await speaker.stop('shutdown');
  feed.close();
  control.close();
  rmSync(directory, { recursive: true, force: true });
});

function get(path: string, method = 'GET', body = ''): Promise<[number | undefined, unknown]> {
  return new Promise((resolve, reject) => {
    const call = request({ socketPath: join(directory, 'bgp.sock'), path, method }, async (response) => {
      let text = '';
      for await (const chunk of response) text += chunk;
      resolve([response.statusCode, JSON.parse(text)]);
    });
    call.on('error', reject);
    call.end(body);
  });
}

test('status, peers and routes are told as JSON; anything else is refused in words', async () => {
  await control.listen(join(directory, 'bgp.sock'));
  await speaker.start();
  expect(await get('/v1/status')).toMatchObject([
    200,
    { asn: 64512, originations: ['10.65.1.0/26'], peers: { configured: 0 } },
  ]);
  expect(await get('/v1/peers')).toEqual([200, { peers: [] }]);
  const [, body] = await get('/v1/routes?prefix=10.65.1.0/26');
  expect(body).toMatchObject({ routes: [{ prefix: '10.65.1.0/26', originated: true, paths: [{ verdict: 'best' }] }] });
  expect(await get('/v1/routes?prefix=10.0.0.0/8')).toEqual([200, { routes: [], truncated: false }]);
  expect(await get('/v1/nothing')).toMatchObject([404, { error: expect.stringContaining('/v1/nothing') }]);
  expect(await get('/v1/peers', 'POST')).toMatchObject([
    405,
    { error: expect.stringContaining('/v1/peers/NAME/reset') },
  ]);
  expect(await get('/v1/peers', 'PUT')).toMatchObject([405, { error: 'PUT: only GET and POST are served' }]);
  expect(await get('/v1/routes?limit=many')).toMatchObject([400, { error: expect.stringContaining('limit: "many"') }]);
  expect(await get('/v1/why?prefix=10.0.0.0/99')).toMatchObject([400, { error: expect.stringContaining('prefix') }]);
  expect(await get('/v1/why')).toMatchObject([400, { error: expect.stringContaining('prefix: missing') }]);
  expect(await get('/v1/peers/nobody')).toMatchObject([404, { error: expect.stringContaining('"nobody"') }]);
  expect(await get('/v1/peers/%zz')).toMatchObject([400, { error: expect.stringContaining('%zz') }]);
});

test('every reader of the feed gets hello and the end of the snapshot; what this node owns is not told', async () => {
  const path = join(directory, 'routes.sock');
  await feed.listen(path);
  await speaker.start();
  const read = () =>
    new Promise<string[]>((resolve) => {
      const lines: string[] = [];
      const socket = connect(path);
      createInterface({ input: socket }).on('line', (line) => {
        lines.push(line);
        if (!line.includes('endOfSnapshot')) return;
        socket.destroy();
        resolve(lines);
      });
    });
  const both = await Promise.all([read(), read()]);
  expect(both).toEqual(Array(2).fill(['{"type":"hello","version":1}', '{"type":"endOfSnapshot"}']));
});

test('a socket is 0600, replaces one that a dead process left, and does not displace a living one', async () => {
  const path = join(directory, 'routes.sock');
  const left = createServer().listen(path);
  await new Promise((resolve) => left.once('listening', resolve));
  await expect(feed.listen(path)).rejects.toThrow(EnvironmentError);
  left.close();
  await feed.listen(path);
  expect(statSync(path).mode & 0o777).toBe(0o600);
});

test('a file that is no socket is left alone', async () => {
  const path = join(directory, 'bgp.sock');
  writeFileSync(path, 'precious');
  const failure = await control.listen(path).catch(explain);
  expect(failure).toMatch(/^cannot listen on .*bgp\.sock: .*(EEXIST|EADDRINUSE)/);
  expect(statSync(path).size).toBe(8);
});

test('a folder that cannot be used is an error that says what to do', async () => {
  const file = join(directory, 'file');
  writeFileSync(file, '');
  const remedy = 'set MARGAY_RUN_DIR to a folder that can be written, and has room';
  expect(await feed.listen(join(file, 'routes.sock')).catch(explain)).toMatch(
    new RegExp(`^cannot listen on .*/routes\\.sock: .*ENOTDIR.*; ${remedy}$`),
  );
  expect(() => makeRunDir(file)).toThrow(remedy);
});

test('a port in use is an error that says what to do', async () => {
  const taken = createServer().listen(speaker.config.listenPort, '0.0.0.0');
  await new Promise((resolve) => taken.once('listening', resolve));
  const failure = await speaker.start().catch((thrown: unknown) => thrown);
  taken.close();
  expect(failure).toBeInstanceOf(EnvironmentError);
  expect((failure as EnvironmentError).remedy).toContain('spec.listenPort');
});

test('a new listening port is taken up, and the old one given back', async () => {
  await speaker.start();
  const before = speaker.config.listenPort;
  const after = await freePort();
  await speaker.apply({ ...speaker.config, listenPort: after });
  const reach = (port: number) =>
    new Promise((resolve) => {
      const socket = connect(port, '127.0.0.1');
      socket.on('connect', () => resolve(true)).on('error', () => resolve(false));
    });
  expect([await reach(after), await reach(before)]).toEqual([true, false]);
});
