import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import type { Community } from '../../../src/bgp/filters.ts';
import { parseCidr } from '../../../src/model/address.ts';
import { Bird } from '../../support/daemons/bird.ts';
import { Frr } from '../../support/daemons/frr.ts';
import { GoBgp } from '../../support/daemons/gobgp.ts';
import { Link } from '../../support/daemons/network.ts';
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

describe('enhanced route refresh', () => {
  test('with BIRD in both directions: nothing is lost, nothing stays stale', async () => {
    const bird = new Bird(link);
    await bird.start({ asn: 65010, peerAsn: 64512, routes: theirs });
    speaker.start(configOf(64512, [peerOf(4, 65010)], ours));
    await speaker.learnt('192.0.2.0/24');
    await bird.learnt('10.65.1.0/26');
    expect((await speaker.peers())[0]?.negotiated?.enhancedRefresh).toBe(true);
    const updates = async () => Number(/Import updates:\s+(\d+)/.exec(await bird.ask('show protocols all us4'))?.[1]);
    const before = await updates();
    await bird.ask('reload in us4');
    await until(async () => (await updates()) >= before + 2, { within: 20_000, what: 'routes announced again' });
    await bird.learnt('10.65.9.9/32');

    speaker.apply(configOf(64512, [peerOf(4, 65010, { acceptDefault: true })], ours));
    await until(() => speaker.output.includes('end of the repeated routes'), { within: 20_000, what: 'the end mark' });
    const [peer] = await speaker.peers();
    expect(peer).toMatchObject({ flaps: 0, families: { ipv4: { accepted: 2, stale: 0 } } });
  });

  test('FRR asks and is answered', async () => {
    const frr = new Frr(link);
    await frr.start(65010, 64512, theirs);
    speaker.start(configOf(64512, [peerOf(4, 65010)], ours));
    await frr.learnt('10.65.1.0/26');
    const [peer] = await speaker.established();
    expect(peer?.negotiated).toMatchObject({ routeRefresh: true, enhancedRefresh: true });
    await frr.show('clear bgp * soft in');
    speaker.apply(configOf(64512, [peerOf(4, 65010, { acceptDefault: true })], ours));
    await until(() => speaker.output.includes('end of the repeated routes'), { within: 20_000, what: 'the end mark' });
    await frr.learnt('10.65.9.9/32');
    expect((await speaker.peers())[0]).toMatchObject({ flaps: 0, families: { ipv4: { accepted: 2, stale: 0 } } });
  });
});

describe('extended messages', () => {
  const many = Array.from({ length: 500 }, (_, i): Community => [65000, 1, i]);
  const advertisements = [{ cidr: parseCidr('10.65.1.0/24'), communities: many }];
  const exporting = many.map((community) => `bgp_large_community.add((${String(community)}));`).join(' ');

  test('carry attributes of more than 4096 octets both ways', async () => {
    const bird = new Bird(link);
    const protocol = 'enable extended messages on;';
    await bird.start({ asn: 65010, peerAsn: 64512, routes: theirs, protocol, exporting });
    speaker.start({ ...configOf(64512, [peerOf(4, 65010)], ours), advertisements });
    expect(await bird.learnt('10.65.1.0/26')).toContain('(65000, 1, 499)');
    expect((await speaker.learnt('192.0.2.0/24')).paths[0]?.largeCommunities).toHaveLength(500);
    const [peer] = await speaker.peers();
    expect(peer?.negotiated?.extendedMessages).toBe(true);
  });

  test('are not sent to a peer that does not want them: such a route is left out, the others go', async () => {
    const bird = new Bird(link);
    await bird.start({ asn: 65010, peerAsn: 64512, routes: theirs });
    speaker.start({ ...configOf(64512, [peerOf(4, 65010)], ours), advertisements });
    await bird.learnt('10.65.9.9/32');
    await until(() => speaker.output.includes('attributes too long to pass on'), {
      within: 20_000,
      what: 'the log line',
    });
    expect(await bird.route('10.65.1.0/26')).toBe('');
    const [peer] = await speaker.peers();
    expect(peer).toMatchObject({ flaps: 0, negotiated: { extendedMessages: false } });
  });
});

describe('graceful restart after a NOTIFICATION', () => {
  async function start(line: string): Promise<Frr> {
    const frr = new Frr(link);
    await frr.start(65010, 64512, theirs, ` bgp graceful-restart preserve-fw-state\n${line}`);
    speaker.start(configOf(64512, [peerOf(4, 65010)], ours));
    await speaker.learnt('192.0.2.0/24');
    await frr.learnt('10.65.1.0/26');
    const [peer] = await speaker.established();
    expect(peer?.negotiated?.restart).toMatchObject({ notification: true });
    return frr;
  }

  test('FRR clears the session: its routes stay as stale until it is back', async () => {
    const frr = await start(' no bgp hard-administrative-reset');
    await frr.show('clear bgp *');
    await until(() => speaker.output.includes('peer restarts: routes kept as stale'), {
      within: 20_000,
      what: 'stale',
    });
    expect((await speaker.routes()).map(({ prefix }) => prefix)).toEqual(expect.arrayContaining(theirs));
    await speaker.established();
    const fresh = async () => (await speaker.peers())[0]?.families['ipv4'];
    await until(async () => (await fresh())?.stale === 0, { within: 30_000, what: 'fresh routes' });
    expect((await fresh())?.accepted).toBe(2);
    expect((await speaker.peers())[0]?.lastError?.reason).toContain('(6/4)');
  });

  test('a hard reset ends it for good, from FRR and from us', async () => {
    const frr = await start(' bgp hard-administrative-reset');
    await frr.show('clear bgp *');
    await until(async () => (await speaker.peers())[0]?.lastError?.reason.includes('cease/hardReset (6/9): cease/'), {
      within: 20_000,
      what: 'the hard reset',
    });
    expect(speaker.output).not.toContain('peer restarts: routes kept as stale');
    await speaker.established();
    await frr.learnt('10.65.1.0/26');
    await speaker.kill('SIGTERM');
    await frr.forgotten('10.65.1.0/26');
    expect(await frr.show('show bgp neighbors')).toContain('Cease/Administrative Shutdown/Hard Reset');
  });
});

describe('long-lived graceful restart', () => {
  const kept = { restartSeconds: 1, longLivedSeconds: 3600 };

  test('with FRR: it keeps ours, marked, after we were killed, and we keep its', async () => {
    const frr = new Frr(link);
    const lines = [
      'graceful-restart restart-time 1',
      'graceful-restart preserve-fw-state',
      'long-lived-graceful-restart stale-time 3600',
    ];
    await frr.start(65010, 64512, theirs, lines.map((line) => ` bgp ${line}`).join('\n'));
    speaker.start(configOf(64512, [peerOf(4, 65010, kept)], ours));
    await frr.learnt('10.65.1.0/26');
    await speaker.kill();
    const marked = async () => JSON.stringify(await frr.route('10.65.1.0/26')).includes('llgr-stale');
    await until(marked, { within: 60_000, what: 'LLGR_STALE in FRR' });
    speaker.start(configOf(64512, [peerOf(4, 65010, kept)], ours));
    await until(async () => !(await marked()), { within: 60_000, what: 'our fresh route in FRR' });
    await speaker.learnt('192.0.2.0/24');
    await frr.kill();
    await lastResort('192.0.2.0/24');
  });

  test('with GoBGP: it keeps ours, marked, after we were killed, and we keep its', async () => {
    const gobgp = new GoBgp(link);
    const restart = {
      'graceful-restart': { config: { enabled: true, 'restart-time': 1, 'long-lived-enabled': true } },
    };
    const family = { 'long-lived-graceful-restart': { config: { enabled: true, 'restart-time': 3600 } } };
    await gobgp.start(65010, 64512, theirs, { neighbor: restart, family });
    speaker.start(configOf(64512, [peerOf(4, 65010, kept)], ours));
    await gobgp.learnt('10.65.1.0/26');
    await speaker.kill();
    const marked = async () => /65535:6\b|llgr-stale/i.test(await gobgp.route('10.65.1.0/26'));
    await until(marked, { within: 60_000, what: 'LLGR_STALE in GoBGP' });
    speaker.start(configOf(64512, [peerOf(4, 65010, kept)], ours));
    await until(async () => !(await marked()), { within: 60_000, what: 'our fresh route in GoBGP' });
    await speaker.learnt('192.0.2.0/24');
    await gobgp.kill();
    await lastResort('192.0.2.0/24');
  });

  /** Waits until the route is kept beyond the restart time. */
  async function lastResort(prefix: string): Promise<void> {
    await until(
      async () => {
        const [path] = (await speaker.routes()).find((route) => route.prefix === prefix)?.paths ?? [];
        return path?.stale && path.communities?.includes('65535:6');
      },
      { within: 60_000, what: `${prefix} as a route of last resort` },
    );
  }
});

describe('long-lived graceful restart with BIRD', () => {
  const times = (restart: number, stale: number) =>
    `graceful restart time ${restart}; long lived graceful restart on; long lived stale time ${stale};`;

  test('its routes outlive the restart time as last resort, and are fresh when it is back', async () => {
    const bird = new Bird(link);
    const exporting = 'if net = 198.51.100.0/24 then bgp_community.add((65535, 7));';
    const options = { asn: 65010, peerAsn: 64512, routes: theirs, protocol: times(1, 3600), exporting };
    await bird.start(options);
    speaker.start(configOf(64512, [peerOf(4, 65010, { longLivedSeconds: 3600 })], ours));
    for (const prefix of theirs) await speaker.learnt(prefix);
    await bird.learnt('10.65.1.0/26');
    await bird.kill();
    await speaker.forgotten('198.51.100.0/24');
    const [path] = (await speaker.learnt('192.0.2.0/24')).paths;
    expect(path).toMatchObject({ stale: true, communities: ['65535:6'] });
    await bird.start(options, true);
    await until(async () => (await speaker.learnt('192.0.2.0/24')).paths[0]?.stale === false, {
      within: 60_000,
      what: 'fresh routes',
    });
    expect((await speaker.learnt('192.0.2.0/24')).paths[0]).not.toHaveProperty('communities');
  });

  test('BIRD keeps ours, marked, after we were killed', async () => {
    const bird = new Bird(link);
    await bird.start({ asn: 65010, peerAsn: 64512, routes: theirs, protocol: times(1, 3600) });
    const peer = peerOf(4, 65010, { restartSeconds: 1, longLivedSeconds: 3600 });
    speaker.start(configOf(64512, [peer], ours));
    await bird.learnt('10.65.1.0/26');
    await speaker.kill();
    await until(async () => /\(65535,6\)/.test(await bird.route('10.65.1.0/26')), {
      within: 60_000,
      what: 'LLGR_STALE in BIRD',
    });
  });
});
