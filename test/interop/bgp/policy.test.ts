import { afterEach, beforeEach, expect, test } from 'vitest';
import type { FilterRule, RulesOf } from '../../../src/bgp/filters.ts';
import { parseCidr } from '../../../src/model/address.ts';
import { Bird } from '../../support/daemons/bird.ts';
import { Frr } from '../../support/daemons/frr.ts';
import { addresses, Link } from '../../support/daemons/network.ts';
import { configOf, peerOf, SpeakerProcess } from '../../support/daemons/speaker.ts';
import { until } from '../../support/wait.ts';

const ours = ['10.65.1.0/26', '10.65.9.9/32'];
const theirs = ['192.0.2.0/24', '198.51.100.0/24'];

let link: Link;
let speaker: SpeakerProcess;

beforeEach(() => {
  link = new Link();
  speaker = new SpeakerProcess(link);
});

afterEach(() => link.close());

function rules(...four: readonly FilterRule[]): RulesOf {
  return { 4: four, 6: [] };
}

function on(cidr: string, rule: Pick<FilterRule, 'action'> & Partial<FilterRule>): FilterRule {
  return {
    operations: [],
    prefix: { cidr: parseCidr(cidr), match: 'equal', negated: false, least: 0, most: 32 },
    ...rule,
  };
}

test('originations carry what they are given, and another form is told without a flap', async () => {
  const bird = new Bird(link);
  await bird.start({ asn: 65010, peerAsn: 64512, routes: [] });
  const [prefix = ''] = ours;
  const own = {
    communities: [65000 * 0x10000 + 7, [65000, 1, 2]],
    extendedCommunities: ['0002fde800000064'],
    med: 10,
  } as const;
  const config = (attributes: object) => ({
    ...configOf(64512, [peerOf(4, 65010)], ours),
    originationAttributes: { [prefix]: attributes },
  });
  speaker.start(config(own));
  const told = await bird.learnt(prefix);
  for (const line of [
    'med: 10',
    'community: (65000,7)',
    'large_community: (65000, 1, 2)',
    'ext_community: (rt, 65000, 100)',
  ])
    expect(told).toContain(`BGP.${line}\n`);
  expect(await bird.learnt('10.65.9.9/32')).not.toContain('BGP.med');
  speaker.apply(config({ ...own, med: 20 }));
  await until(async () => (await bird.route(prefix)).includes('BGP.med: 20'), {
    within: 20_000,
    what: 'the other MED',
  });
  expect((await speaker.peers())[0]).toMatchObject({ state: 'Established', flaps: 0 });
});

test('filters take effect on BIRD and are changed without a flap', async () => {
  const bird = new Bird(link);
  await bird.start({ asn: 65010, peerAsn: 64512, routes: theirs });
  const importRules = rules(on('192.0.2.0/24', { action: 'reject' }));
  const exportRules = rules(
    on('10.65.9.9/32', { action: 'reject' }),
    on('10.65.1.0/26', {
      action: 'accept',
      operations: [
        { do: 'addCommunity', community: 65000 * 0x10000 + 7 },
        { do: 'addCommunity', community: [65000, 1, 2] },
        { do: 'prepend', asns: [65100, 65101] },
      ],
    }),
  );
  speaker.start(configOf(64512, [peerOf(4, 65010, { importRules, exportRules })], ours));
  await speaker.learnt('198.51.100.0/24');
  const told = await bird.learnt('10.65.1.0/26');
  expect(told).toContain('BGP.as_path: 64512 65100 65101\n');
  expect(told).toContain('BGP.community: (65000,7)\n');
  expect(told).toContain('BGP.large_community: (65000, 1, 2)\n');
  expect(await bird.route('10.65.9.9/32')).toBe('');
  await until(async () => (await speaker.peers())[0]?.families['ipv4']?.endOfRib, {
    within: 20_000,
    what: 'the table',
  });
  expect((await speaker.routes()).map(({ prefix }) => prefix)).not.toContain('192.0.2.0/24');
  expect((await speaker.peers())[0]?.rejected).toEqual({ filter: 1 });

  speaker.apply(
    configOf(64512, [peerOf(4, 65010, { importRules: rules(on('198.51.100.0/24', { action: 'reject' })) })], ours),
  );
  await bird.learnt('10.65.9.9/32');
  await until(async () => /BGP.as_path: 64512\n/.test(await bird.route('10.65.1.0/26')), {
    within: 20_000,
    what: 'the plain path in BIRD',
  });
  await speaker.learnt('192.0.2.0/24');
  await speaker.forgotten('198.51.100.0/24');

  speaker.apply(
    configOf(64512, [peerOf(4, 65010, { exportRules: rules(on('10.65.9.9/32', { action: 'reject' })) })], ours),
  );
  await bird.forgotten('10.65.9.9/32');
  await speaker.learnt('198.51.100.0/24');
  expect((await speaker.peers())[0]).toMatchObject({ state: 'Established', flaps: 0 });
});

test('filters take effect on FRR and are changed without a flap', async () => {
  const frr = new Frr(link);
  await frr.start(65010, 64512, theirs);
  const exportRules = rules(
    on('10.65.9.9/32', { action: 'accept', operations: [{ do: 'addCommunity', community: 65000 * 0x10000 + 7 }] }),
    on('10.65.1.0/26', { action: 'reject' }),
  );
  const importRules = rules(on('192.0.2.0/24', { action: 'reject' }));
  speaker.start(configOf(64512, [peerOf(4, 65010, { importRules, exportRules })], ours));
  await speaker.learnt('198.51.100.0/24');
  expect(JSON.stringify(await frr.learnt('10.65.9.9/32'))).toContain('65000:7');
  expect(await frr.route('10.65.1.0/26')).toBeUndefined();
  speaker.apply(configOf(64512, [peerOf(4, 65010)], ours));
  await frr.learnt('10.65.1.0/26');
  await speaker.learnt('192.0.2.0/24');
  expect((await speaker.peers())[0]).toMatchObject({ state: 'Established', flaps: 0 });
});

test('filters look at the device of a route, both ways, and follow it to another one', async () => {
  const inside = (...command: readonly string[]) => link.exec('us', 'ip', command);
  await inside('link', 'add', 'cali1', 'type', 'veth', 'peer', 'name', 'pod1');
  for (const device of ['cali1', 'pod1']) await inside('link', 'set', device, 'up');
  for (const address of ['203.0.113.9/32', '10.65.9.9/32']) await inside('route', 'add', address, 'dev', 'cali1');
  const bird = new Bird(link);
  const exporting = 'if net = 192.0.2.0/24 then bgp_next_hop = 203.0.113.9;';
  await bird.start({ asn: 65010, peerAsn: 64512, routes: theirs, exporting, channel: '' });
  const notPods = rules({ action: 'reject', operations: [], interface: 'cali*' });
  speaker.start(configOf(64512, [peerOf(4, 65010, { importRules: notPods, exportRules: notPods })], ours));
  await speaker.learnt('198.51.100.0/24');
  await bird.learnt('10.65.1.0/26');
  const refused = async () => (await speaker.peers())[0]?.rejected['filter'] === 1;
  await until(refused, { within: 20_000, what: 'the route through the pod, refused' });
  expect((await speaker.routes()).map(({ prefix }) => prefix)).not.toContain('192.0.2.0/24');
  expect(await bird.route('10.65.9.9/32')).toBe('');

  await inside('route', 'replace', '203.0.113.9/32', 'via', addresses.them.four);
  await inside('route', 'del', '10.65.9.9/32');
  await speaker.learnt('192.0.2.0/24');
  await bird.learnt('10.65.9.9/32');

  await inside('route', 'replace', '203.0.113.9/32', 'dev', 'cali1');
  await inside('route', 'add', '10.65.9.9/32', 'dev', 'cali1');
  await speaker.forgotten('192.0.2.0/24');
  await bird.forgotten('10.65.9.9/32');
  expect((await speaker.peers())[0]).toMatchObject({ state: 'Established', flaps: 0 });
});

test('a local AS towards BIRD, and a path with our own AS where that is allowed', async () => {
  const bird = new Bird(link);
  const exporting = 'bgp_path.prepend(64512);';
  await bird.start({ asn: 65010, peerAsn: 65099, routes: theirs, exporting });
  speaker.start(configOf(64512, [peerOf(4, 65010, { localAsn: 65099 })], ours));
  expect(await bird.learnt('10.65.1.0/26')).toContain('BGP.as_path: 65099\n');
  await until(async () => (await speaker.peers())[0]?.rejected['asLoop'] === 2, { within: 20_000, what: 'the loop' });

  speaker.apply(configOf(64512, [peerOf(4, 65010, { localAsn: 65099, allowedLocalAs: 1 })], ours));
  expect((await speaker.learnt('192.0.2.0/24')).paths).toMatchObject([{ asPath: '65010 64512', source: 'ebgp' }]);
  expect((await speaker.peers())[0]).toMatchObject({ state: 'Established', flaps: 0 });
});

test('communities of advertised prefixes reach FRR, and follow a change', async () => {
  const frr = new Frr(link);
  await frr.start(65010, 64512, theirs);
  const config = configOf(64512, [peerOf(4, 65010)], ours);
  const communities = [65000 * 0x10000 + 7, [65000, 1, 2]] as const;
  speaker.start({ ...config, advertisements: [{ cidr: parseCidr('10.65.1.0/24'), communities }] });
  const told = JSON.stringify(await frr.learnt('10.65.1.0/26'));
  expect(told).toContain('65000:7');
  expect(told).toContain('65000:1:2');
  expect(JSON.stringify(await frr.learnt('10.65.9.9/32'))).not.toContain('65000:7');
  speaker.apply(config);
  await until(async () => !JSON.stringify(await frr.route('10.65.1.0/26')).includes('65000:7'), {
    within: 20_000,
    what: 'the route without communities',
  });
});

test('more prefixes than allowed end the session with 6/1, which BIRD sees; it comes back when there are fewer', async () => {
  const bird = new Bird(link);
  await bird.start({ asn: 65010, peerAsn: 64512, routes: theirs });
  const maxPrefixes = { limit: 1, warnPercent: 75, restartSeconds: 1 };
  speaker.start(configOf(64512, [peerOf(4, 65010, { maxPrefixes })], ours));
  await until(async () => /Maximum number of prefixes reached/.test(await bird.ask('show protocols all us4')), {
    within: 30_000,
    what: 'our reason in BIRD',
  });
  const lastError = { by: 'us', reason: 'maxPrefixes: 2 IPv4 prefixes, the limit is 1' };
  expect((await speaker.peers())[0]).toMatchObject({ lastError });
  await bird.reconfigure({ asn: 65010, peerAsn: 64512, routes: theirs.slice(1) });
  await speaker.established();
  await speaker.learnt('198.51.100.0/24');

  speaker.apply(configOf(64512, [peerOf(4, 65010, { maxPrefixes: { ...maxPrefixes, warnOnly: true } })], ours));
  await bird.reconfigure({ asn: 65010, peerAsn: 64512, routes: theirs });
  await speaker.learnt('192.0.2.0/24');
  expect(speaker.output).toContain('peer nears its prefix limit');
  speaker.apply(configOf(64512, [peerOf(4, 65010, { maxPrefixes: { limit: 1, warnPercent: 75 } })], ours));
  await speaker.forgotten('192.0.2.0/24');
});

test('the prefix limit against FRR: the peer is left alone until it is configured anew', async () => {
  const frr = new Frr(link);
  await frr.start(65010, 64512, theirs);
  speaker.start(configOf(64512, [peerOf(4, 65010, { maxPrefixes: { limit: 1, warnPercent: 100 } })], ours));
  await until(async () => (await frr.show('show bgp neighbors')).includes('Cease/Maximum Number of Prefixes Reached'), {
    within: 30_000,
    what: 'our reason in FRR',
  });
  expect((await speaker.peers())[0]).toMatchObject({ state: 'Idle' });
  speaker.apply(configOf(64512, [peerOf(4, 65010, { maxPrefixes: { limit: 2, warnPercent: 100 } })], ours));
  await speaker.learnt('192.0.2.0/24');
});
