import { afterEach, beforeEach, expect, test } from 'vitest';
import { GoBgp } from '../../support/daemons/gobgp.ts';
import { addresses, Link } from '../../support/daemons/network.ts';
import { BirdRouter, FrrRouter } from '../../support/daemons/router.ts';
import { Standalone } from '../../support/daemons/standalone.ts';
import { until } from '../../support/wait.ts';

/*
 * Several paths of a prefix (RFC 7911). BIRD in the host `them` tells the speaker one prefix in two sessions of different
 * AS numbers; what the speaker makes of it, BIRD hears in a third session, and FRR in a fourth.
 */

const { us, them } = addresses;
const shared = '192.0.2.0/24';
/** BIRD keeps one session with an address, so that each of its sessions has one of ours to itself. */
const feeders = {
  f1: { address: '10.99.0.11', localAddress: '10.99.0.21', asn: 65001 },
  f2: { address: '10.99.0.12', localAddress: '10.99.0.22', asn: 65002 },
} as const;
const sink = { address: '10.99.0.13', localAddress: '10.99.0.23', asn: 65003 } as const;
const frr = { port: 1179, asn: 65020, tells: '10.99.0.14', toUs: '10.99.0.24' } as const;

let link: Link;
let speaker: Standalone;
let bird: BirdRouter;

beforeEach(async () => {
  link = new Link();
  for (const { address } of [feeders.f1, feeders.f2, sink, { address: frr.tells }])
    await link.exec('them', 'ip', ['addr', 'add', `${address}/24`, 'dev', 'eth0']);
  for (const address of [feeders.f1.localAddress, feeders.f2.localAddress, sink.localAddress, frr.toUs])
    await link.exec('us', 'ip', ['addr', 'add', `${address}/24`, 'dev', 'eth0']);
  speaker = new Standalone(link);
  bird = new BirdRouter(link);
});

afterEach(() => link.close());

interface Ends {
  readonly address: string;
  readonly localAddress: string;
  readonly asn: number;
}

function session(name: string, { address, localAddress, asn }: Ends, lines: string): string {
  return `protocol bgp ${name} {
  local ${address} as ${asn};
  neighbor ${localAddress} as 64512;
  strict bind on;
  passive on;
  ${lines}
}`;
}

/** Two sources of the prefix, and a session that hears of both, or tells of both. */
function birdWith(sinkChannel: string): string {
  const feeding = `ipv4 { import none; export where proto = "s1" || proto = "s2"; };`;
  return `router id ${them.four};
protocol device { }
protocol static s1 { ipv4; route ${shared} blackhole; }
protocol static s2 { ipv4 { preference 150; }; route ${shared} unreachable; }
${session('f1', feeders.f1, feeding)}
${session('f2', feeders.f2, feeding)}
${session('sink', sink, `ipv4 { ${sinkChannel} };`)}
`;
}

function start(neighbors: readonly object[]): void {
  speaker.start({ asn: 64512, routerId: us.four, addresses: [`${us.four}/24`], neighbors });
}

const fed = Object.entries(feeders).map(([name, peer]) => ({ name, ...peer }));

/** AS paths of the prefix that BIRD knows from us. */
async function pathsInBird(): Promise<string[]> {
  const text = await bird.ask('show', 'route', 'all', 'protocol', 'sink', shared).catch(unknownPrefix);
  return [...text.matchAll(/BGP\.as_path: (.*)/g)].map(([, path = '']) => path).sort();
}

/** birdc fails when there is no such route, and says so. */
function unknownPrefix(thrown: unknown): string {
  if (thrown instanceof Error && 'stdout' in thrown) return String(thrown.stdout);
  throw thrown;
}

test('BIRD hears of every path, and of the end of each', async () => {
  await bird.start(birdWith('import all; export none; add paths rx;'));
  start([...fed, { name: 'sink', ...sink, addPath: { send: 'all' } }]);
  const both = ['64512 65001', '64512 65002'];
  await until(async () => (await pathsInBird()).join() === both.join(), { within: 60_000, what: 'both paths in BIRD' });
  expect((await speaker.peer('sink'))?.negotiated).toMatchObject({ pathsSent: [4] });
  expect((await speaker.peer('sink'))?.families['ipv4']).toMatchObject({ advertised: 2 });

  await bird.ask('disable', 'f1');
  await until(async () => (await pathsInBird()).join() === both[1], { within: 30_000, what: 'only one path in BIRD' });
  await bird.ask('enable', 'f1');
  await until(async () => (await pathsInBird()).join() === both.join(), { within: 60_000, what: 'both paths again' });
  await bird.ask('disable', 'f1');
  await bird.ask('disable', 'f2');
  await until(async () => (await pathsInBird()).length === 0, { within: 30_000, what: 'no path in BIRD' });
});

test('every path that BIRD tells is taken, shown with its identifier, and gone when BIRD withdraws it', async () => {
  const marked = 'if proto = "s1" then bgp_community.add((65003, 1)); else bgp_community.add((65003, 2));';
  const channel = `import none; export filter { if source != RTS_STATIC then reject; ${marked} accept; }; add paths tx;`;
  await bird.start(birdWith(channel));
  start([{ name: 'sink', ...sink, addPath: { receive: true } }]);
  const paths = async () => (await speaker.learnt(shared)).paths;
  const two = await until(
    async () => {
      const found = await paths();
      return found.length === 2 ? found : undefined;
    },
    { within: 60_000, what: 'two paths' },
  );
  expect(two.map(({ communities }) => communities?.[0]).sort()).toEqual(['65003:1', '65003:2']);
  expect(new Set(two.map(({ pathId }) => pathId)).size).toBe(2);
  expect((await speaker.peer('sink'))?.negotiated).toMatchObject({ pathsReceived: [4] });
  expect((await speaker.peer('sink'))?.families['ipv4']).toMatchObject({ accepted: 2, received: 2 });

  await bird.ask('disable', 's1');
  await until(async () => (await paths()).length === 1, { within: 30_000, what: 'one path' });
  expect((await paths())[0]?.communities).toEqual(['65003:2']);
});

test('FRR hears of every path, and what it tells of all of them is taken', async () => {
  await bird.start(birdWith('import none; export none;'));
  const router = new FrrRouter(link);
  await router.start(
    `router bgp ${frr.asn}
 bgp router-id 10.99.0.20
 no bgp ebgp-requires-policy
 neighbor ${us.four} remote-as 64512
 neighbor ${us.four} passive
 neighbor ${frr.toUs} remote-as 64512
 neighbor ${frr.toUs} passive
 address-family ipv4 unicast
  neighbor ${us.four} activate
  neighbor ${frr.toUs} activate
  neighbor ${frr.toUs} addpath-tx-all-paths
 exit-address-family
`,
    frr.port,
  );
  const hears = { name: 'hears', address: them.four, port: frr.port, localAddress: us.four, asn: frr.asn };
  const tells = { name: 'tells', address: frr.tells, port: frr.port, localAddress: frr.toUs, asn: frr.asn };
  start([
    ...fed,
    { ...hears, addPath: { send: 'best 2' } },
    { ...tells, allowedLocalAs: 1, addPath: { receive: true } },
  ]);
  const inFrr = async () => {
    const { paths = [] } = JSON.parse(await router.show(`show bgp ipv4 unicast ${shared} json`)) as FrrRoute;
    return paths.map(({ aspath }) => aspath.string).filter((path) => /^64512 6500[12]$/.test(path));
  };
  await until(async () => new Set(await inFrr()).size === 2, { within: 60_000, what: 'both paths in FRR' });
  const told = async () =>
    (await speaker.learnt(shared)).paths.filter(({ peer, asPath }) => peer === 'tells' && /6500[12]$/.test(asPath));
  const back = await until(
    async () => {
      const found = await told();
      return new Set(found.map(({ asPath }) => asPath)).size === 2 ? found : undefined;
    },
    { within: 60_000, what: 'both paths back from FRR' },
  );
  expect(back.every(({ pathId }) => pathId !== undefined)).toBe(true);
  expect((await speaker.peer('hears'))?.negotiated).toMatchObject({ pathsSent: [4] });

  await bird.ask('disable', 'f2');
  await until(async () => [...new Set(await inFrr())].join() === '64512 65001', {
    within: 30_000,
    what: 'only one path in FRR',
  });
  await until(async () => (await told()).every(({ asPath }) => asPath.endsWith('65001')), {
    within: 30_000,
    what: 'only one path back',
  });
});

interface FrrRoute {
  readonly paths?: readonly { readonly aspath: { readonly string: string } }[];
}

test('GoBGP hears of every path, and what it tells of all of them is taken', async () => {
  await bird.start(birdWith('import none; export none;'));
  const gobgp = new GoBgp(link);
  const own = '198.51.100.0/24';
  await gobgp.startWith({
    // BIRD has the port; GoBGP dials.
    global: { config: { as: 65010, 'router-id': '10.99.0.30', port: -1 } },
    neighbors: [
      {
        config: { 'neighbor-address': us.four, 'peer-as': 64512 },
        timers: { config: { 'connect-retry': 1 } },
        'afi-safis': [
          {
            config: { 'afi-safi-name': 'ipv4-unicast' },
            'add-paths': { config: { receive: true, 'send-max': 8 } },
          },
        ],
      },
    ],
  });
  const peer = { name: 'gobgp', address: them.four, asn: 65010, passive: true };
  start([...fed, { ...peer, addPath: { send: 'all', receive: true } }]);
  const heard = async () => (await gobgp.ask('neighbor', us.four, 'adj-in')).match(/64512 6500[12]\b/g)?.sort() ?? [];
  const both = ['64512 65001', '64512 65002'];
  await until(async () => (await heard()).join() === both.join(), { within: 60_000, what: 'both paths in GoBGP' });
  const negotiated = (await speaker.peer('gobgp'))?.negotiated;
  expect(negotiated).toMatchObject({ pathsSent: [4], pathsReceived: [4] });
  await bird.ask('disable', 'f1');
  await until(async () => (await heard()).join() === both[1], { within: 30_000, what: 'only one path in GoBGP' });

  for (const [id, community] of [
    ['1', '65010:1'],
    ['2', '65010:2'],
  ] as const)
    await gobgp.ask('global', 'rib', 'add', own, 'identifier', id, 'community', community, '-a', 'ipv4');
  const told = async () => (await speaker.learnt(own)).paths.map(({ communities }) => communities?.[0]).sort();
  await until(async () => (await told()).join() === '65010:1,65010:2', { within: 30_000, what: 'two paths of GoBGP' });
});
