import { afterEach, beforeEach, expect, test } from 'vitest';
import { addresses, Link } from '../../support/daemons/network.ts';
import { BirdRouter } from '../../support/daemons/router.ts';
import { Standalone } from '../../support/daemons/standalone.ts';
import { until } from '../../support/wait.ts';

/* A table that is loaded while another process takes all the time that it can get: no session may miss its keepalives. */

const { us, them } = addresses;
const routes = 200_000;
const sink = { address: '10.99.0.12', localAddress: '10.99.0.22' };

let link: Link;
let speaker: Standalone;
let bird: BirdRouter;

beforeEach(async () => {
  link = new Link();
  await link.exec('them', 'ip', ['addr', 'add', `${sink.address}/24`, 'dev', 'eth0']);
  await link.exec('us', 'ip', ['addr', 'add', `${sink.localAddress}/24`, 'dev', 'eth0']);
  speaker = new Standalone(link);
  bird = new BirdRouter(link);
});

afterEach(() => link.close());

/** Prefixes of 22 to 24 bits out of 20.0.0.0/6, a community for every five of them. */
function statics(): string {
  return Array.from({ length: routes }, (_, i) => {
    const address = `${20 + (i >>> 18)}.${(i >>> 10) & 255}.${(i >>> 2) & 255}.${(i & 3) * 64}`;
    return `route ${address}/26 blackhole { bgp_community.add((65001, ${Math.floor(i / 5) % 40_000})); };`;
  }).join('\n');
}

function session(name: string, local: string, remote: string, channel: string): string {
  return `protocol bgp ${name} {
  local ${local} as 64512;
  neighbor ${remote} as 64512;
  strict bind on;
  passive on;
  hold time 3;
  ipv4 { ${channel} };
}`;
}

test('200,000 routes under a hold time of 3 s beside a busy process: no session is lost', async () => {
  await bird.start(`router id ${them.four};
protocol device { }
protocol static { ipv4; ${statics()} }
${session('feeder', them.four, us.four, 'import none; export where source = RTS_STATIC;')}
${session('sink', sink.address, sink.localAddress, 'import none; export none;')}
`);
  link.spawn('us', 'busy', process.execPath, ['-e', 'for (;;);']);
  const common = { asn: 64512, holdSeconds: 3, routeReflectorClient: true, nextHopMode: 'keep' };
  speaker.start({
    asn: 64512,
    routerId: us.four,
    addresses: [`${us.four}/24`],
    neighbors: [
      { name: 'feeder', address: them.four, localAddress: us.four, ...common },
      { name: 'sink', ...sink, ...common },
    ],
  });
  await speaker.established('sink');
  await until(async () => (await speaker.peer('sink'))?.families['ipv4']?.advertised === routes, {
    within: 120_000,
    what: 'every route reflected',
  });
  // BIRD finds itself as the originator of what the client hears, and counts it as withdrawn.
  await until(async () => /Import withdraws:\s+200000/.test(await bird.ask('show', 'protocols', 'all', 'sink')), {
    within: 60_000,
    what: 'every route at the client',
  });
  for (const name of ['feeder', 'sink']) {
    const peer = await speaker.peer(name);
    expect(peer, name).toMatchObject({ state: 'Established', flaps: 0, negotiated: { holdSeconds: 3 } });
  }
  expect((await speaker.peer('feeder'))?.families['ipv4']).toMatchObject({ accepted: routes, received: routes });
}, 200_000);
