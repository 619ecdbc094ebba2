import { afterEach, beforeEach, expect, test } from 'vitest';
import { openOf } from '../../../src/bgp/negotiate.ts';
import { writeMessage } from '../../../src/bgp/wire/message.ts';
import { parseIp } from '../../../src/model/address.ts';
import { addresses, Link } from '../../support/daemons/network.ts';
import { BirdRouter } from '../../support/daemons/router.ts';
import { Standalone } from '../../support/daemons/standalone.ts';
import { until } from '../../support/wait.ts';

const { us, them } = addresses;

let link: Link;
let speaker: Standalone;

beforeEach(() => {
  link = new Link();
  speaker = new Standalone(link);
});

afterEach(() => link.close());

function file(neighbor: object, more: object = {}): object {
  return {
    asn: 64512,
    routerId: us.four,
    neighbors: [{ name: 'them', address: them.four, asn: 65010, localAddress: us.four, ...neighbor }],
    ...more,
  };
}

/** A peer that opens a session, sends keepalives, and reads nothing after it has seen the session come up. */
function deafPeer(): string {
  const open = openOf({
    asn: 65010,
    identifier: parseIp(them.four),
    peerAsn: 64512,
    families: [4],
    holdSeconds: 90,
    restart: { restarted: false, restartSeconds: 0, preserved: false },
    initiative: 'dial',
    connectRetrySeconds: 1,
    idleHoldSeconds: 1,
  });
  const hex = (bytes: Uint8Array) => Buffer.from(bytes).toString('hex');
  return `
    const keepalive = Buffer.from('${hex(writeMessage({ type: 'keepalive' }))}', 'hex');
    const socket = require('node:net').connect({ host: '${us.four}', port: 179, localAddress: '${them.four}' });
    socket.on('error', (error) => { console.log(error.message); process.exit(); });
    socket.write(Buffer.from('${hex(writeMessage({ type: 'open', open }))}', 'hex'));
    socket.once('data', () => { socket.pause(); setInterval(() => socket.write(keepalive), 500); });`;
}

test('a peer that does not read any more loses its session by the send hold timer', async () => {
  const small = (name: string) => ['-c', `echo 4096 4096 4096 > /proc/sys/net/ipv4/${name}`];
  await link.exec('us', 'sh', small('tcp_wmem'));
  await link.exec('them', 'sh', small('tcp_rmem'));
  const originate = Array.from({ length: 40_000 }, (_, i) => `10.${65 + (i >> 16)}.${(i >> 8) & 255}.${i & 255}/32`);
  speaker.start(file({ passive: true, sendHoldSeconds: 3 }, { originate }));
  await until(async () => (await speaker.peers()).length === 1, { within: 20_000, what: 'our speaker' });
  link.spawn('them', 'deaf', process.execPath, ['-e', deafPeer()]);
  await speaker.established('them');
  const ended = await until(
    async () => {
      const peer = await speaker.peer('them');
      return peer?.lastError ? peer : undefined;
    },
    { within: 60_000, what: 'the end of the session' },
  );
  expect(ended).toMatchObject({ flaps: 1, lastError: { by: 'us', reason: 'sendHold/0 (8/0)' } });
});

test('a link that is cut ends the session by the hold timer, and its routes; it comes back with the link', async () => {
  const bird = new BirdRouter(link);
  await bird.start(`router id ${them.four};
protocol device { }
protocol static { ipv4; route 192.0.2.0/24 blackhole; }
protocol bgp ours {
  local ${them.four} as 65010;
  neighbor ${us.four} as 64512;
  connect retry time 1;
  connect delay time 1;
  error wait time 1, 2;
  graceful restart on;
  ipv4 { import all; export all; next hop self; };
}
`);
  speaker.start(file({ holdSeconds: 3 }));
  await speaker.established('them');
  await speaker.learnt('192.0.2.0/24');
  await link.exec('us', 'ip', ['link', 'set', 'eth0', 'down']);
  const ended = await until(
    async () => {
      const peer = await speaker.peer('them');
      return peer?.state === 'Established' ? undefined : peer;
    },
    { within: 30_000, what: 'the end of the session' },
  );
  expect(ended).toMatchObject({ lastError: { by: 'us', reason: 'hold timer expired' } });
  expect(ended.families['ipv4']).toMatchObject({ accepted: 0 });
  await link.exec('us', 'ip', ['link', 'set', 'eth0', 'up']);
  await speaker.established('them');
  await speaker.learnt('192.0.2.0/24');
});
