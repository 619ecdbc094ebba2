import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Socket } from 'node:net';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { systemClock } from '../../../src/base/clock.ts';
import { createLog } from '../../../src/base/log.ts';
import { Speaker } from '../../../src/bgp/speaker.ts';
import { writeMessage } from '../../../src/bgp/wire/message.ts';
import { writeAnnouncements } from '../../../src/bgp/wire/write-update.ts';
import { type Cidr, parseCidr, parseIp } from '../../../src/model/address.ts';
import { cidrWriter } from '../../fuzz/corpus.ts';
import { Bird } from '../../support/daemons/bird.ts';
import { Link } from '../../support/daemons/network.ts';
import { configOf, peerOf, SpeakerProcess } from '../../support/daemons/speaker.ts';
import { until } from '../../support/wait.ts';

const ours = ['10.65.1.0/26'];
const theirs = ['192.0.2.0/24'];

let link: Link;
let speaker: SpeakerProcess;

beforeEach(() => {
  link = new Link();
  speaker = new SpeakerProcess(link);
});

afterEach(async () => {
  await link.close();
});

describe('the link goes down', () => {
  test('the hold timer ends the session, and it comes back with the link', async () => {
    const bird = new Bird(link);
    await bird.start({ asn: 65010, peerAsn: 64512, routes: theirs, protocol: 'hold time 3;' });
    speaker.start(configOf(64512, [peerOf(4, 65010, { holdSeconds: 3 })], ours));
    await speaker.established();
    await speaker.learnt('192.0.2.0/24');

    await link.exec('them', 'ip', ['link', 'set', 'eth0', 'down']);
    const down = await until(async () => (await speaker.peers()).find(({ lastError }) => lastError), {
      within: 30_000,
      what: 'the end of the session',
    });
    expect(down.flaps).toBe(1);
    expect(down.lastError).toMatchObject({ by: 'us', reason: expect.stringContaining('hold timer expired') });

    await link.exec('them', 'ip', ['link', 'set', 'eth0', 'up']);
    await speaker.established();
    await speaker.learnt('192.0.2.0/24');
  });
});

describe('a half-open connection', () => {
  test('a peer that died while it was cut off is let in anew at once, and its routes outlive that', async () => {
    const bird = new Bird(link);
    const options = { asn: 65010, peerAsn: 64512, routes: theirs };
    await bird.start(options);
    speaker.start(configOf(64512, [peerOf(4, 65010)], ours));
    const [before] = await speaker.established();
    await speaker.learnt('192.0.2.0/24');
    await bird.learnt('10.65.1.0/26');
    await until(async () => ((await speaker.peers())[0]?.uptimeSeconds ?? 0) > 2, {
      within: 20_000,
      what: 'a session that is no longer new',
    });
    // Not even the kernel's farewell gets through, and it gives that up soon.
    const mute = ['OUTPUT', '-o', 'eth0', '-p', 'tcp', '-j', 'DROP'];
    await link.exec('them', 'sysctl', ['-q', '-w', 'net.ipv4.tcp_orphan_retries=1']);
    await link.exec('them', 'iptables', ['-w', '-A', ...mute]);
    await bird.kill();
    await until(async () => !(await link.exec('them', 'cat', ['/proc/net/tcp'])).includes(': 0200630A:'), {
      within: 30_000,
      what: 'the end of the connection on its side',
    });
    expect((await speaker.peers())[0]).toMatchObject({ state: 'Established', flaps: 0 });
    await link.exec('them', 'iptables', ['-w', '-D', ...mute]);
    await bird.start(options, true);
    await until(async () => (await speaker.peers())[0]?.flaps === 1, { within: 60_000, what: 'the new connection' });
    const [after] = await speaker.established();
    expect(speaker.output).toContain('the peer restarted and connected anew');
    expect(after?.since).not.toBe(before?.since);
    await speaker.learnt('192.0.2.0/24');
    await bird.learnt('10.65.1.0/26');
  });
});

describe('an event loop that stands still', () => {
  test('for longer than the hold time loses no session whose keepalives have come in meanwhile', async () => {
    const port = await freePort();
    const { localAddress: _, ...listening } = peerOf(4, 65010, { address: parseIp('127.0.0.2'), initiative: 'never' });
    const subject = new Speaker(
      {
        ...configOf(64512, [{ ...listening, holdSeconds: 3 }], []),
        identifier: parseIp('127.0.0.1'),
        listenPort: port,
      },
      { clock: systemClock, log: createLog('test', 'silent') },
    );
    await subject.start();
    const neighbour = spawn(process.execPath, ['-e', keepingAlive(port)], { stdio: 'ignore' });
    try {
      const heard = () => subject.peers()[0]?.messages.received.keepalive ?? 0;
      await until(() => heard() > 2, { within: 20_000, what: 'keepalives' });
      const before = heard();
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 3500);
      await until(() => heard() > before + 5, { within: 20_000, what: 'the keepalives of the standstill' });
      expect(subject.peers()[0]).toMatchObject({ state: 'Established', flaps: 0 });
    } finally {
      neighbour.kill('SIGKILL');
      await subject.stop('shutdown');
    }
  });
});

/** A neighbour without graceful restart that says it is alive, five times a second. */
function keepingAlive(port: number): string {
  const hex = (bytes: Uint8Array) => Buffer.from(bytes).toString('hex');
  return `
    const socket = require('node:net').connect({ host: '127.0.0.1', port: ${port}, localAddress: '127.0.0.2' });
    socket.on('error', () => process.exit()).on('close', () => process.exit()).resume();
    socket.write(Buffer.from('${hex(neighbourHello([]))}', 'hex'));
    setInterval(() => socket.write(Buffer.from('${hex(writeMessage({ type: 'keepalive' }))}', 'hex')), 200);`;
}

describe('a flapping neighbour', () => {
  const prefixes = Array.from({ length: 50 }, (_, i): Cidr => parseCidr(`10.200.${i}.0/24`));
  const hello = neighbourHello(prefixes);

  test('a thousand sessions, each with routes, leave nothing behind', async () => {
    const port = await freePort();
    const address = parseIp('127.0.0.1');
    const peer = peerOf(4, 65010, { name: 'flapper', address: parseIp('127.0.0.2'), port: 1, initiative: 'never' });
    const { localAddress: _, ...listening } = peer;
    const config = {
      ...configOf(64512, [listening], []),
      listenPort: port,
      addresses: [{ address: parseIp('10.9.0.1'), subnet: parseCidr('10.9.0.1/32') }],
      identifier: address,
    };
    const subject = new Speaker(config, { clock: systemClock, log: createLog('test', 'silent') });
    await subject.start();
    try {
      const flaps = () => subject.peers()[0]?.flaps ?? 0;
      const flapUntil = async (count: number) => {
        while (flaps() < count) {
          const before = flaps();
          await flap(
            port,
            hello,
            () =>
              subject.tables[4].rib.pending === 0 && subject.peers()[0]?.families['ipv4']?.accepted === prefixes.length,
          );
          await until(() => flaps() > before, { within: 10_000, what: 'the end of the session', every: 1 });
        }
        await until(() => [...subject.tables[4].routes()].length === 0, { within: 10_000, what: 'an empty table' });
        collectGarbage();
        return process.memoryUsage().heapUsed;
      };
      const early = await flapUntil(200);
      const late = await flapUntil(1000);
      expect(flaps()).toBe(1000);
      expect(late - early).toBeLessThan(4 << 20);
    } finally {
      await subject.stop('shutdown');
    }
  });
});

/** What a neighbour without graceful restart sends: OPEN, KEEPALIVE, its routes. */
function neighbourHello(prefixes: readonly Cidr[]): Uint8Array {
  const open = {
    asn: 65010,
    holdSeconds: 90,
    identifier: parseIp('10.9.0.2'),
    capabilities: [{ capability: 'fourOctetAs', asn: 65010 } as const],
  };
  const attributes = {
    origin: 'igp',
    asPath: [{ type: 'sequence', asns: [65010] }],
    nextHop: parseIp('10.9.0.2'),
  } as const;
  const codec = { fourOctetAs: true, external: true };
  const updates = writeAnnouncements(4, attributes, codec, prefixes, cidrWriter(4)) ?? expect.fail('no room');
  return Buffer.concat([writeMessage({ type: 'open', open }), writeMessage({ type: 'keepalive' }), ...updates]);
}

/** One session that is cut once the routes are there. */
async function flap(port: number, hello: Uint8Array, learnt: () => boolean): Promise<void> {
  const socket: Socket = connect({ host: '127.0.0.1', port, localAddress: '127.0.0.2' });
  socket.on('error', () => socket.destroy());
  socket.resume();
  socket.write(hello);
  await until(learnt, { within: 10_000, what: 'the routes of a session', every: 1 });
  socket.destroy();
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '0.0.0.0');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  server.close();
  await once(server, 'close');
  return port;
}

function collectGarbage(): void {
  setFlagsFromString('--expose-gc');
  (runInNewContext('gc') as () => void)();
}
