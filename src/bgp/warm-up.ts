import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Server, type Socket } from 'node:net';
import { systemClock } from '../base/clock.ts';
import { errorCode, explain } from '../base/errors.ts';
import { createLog, type Log } from '../base/log.ts';
import { type Family, type Ip, parseCidr, parseIp } from '../model/address.ts';
import type { Peer } from './peer.ts';
import type { PeerConfig, SpeakerConfig } from './settings.ts';
import { Speaker } from './speaker.ts';
import { MessageTally } from './tally.ts';
import { taken } from './transport.ts';
import { type Rehearsed, rehearsedUpdates } from './warm-up-updates.ts';
import type { Capability } from './wire/capabilities.ts';
import { writeMessage } from './wire/message.ts';

const loopback = '127.0.0.1';
const asn = 64512;
const holdSeconds = 180;
const repetitions = 8;
const silent = createLog('warm-up', 'silent');

/** A neighbour that is played here. */
interface Part {
  readonly name: string;
  readonly address: Ip;
  readonly asn: number;
  readonly client: boolean;
  readonly families: readonly Family[];
  readonly capabilities: readonly Capability[];
}

const usual: readonly Capability[] = [
  { capability: 'multiprotocol', family: 4 },
  { capability: 'fourOctetAs', asn },
];
const many: readonly Capability[] = [
  ...usual,
  { capability: 'multiprotocol', family: 6 },
  { capability: 'routeRefresh' },
  { capability: 'enhancedRefresh' },
  { capability: 'extendedMessages' },
  {
    capability: 'gracefulRestart',
    restarted: false,
    notification: true,
    restartSeconds: 1,
    families: [{ family: 4, preserved: true }],
  },
  { capability: 'longLivedRestart', families: [] },
];

const sender: Part = part(1, { capabilities: usual });
const receiver: Part = part(2, { capabilities: usual });
const capable: Part = part(3, { capabilities: many, families: [4, 6] });
const nonClient: Part = part(4, { capabilities: many, client: false });
const external: Part = part(5, { asn: 64513, capabilities: [{ capability: 'fourOctetAs', asn: 64513 }] });

function part(n: number, options: Partial<Part>): Part {
  const address = parseIp(`127.0.0.${n + 1}`);
  return { name: `warm-up ${n}`, address, asn, client: true, families: [4], capabilities: usual, ...options };
}

/**
 * Leads a speaker that nobody else hears of through some ten thousand routes, over connections of this process with
 * itself, so that the code which routes pass is compiled before the first session: a peer's first routes would
 * otherwise take several times as long. First with few routes and sessions of several kinds that come and go, so that
 * what is then compiled takes nothing for constant that will not stay so, and need not be thrown away with the first
 * real session. Takes some tenths of a second and leaves nothing behind.
 */
export async function warmUp(log: Log, signal: AbortSignal): Promise<void> {
  try {
    const brief: Rehearsed = { prefixes: 64, rounds: 2, lone: 4 };
    await rehearse([capable, sender, nonClient, external], brief, signal);
    await rehearse([sender, receiver, capable], brief, signal);
    await rehearse([sender, receiver, capable], { prefixes: 2048, rounds: 12, lone: 400 }, signal);
  } catch (thrown) {
    if (signal.aborted) return;
    if (errorCode(thrown) === undefined) throw thrown;
    log.warn({ reason: explain(thrown) }, 'routes were not rehearsed: the first ones take longer');
  }
}

/** The first part tells routes, all others hear of them. */
async function rehearse(parts: readonly Part[], size: Rehearsed, signal: AbortSignal): Promise<void> {
  const speaker = new Speaker(speakerConfig(parts), { clock: systemClock, log: silent });
  const server = createServer();
  const played: Socket[] = [];
  try {
    server.listen(0, loopback);
    await once(server, 'listening', { signal });
    await speaker.start();
    for (const part of parts) {
      const peer = speaker.peer(part.name);
      if (peer) played.push(await establish(part, peer, server, signal));
    }
    const [first] = played;
    const teller = speaker.peer(parts[0]?.name ?? '');
    if (first && teller) await tell(first, teller, size, signal);
    const [, second] = played;
    const hearer = speaker.peer(parts[1]?.name ?? '');
    if (second && hearer) await hearAgain(second, hearer, signal);
  } finally {
    for (const socket of played) socket.destroy();
    server.close();
    await speaker.stop('restart');
  }
}

async function tell(socket: Socket, teller: Peer, size: Rehearsed, signal: AbortSignal): Promise<void> {
  const told = new MessageTally();
  for (const octets of rehearsedUpdates(size)) {
    told.sent(octets);
    socket.write(octets);
    await reached(() => teller.status().messages.received.update === told.counts().sent.update, signal);
  }
}

/** All is told once more, some times: what a client hears that comes late. */
async function hearAgain(socket: Socket, hearer: Peer, signal: AbortSignal): Promise<void> {
  for (let asked = 1; asked <= repetitions; asked++) {
    const { sent } = hearer.status().messages;
    socket.write(writeMessage({ type: 'refresh', family: 4 }));
    await reached(() => hearer.status().messages.sent.update > sent.update, signal);
  }
}

/** Plays the part's side of the connection, by what it says without being asked. */
async function establish(part: Part, peer: Peer, server: Server, signal: AbortSignal): Promise<Socket> {
  const { port } = server.address() as AddressInfo;
  const socket = connect({ host: loopback, port, noDelay: true });
  const [[accepted]] = (await Promise.all([
    once(server, 'connection', { signal }),
    once(socket, 'connect', { signal }),
  ])) as [[Socket], unknown];
  if (accepted.remotePort !== socket.localPort) {
    accepted.destroy();
    socket.destroy();
    throw Object.assign(new Error('somebody else connected'), { code: 'ECONNREFUSED' });
  }
  peer.accept(taken(accepted));
  const { asn: own, capabilities, address: identifier } = part;
  socket.write(writeMessage({ type: 'open', open: { asn: own, holdSeconds, identifier, capabilities } }));
  socket.write(writeMessage({ type: 'keepalive' }));
  // What it is told is not looked at.
  socket.resume();
  socket.on('error', () => socket.destroy());
  await reached(() => peer.state === 'Established', signal);
  return socket;
}

/** Turns of the event loop after which something does not come any more. */
const mostTurns = 100_000;

async function reached(condition: () => boolean, signal: AbortSignal): Promise<void> {
  for (let turns = 0; !condition(); turns++) {
    signal.throwIfAborted();
    if (turns > mostTurns) throw Object.assign(new Error('nothing came'), { code: 'ETIMEDOUT' });
    await new Promise((resolve) => setImmediate(resolve));
  }
}

function speakerConfig(parts: readonly Part[]): SpeakerConfig {
  // It begins as the prefixes do, which are compared with it octet by octet.
  const address = parseIp('10.128.255.1');
  return {
    asn,
    identifier: address,
    clusterId: address,
    listenPort: 179,
    listenAddresses: [],
    addresses: [{ address, subnet: parseCidr('10.128.255.0/24') }],
    peers: parts.map(peerConfig),
    originations: [],
  };
}

function peerConfig({ name, address, asn, families, client }: Part): PeerConfig {
  return {
    name,
    role: 'peer',
    address,
    port: 179,
    asn,
    families,
    initiative: 'never',
    holdSeconds,
    restartSeconds: 120,
    acceptDefault: false,
    nextHopMode: 'auto',
    ...(client ? { routeReflectorClient: true } : {}),
  };
}
