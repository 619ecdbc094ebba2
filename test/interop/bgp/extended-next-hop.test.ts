import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { GoBgp } from '../../support/daemons/gobgp.ts';
import { addresses, Link } from '../../support/daemons/network.ts';
import { FeedReader } from '../../support/daemons/node.ts';
import { BirdRouter, FrrRouter } from '../../support/daemons/router.ts';
import { Standalone } from '../../support/daemons/standalone.ts';
import { until } from '../../support/wait.ts';

/* IPv4 prefixes in sessions over IPv6 (RFC 8950): over global addresses, and over a link without any others. */

const { us, them } = addresses;
const theirs = '192.0.2.0/24';
const ours = '10.65.1.0/26';

let link: Link;
let speaker: Standalone;
let feed: FeedReader | undefined;

beforeEach(() => {
  link = new Link();
  speaker = new Standalone(link);
});

afterEach(async () => {
  feed?.close();
  await link.close();
});

interface Ends {
  readonly us: string;
  readonly them: string;
}

const overGlobal: Ends = { us: us.six, them: them.six };

/** Both hosts lose what addresses they have on the link, but those that every link has. */
async function unnumbered(): Promise<Ends> {
  for (const host of ['us', 'them'] as const) {
    await link.exec(host, 'ip', ['-4', 'addr', 'flush', 'dev', 'eth0']);
    await link.exec(host, 'ip', ['-6', 'addr', 'flush', 'dev', 'eth0', 'scope', 'global']);
  }
  return { us: await link.linkLocal('us'), them: await link.linkLocal('them') };
}

function start(ends: Ends, neighbor: object = {}): FeedReader {
  const linked = ends.them.startsWith('fe80');
  const routes = join(link.directory, 'routes.sock');
  speaker.start({
    asn: 64512,
    routerId: us.four,
    addresses: linked ? [] : [`${us.six}/64`],
    originate: [ours, 'fd65:1::/122'],
    routes,
    neighbors: [
      {
        name: 'them',
        address: linked ? `${ends.them}%eth0` : ends.them,
        localAddress: ends.us,
        asn: 65010,
        families: ['ipv4', 'ipv6'],
        ...neighbor,
      },
    ],
  });
  feed = new FeedReader(routes);
  return feed;
}

function birdWith(ends: Ends, extended: 'on' | 'off' = 'on'): string {
  const zone = ends.us.startsWith('fe80') ? `%'eth0'` : '';
  return `router id ${them.four};
protocol device { }
protocol static { ipv4; route ${theirs} blackhole; }
protocol static { ipv6; route 2001:db8:7::/48 blackhole; }
protocol bgp ours {
  local ${ends.them} as 65010;
  neighbor ${ends.us}${zone} as 64512;
  connect retry time 1;
  connect delay time 1;
  error wait time 1, 2;
  ipv4 { import all; export where source = RTS_STATIC; next hop self; extended next hop ${extended}; };
  ipv6 { import all; export where source = RTS_STATIC; next hop self; };
}
`;
}

function frrWith(ends: Ends): string {
  const linked = ends.us.startsWith('fe80');
  return `router bgp 65010
 bgp router-id ${them.four}
 no bgp ebgp-requires-policy
 no bgp network import-check
 neighbor ${ends.us} remote-as 64512
 neighbor ${ends.us} timers connect 1
 neighbor ${ends.us} capability extended-nexthop
${linked ? ` neighbor ${ends.us} interface eth0` : ''}
 address-family ipv4 unicast
  network ${theirs}
  neighbor ${ends.us} activate
 exit-address-family
 address-family ipv6 unicast
  network 2001:db8:7::/48
  neighbor ${ends.us} activate
 exit-address-family
`;
}

/** What felix is told of a prefix. */
async function hopsOf(reader: FeedReader, prefix: string): Promise<readonly string[]> {
  await reader.has(prefix);
  return reader.routes.get(prefix)?.nextHops ?? [];
}

describe.each([
  { over: 'global addresses', ends: () => Promise.resolve(overGlobal), hop: (at: Ends) => at.them },
  { over: 'an unnumbered link', ends: unnumbered, hop: (at: Ends) => `${at.them}%eth0` },
])('over $over', ({ ends, hop }) => {
  test('with BIRD', async () => {
    const at = await ends();
    const bird = new BirdRouter(link);
    await bird.start(birdWith(at));
    const reader = start(at);
    const peer = await speaker.established('them');
    expect(peer.negotiated).toMatchObject({ extendedNextHop: true, families: [4, 6] });
    for (const prefix of [theirs, '2001:db8:7::/48']) expect(await hopsOf(reader, prefix)).toEqual([hop(at)]);
    for (const prefix of [ours, 'fd65:1::/122'])
      await until(async () => (await bird.ask('show', 'route', 'all', prefix)).includes(`via ${at.us} on eth0`), {
        within: 20_000,
        what: `${prefix} in BIRD through us`,
      });
  });

  test('with FRR', async () => {
    const at = await ends();
    const frr = new FrrRouter(link);
    await frr.start(frrWith(at), 179, { zebra: true });
    const reader = start(at);
    const peer = await speaker.established('them');
    expect(peer.negotiated).toMatchObject({ extendedNextHop: true, families: [4, 6] });
    for (const prefix of [theirs, '2001:db8:7::/48']) expect(await hopsOf(reader, prefix)).toEqual([hop(at)]);
    for (const family of ['ipv4', 'ipv6']) {
      const prefix = family === 'ipv4' ? ours : 'fd65:1::/122';
      await until(
        async () => {
          const shown = await link.exec('them', 'ip', [family === 'ipv4' ? '-4' : '-6', 'route', 'show', prefix]);
          return shown.includes('proto bgp') && shown.includes(at.us);
        },
        { within: 30_000, what: `${prefix} in the kernel of FRR's host, through us` },
      );
    }
  });
});

describe('with GoBGP', () => {
  test('over global addresses, and without extended messages', async () => {
    const gobgp = await startGoBgp({ 'neighbor-address': us.six, 'peer-as': 64512 });
    const reader = start(overGlobal);
    const peer = await speaker.established('them');
    expect(peer.negotiated).toMatchObject({ extendedNextHop: true, extendedMessages: false, families: [4, 6] });
    for (const prefix of [theirs, '2001:db8:7::/48']) expect(await hopsOf(reader, prefix)).toEqual([them.six]);
    for (const prefix of [ours, 'fd65:1::/122']) expect(await gobgp.learnt(prefix)).toContain(us.six);
  });

  test('over an unnumbered link', async () => {
    const at = await unnumbered();
    // It finds its neighbour among those of the kernel.
    await link.exec('them', 'ping', ['-c', '1', '-W', '5', `${at.us}%eth0`]);
    const gobgp = await startGoBgp({ 'neighbor-interface': 'eth0' });
    const reader = start(at);
    const peer = await speaker.established('them');
    expect(peer.negotiated).toMatchObject({ extendedNextHop: true, families: [4, 6] });
    for (const prefix of [theirs, '2001:db8:7::/48']) expect(await hopsOf(reader, prefix)).toEqual([`${at.them}%eth0`]);
    for (const prefix of [ours, 'fd65:1::/122']) expect(await gobgp.learnt(prefix)).toContain(at.us);
  });

  async function startGoBgp(neighbor: object): Promise<GoBgp> {
    const gobgp = new GoBgp(link);
    const families = ['ipv4-unicast', 'ipv6-unicast'];
    await gobgp.startWith({
      global: { config: { as: 65010, 'router-id': them.four } },
      neighbors: [
        {
          config: neighbor,
          timers: { config: { 'connect-retry': 1, 'idle-hold-time-after-reset': 1 } },
          'afi-safis': families.map((name) => ({ config: { 'afi-safi-name': name } })),
        },
      ],
    });
    for (const prefix of [theirs, '2001:db8:7::/48']) await gobgp.announce(prefix);
    return gobgp;
  }
});

test('BIRD without them: IPv4 prefixes keep IPv4 next hops', async () => {
  const bird = new BirdRouter(link);
  await bird.start(birdWith(overGlobal, 'off').replace('extended next hop off;', `next hop address ${them.four};`));
  const reader = start(overGlobal, {});
  const peer = await speaker.established('them');
  expect(peer.negotiated).toMatchObject({ extendedNextHop: false });
  expect(await hopsOf(reader, theirs)).toEqual([them.four]);
  await until(async () => (await bird.ask('show', 'route', 'all', ours)).includes(`BGP.next_hop: ${us.four}`), {
    within: 20_000,
    what: 'our route in BIRD',
  });
});

test('an option keeps them out of a session where both could', async () => {
  const bird = new BirdRouter(link);
  await bird.start(birdWith(overGlobal));
  start(overGlobal, { extendedNextHop: false });
  expect((await speaker.established('them')).negotiated).toMatchObject({ extendedNextHop: false });
});
