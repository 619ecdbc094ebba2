import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import type { FilterRule } from '../../../src/bgp/filters.ts';
import { parseCidr } from '../../../src/model/address.ts';
import { Bird } from '../../support/daemons/bird.ts';
import { GoBgp } from '../../support/daemons/gobgp.ts';
import { addresses, Link } from '../../support/daemons/network.ts';
import { FrrRouter } from '../../support/daemons/router.ts';
import { configOf, peerOf, SpeakerProcess } from '../../support/daemons/speaker.ts';
import { Standalone } from '../../support/daemons/standalone.ts';
import { until } from '../../support/wait.ts';

/* What of the table in docs/bgp.md no other file tests: old speakers, limits of theirs, and GoBGP's protections. */

const us = addresses.us.four;
const ours = ['10.65.1.0/26', '10.65.9.9/32'];
const theirs = ['192.0.2.0/24', '198.51.100.0/24'];

let link: Link;
let speaker: SpeakerProcess;

beforeEach(() => {
  link = new Link();
  speaker = new SpeakerProcess(link);
});

afterEach(() => link.close());

function frrWith(peerAsn: number, neighbor: readonly string[], family: readonly string[], before = ''): string {
  const lines = (options: readonly string[]) => options.map((option) => ` neighbor ${us} ${option}`).join('\n');
  return `${before}
router bgp 65010
 bgp router-id ${addresses.them.four}
 no bgp ebgp-requires-policy
 no bgp network import-check
 neighbor ${us} remote-as ${peerAsn}
 neighbor ${us} timers connect 1
${lines(neighbor)}
 address-family ipv4 unicast
${theirs.map((prefix) => `  network ${prefix}`).join('\n')}
${lines(family)}
 exit-address-family
`;
}

describe('a speaker of two-octet AS numbers: long ones come through AS_TRANS and AS4_PATH', () => {
  const far = 4200000009;
  const prepending: FilterRule = { action: 'accept', operations: [{ do: 'prepend', asns: [far] }] };
  const peer = peerOf(4, 65010, { exportRules: { 4: [prepending], 6: [] } });

  test('BIRD, both ways', async () => {
    const bird = new Bird(link);
    const exporting = `bgp_path.prepend(${far});`;
    await bird.start({ asn: 65010, peerAsn: 64512, routes: theirs, protocol: 'enable as4 off;', exporting });
    speaker.start(configOf(64512, [peer], ours));
    expect((await speaker.established())[0]?.negotiated?.fourOctetAs).toBe(false);
    expect(await bird.learnt('10.65.1.0/26')).toContain(`BGP.as_path: 64512 ${far}\n`);
    expect((await speaker.learnt('192.0.2.0/24')).paths).toMatchObject([{ asPath: `65010 ${far}` }]);
  });

  // What we tell it stays AS_TRANS there: FRR reads no AS4_PATH of a speaker that has offered four octets.
  test('FRR, towards us', async () => {
    const frr = new FrrRouter(link);
    const before = `route-map far permit 10\n set as-path prepend ${far}\nexit`;
    await frr.start(frrWith(64512, ['dont-capability-negotiate'], ['route-map far out'], before));
    speaker.start(configOf(64512, [peer], ours));
    const [status] = await speaker.established();
    expect(status?.negotiated).toMatchObject({ fourOctetAs: false, routeRefresh: false });
    expect((await speaker.learnt('192.0.2.0/24')).paths).toMatchObject([{ asPath: `65010 ${far}` }]);
    await until(async () => (await frr.show(`show bgp ipv4 unicast ${ours[0]}`)).includes('64512 23456'), {
      within: 20_000,
      what: 'our route in FRR',
    });
  });
});

test('FRR with a four-octet AS number, and messages of more than 4096 octets both ways', async () => {
  const frr = new FrrRouter(link);
  const many = Array.from({ length: 500 }, (_, i) => [65000, 1, i] as const);
  // It reads lines of up to 4096 characters.
  const before = [0, 100, 200, 300, 400].map((from) => {
    const some = many.slice(from, from + 100).map((community) => community.join(':'));
    return `route-map many permit ${from + 1}\n set large-community ${some.join(' ')} additive\n on-match next\nexit`;
  });
  const configuration = frrWith(64512, [], ['route-map many out'], before.join('\n')).replace('65010', '4200000001');
  await frr.start(configuration);
  const advertisements = [{ cidr: parseCidr('10.65.1.0/24'), communities: many }];
  speaker.start({ ...configOf(64512, [peerOf(4, 4200000001)], ours), advertisements });
  const [status] = await speaker.established();
  expect(status?.negotiated).toMatchObject({ fourOctetAs: true, extendedMessages: true });
  const [path] = (await speaker.learnt('192.0.2.0/24')).paths;
  expect(path).toMatchObject({ asPath: '4200000001', source: 'ebgp' });
  expect(path?.largeCommunities).toHaveLength(500);
  await until(async () => (await frr.show(`show bgp ipv4 unicast ${ours[0]}`)).includes('65000:1:499'), {
    within: 20_000,
    what: 'our route in FRR',
  });
});

describe('we tell more prefixes than the peer takes: its reason is shown', () => {
  const told = async () => {
    const peer = await until(async () => (await speaker.peers()).find(({ lastError }) => lastError), {
      within: 40_000,
      what: 'the end of the session',
    });
    expect(peer.lastError).toMatchObject({ by: 'peer', reason: expect.stringContaining('cease/maxPrefixes (6/1)') });
  };

  test('BIRD', async () => {
    const bird = new Bird(link);
    await bird.start({
      asn: 65010,
      peerAsn: 64512,
      routes: theirs,
      channel: 'next hop self; import limit 1 action disable;',
    });
    speaker.start(configOf(64512, [peerOf(4, 65010)], ours));
    await told();
  });

  test('FRR', async () => {
    const frr = new FrrRouter(link);
    await frr.start(frrWith(64512, [], ['maximum-prefix 1']));
    speaker.start(configOf(64512, [peerOf(4, 65010)], ours));
    // It counts what came before the present UPDATE.
    await until(async () => (await frr.show('show bgp neighbors')).includes('2 accepted prefixes'), {
      within: 20_000,
      what: 'both routes in FRR',
    });
    speaker.apply(configOf(64512, [peerOf(4, 65010)], [...ours, '10.65.10.0/26']));
    await told();
  });

  test('GoBGP', async () => {
    const gobgp = new GoBgp(link);
    await gobgp.start(65010, 64512, theirs, { family: { 'prefix-limit': { config: { 'max-prefixes': 1 } } } });
    speaker.start(configOf(64512, [peerOf(4, 65010)], ours));
    await told();
  });
});

describe('GoBGP', () => {
  test('MD5 and GTSM at once, with a four-octet AS', async () => {
    const gobgp = new GoBgp(link);
    const security = { 'ttl-security': { config: { enabled: true, 'ttl-min': 255 } } };
    const neighbor = { config: { 'auth-password': 'sesame' }, ...security };
    await gobgp.start(4200000001, 64512, theirs, { neighbor });
    const alone = new Standalone(link);
    const session = { localAddress: us, password: 'sesame', ttlSecurity: 1 };
    alone.start({
      asn: 64512,
      routerId: us,
      originate: ours,
      neighbors: [{ name: 'them', address: addresses.them.four, asn: 4200000001, ...session }],
    });
    await alone.established('them');
    expect((await alone.learnt('192.0.2.0/24')).paths).toMatchObject([{ asPath: '4200000001' }]);
    await gobgp.learnt('10.65.1.0/26');
  });

  // It has no command that asks a neighbour for its routes.
  test('tells its routes again when asked', async () => {
    const gobgp = new GoBgp(link);
    await gobgp.start(65010, 64512, theirs);
    speaker.start(configOf(64512, [peerOf(4, 65010)], ours));
    await speaker.learnt('192.0.2.0/24');
    await speaker.learnt('198.51.100.0/24');
    const updates = async () => (await speaker.peers())[0]?.messages.received.update ?? 0;
    const before = await updates();
    speaker.apply(configOf(64512, [peerOf(4, 65010, { acceptDefault: true })], ours));
    await until(async () => (await updates()) > before, { within: 20_000, what: 'its routes told again' });
    expect((await speaker.peers())[0]).toMatchObject({ flaps: 0, families: { ipv4: { accepted: 2, stale: 0 } } });
  });

  test('tells more prefixes than we take, and is left alone', async () => {
    const gobgp = new GoBgp(link);
    await gobgp.start(65010, 64512, theirs);
    speaker.start(configOf(64512, [peerOf(4, 65010, { maxPrefixes: { limit: 1, warnPercent: 100 } })], ours));
    const reason = 'maxPrefixes: 2 IPv4 prefixes, the limit is 1';
    await until(async () => (await speaker.peers())[0]?.lastError?.reason === reason, {
      within: 30_000,
      what: 'the end of the session',
    });
    expect((await speaker.peers())[0]).toMatchObject({ state: 'Idle' });
  });
});
