import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { Frr } from '../../support/daemons/frr.ts';
import { GoBgp } from '../../support/daemons/gobgp.ts';
import { Link } from '../../support/daemons/network.ts';
import { configOf, peerOf, SpeakerProcess } from '../../support/daemons/speaker.ts';
import { until } from '../../support/wait.ts';

/* Graceful restart (RFC 4724) with FRR and GoBGP, in both roles; with BIRD in bird.test.ts. */

const ours = ['10.65.1.0/26', '10.65.9.9/32'];
const theirs = ['192.0.2.0/24', '198.51.100.0/24'];

interface Daemon {
  start(routes: readonly string[], restarted: boolean): Promise<void>;
  kill(): Promise<void>;
  has(prefix: string): Promise<boolean>;
}

const daemons: Readonly<Record<'FRR' | 'GoBGP', (link: Link) => Daemon>> = {
  FRR: (link) => {
    const frr = new Frr(link);
    return {
      start: (routes) => frr.start(65010, 64512, routes, ' bgp graceful-restart preserve-fw-state'),
      kill: () => frr.kill(),
      has: async (prefix) => (await frr.route(prefix)) !== undefined,
    };
  },
  GoBGP: (link) => {
    const gobgp = new GoBgp(link);
    return {
      start: (routes, restarted) => gobgp.start(65010, 64512, routes, { restarted }),
      kill: () => gobgp.kill(),
      has: async (prefix) => (await gobgp.route(prefix)) !== '',
    };
  },
};

let link: Link;
let speaker: SpeakerProcess;

beforeEach(() => {
  link = new Link();
  speaker = new SpeakerProcess(link);
});

afterEach(() => link.close());

describe.each(['FRR', 'GoBGP'] as const)('%s', (name) => {
  // Both sessions, since GoBGP tells nothing after a restart until it has heard the tables of all its neighbours.
  const config = configOf(64512, [peerOf(4, 65010), peerOf(6, 65010)], ours);
  let daemon: Daemon;

  beforeEach(async () => {
    daemon = daemons[name](link);
    await daemon.start(theirs, false);
    speaker.start(config);
    await speaker.established();
    for (const prefix of theirs) await speaker.learnt(prefix);
    for (const prefix of ours) await told(prefix);
  });

  const told = (prefix: string) => until(() => daemon.has(prefix), { within: 30_000, what: `${prefix} in ${name}` });

  test('we are killed and come back: it never loses a route, and drops what we no longer have', async () => {
    let looks = 0;
    let missing = 0;
    let over = false;
    const watching = (async () => {
      while (!over) {
        looks++;
        if (!(await daemon.has('10.65.1.0/26'))) missing++;
      }
    })();
    try {
      await speaker.kill();
      const seen = looks;
      await until(() => looks > seen + 2, { within: 20_000, what: 'looks at the table without us' });
      speaker.start({ ...config, originations: config.originations.slice(0, 1) }, { restarted: true });
      await speaker.established();
      await until(async () => !(await daemon.has('10.65.9.9/32')), { within: 40_000, what: 'the stale route gone' });
    } finally {
      over = true;
      await watching;
    }
    expect(missing).toBe(0);
  });

  test('it is killed and comes back: its routes stay as stale, and go when it no longer tells them', async () => {
    await daemon.kill();
    await until(async () => (await speaker.peers()).every(({ state }) => state !== 'Established'), {
      within: 20_000,
      what: 'the loss of the session',
    });
    const kept = await speaker.routes();
    for (const prefix of theirs) expect(kept.find((route) => route.prefix === prefix)?.paths[0]?.stale).toBe(true);
    await daemon.start(theirs.slice(1), true);
    await speaker.established();
    await speaker.forgotten('192.0.2.0/24');
    await until(async () => (await speaker.learnt('198.51.100.0/24')).paths[0]?.stale === false, {
      within: 40_000,
      what: 'a fresh route',
    });
  });
});

test('a second restart within the window: what was stale already goes at once', async () => {
  const gobgp = new GoBgp(link);
  await gobgp.start(65010, 64512, theirs);
  // One session only: after its restart GoBGP waits for the other, and tells nothing.
  speaker.start(configOf(64512, [peerOf(4, 65010)], ours));
  for (const prefix of theirs) await speaker.learnt(prefix);
  const stale = async () => (await speaker.peers())[0]?.families['ipv4']?.stale;
  await gobgp.kill();
  await until(async () => (await stale()) === 2, { within: 20_000, what: 'stale routes' });
  await gobgp.start(65010, 64512, [], { restarted: true });
  await speaker.established();
  expect(await stale()).toBe(2);
  await gobgp.kill();
  // Its restart time is twice as long.
  for (const prefix of theirs) await speaker.forgotten(prefix);
});
