import { once } from 'node:events';
import { type AddressInfo, createServer } from 'node:net';
import { expect, test } from 'vitest';
import { systemClock } from '../../../src/base/clock.ts';
import { createLog } from '../../../src/base/log.ts';
import type { PeerConfig, SpeakerConfig } from '../../../src/bgp/settings.ts';
import { Speaker } from '../../../src/bgp/speaker.ts';
import { type Ip, parseCidr, parseIp } from '../../../src/model/address.ts';
import { until } from '../../support/wait.ts';

const rounds = 200;
const one = parseIp('127.0.0.1');
const two = parseIp('127.0.0.2');
const prefixes = { [one]: parseCidr('10.65.1.0/26'), [two]: parseCidr('10.65.2.0/26') };

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '0.0.0.0');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  server.close();
  await once(server, 'close');
  return port;
}

/** Who connects at once, and is connected to at once. */
function configOf(own: Ip, other: Ip, port: number): SpeakerConfig {
  const peer: PeerConfig = {
    name: 'other',
    role: 'peer',
    address: other,
    port,
    asn: 64512,
    families: [4],
    localAddress: own,
    initiative: 'dial',
    holdSeconds: 90,
    restartSeconds: 120,
    acceptDefault: false,
    nextHopMode: 'auto',
  };
  return {
    asn: 64512,
    identifier: own,
    listenPort: port,
    listenAddresses: [own],
    addresses: [{ address: own, subnet: parseCidr(`${own}/32`) }],
    peers: [peer],
    originations: [prefixes[own] ?? expect.fail('no prefix')],
  };
}

function turns(count: number): Promise<void> {
  return new Promise((resolve) => {
    const turn = (left: number) => (left === 0 ? resolve() : setImmediate(() => turn(left - 1)));
    turn(count);
  });
}

test(`sessions that both sides open at once end as one, ${rounds} times`, async () => {
  const port = await freePort();
  let collisions = 0;
  const log = createLog('test', 'debug', {
    write: (line) => {
      if (line.includes('"collision"')) collisions++;
    },
  });
  for (let round = 0; round < rounds; round++) {
    const speakers = [new Speaker(configOf(one, two, port), { clock: systemClock, log })];
    speakers.push(new Speaker(configOf(two, one, port), { clock: systemClock, log }));
    const [first, second] = round % 2 === 0 ? speakers : [...speakers].reverse();
    const started = first?.start();
    // The second starts at another point of the first one's opening each time.
    await turns(Math.floor(round / 2) % 12);
    await Promise.all([started, second?.start()]);
    await until(() => speakers.every((speaker) => speaker.peers()[0]?.families['ipv4']?.received === 1), {
      within: 20_000,
      what: `both have heard of the other's prefix, in round ${round}`,
      every: 2,
    });
    for (const speaker of speakers) expect(speaker.peers()).toMatchObject([{ state: 'Established', flaps: 0 }]);
    await Promise.all(speakers.map((speaker) => speaker.stop('shutdown')));
  }
  expect(collisions).toBeGreaterThan(0);
});
