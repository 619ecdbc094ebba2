import { once } from 'node:events';
import { type AddressInfo, createServer } from 'node:net';
import { expect, test } from 'vitest';
import { createLog } from '../../../src/base/log.ts';
import type { PeerConfig, SpeakerConfig } from '../../../src/bgp/settings.ts';
import { Speaker } from '../../../src/bgp/speaker.ts';
import { type Ip, parseCidr, parseIp } from '../../../src/model/address.ts';
import { ManualClock } from '../../support/manual-clock.ts';
import { until } from '../../support/wait.ts';

const one = parseIp('127.0.0.1');
const two = parseIp('127.0.0.2');
const holdSeconds = 9;

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  server.close();
  await once(server, 'close');
  return port;
}

function configOf(own: Ip, other: Ip, port: number, initiative: PeerConfig['initiative']): SpeakerConfig {
  return {
    asn: 64512,
    identifier: own,
    listenPort: port,
    listenAddresses: [own],
    addresses: [{ address: own, subnet: parseCidr(`${own}/32`) }],
    originations: [],
    peers: [
      {
        name: 'other',
        role: 'peer',
        address: other,
        port,
        asn: 64512,
        families: [4],
        localAddress: own,
        initiative,
        holdSeconds,
        restartSeconds: 0,
        acceptDefault: false,
        nextHopMode: 'auto',
      },
    ],
  };
}

test('a quiet session outlives its hold time many times over: both who dialled and who was dialled send keepalives', async () => {
  const clock = new ManualClock();
  const deps = { clock, log: createLog('test', 'silent') };
  const port = await freePort();
  const dialled = new Speaker(configOf(two, one, port, 'never'), deps);
  const dialler = new Speaker(configOf(one, two, port, 'dial'), deps);
  const speakers = [dialled, dialler];
  await dialled.start();
  await dialler.start();
  try {
    const status = () => speakers.map((speaker) => speaker.peers()[0] ?? expect.fail('no peer'));
    await until(() => status().every(({ state }) => state === 'Established'), { within: 10_000, what: 'the session' });
    for (let round = 0; round < 12; round++) {
      const heard = status().map(({ messages }) => messages.received.keepalive);
      clock.advance((holdSeconds / 3) * 1000);
      await until(() => status().every(({ messages }, i) => messages.received.keepalive > (heard[i] ?? 0)), {
        within: 10_000,
        what: `keepalives in round ${round}`,
      });
    }
    expect(status().map(({ state, flaps }) => [state, flaps])).toEqual([
      ['Established', 0],
      ['Established', 0],
    ]);
  } finally {
    await Promise.all(speakers.map((speaker) => speaker.stop('shutdown')));
  }
});
